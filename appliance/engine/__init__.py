"""vLLM as a process: launch, watch, stop; never imported."""
