"""A self-hosted LLM appliance: vLLM behind a metered gateway that keeps no prompt and no answer."""

__version__ = "0.2.0"
