"""Turns the end of a vLLM into one line an operator can act on: the cause and its cure. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

CAUSE_CHARACTERS_MAX: Final = 200
RAISED: Final = re.compile(r"^\s*((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b|Value error\b)[:,]? ?(.*)")
"""The last line of a traceback, or the message inside one of pydantic's."""
EMPTY: Final = re.compile(r"Engine core initialization failed|validation errors? for|^KeyboardInterrupt")
"""Says that something was raised further up, not what."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a vLLM ended. `final`: another try with the same files and options ends the same way."""

    text: str
    cure: str
    final: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """A failure by the words vLLM 0.32 raises it with. `{0}`, `{1}` stand for the pattern's groups."""

    pattern: str
    cause: str
    cure: str
    final: bool = True


_OTHER_WEIGHTS: Final = "Choose a model that this release of vLLM serves."
_WEIGHTS: Final = "Run `inferfly setup` to restore them, or set the model's source anew in models.yaml."
_ENVIRONMENT: Final = "Run `./install.sh --local` to build it again."

KNOWN: Final[tuple[_Known, ...]] = (
    _Known(
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \(max_position_embeddings=(\d+)",
        "max_context is {0}, but the model was made for {1} tokens.",
        "Set max_context to {1} or less in models.yaml.",
    ),
    _Known(
        r"max seq len \((\d+)\), \(?([\d.]+ [KMG]iB) KV cache is needed.*?\(([\d.]+ [KMG]iB)\)",
        "The KV cache is too small for max_context {0}: {1} needed, {2} given.",
        "Raise kv_cache_bytes or lower max_context in models.yaml.",
    ),
    _Known(
        r"No available memory for the cache blocks",
        "The weights leave no memory for the KV cache.",
        "Raise gpu_memory_utilization, lower max_context, or choose a smaller or quantised model.",
    ),
    _Known(
        r"Free memory on device.*less than desired GPU memory utilization",
        "Something else holds the GPU's memory.",
        "Stop it, or lower gpu_memory_utilization in models.yaml.",
        final=False,
    ),
    _Known(
        r"OutOfMemoryError|[Oo]ut of memory|can't allocate memory|not enough memory|MemoryError|Cannot allocate memory"
        r"|less than requested memory for kv",
        "The memory ran out while the model was loaded.",
        "Lower kv_cache_bytes, max_context or max_concurrent_sequences in models.yaml, or stop other programs.",
        final=False,
    ),
    _Known(
        r"Model architectures \['([A-Za-z0-9_]{1,60})'",
        "vLLM does not know the architecture {0}.",
        _OTHER_WEIGHTS,
    ),
    _Known(
        r"model type `([A-Za-z0-9_-]{1,60})` but Transformers does not recognize",
        "vLLM does not know the model type {0}.",
        _OTHER_WEIGHTS,
    ),
    _Known(
        r"invalid tool call parser: ([A-Za-z0-9_.-]{1,64})",
        "vLLM has no tool parser named {0}.",
        "Correct or remove tool_parser in models.yaml; vLLM's documentation lists their names.",
    ),
    _Known(
        r"(?:Reasoning parser '|invalid reasoning parser: )([A-Za-z0-9_.-]{1,64})",
        "vLLM has no reasoning parser named {0}.",
        "Correct or remove reasoning_parser in models.yaml; vLLM's documentation lists their names.",
    ),
    _Known(
        r"Cannot find the config file for|Quantization method|[Uu]nknown quantization method|_C::\w*quant\w*\(\)",
        "The weights are not of the quantisation that models.yaml names, or vLLM can't serve that kind here.",
        "Remove quantization in models.yaml: vLLM then takes what the weights declare.",
    ),
    _Known(
        r"SafetensorError|safetensors_rust|index-sized integer|Cannot find any model weights"
        r"|cannot find.*safetensors|does not appear to have a file named|[Cc]an't load the configuration",
        "The model's files are damaged or not whole.",
        _WEIGHTS,
    ),
    _Known(
        r"size of tensor|shape mismatch|size mismatch|[Aa]ttempted to load weight|There is no module or parameter",
        "The weights don't fit the model's config.json.",
        _WEIGHTS,
    ),
    _Known(
        r"[Cc]an't load tokenizer|Couldn't instantiate the backend tokenizer|tokenizer.*(?:not found|missing)",
        "The model's tokenizer is damaged or missing.",
        _WEIGHTS,
    ),
    _Known(
        r"CUDA driver|NVIDIA driver|no CUDA-capable device|libcuda\.so|CUDA error|Failed to infer device type",
        "vLLM can't use the GPU.",
        "Check with `nvidia-smi`; the driver must be as new as the engine's CUDA asks.",
    ),
    _Known(
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        "tensor_parallel asks for {0} GPUs, and there are {1}.",
        "Lower tensor_parallel in models.yaml.",
    ),
    _Known(
        r"Not enough allowed NUMA nodes",
        "Without a GPU this machine can't share one replica among several processors.",
        "Set tensor_parallel to 1 in models.yaml.",
    ),
    _Known(
        r"Address already in use",
        "The engine's socket is in use.",
        "Stop the other vLLM, then start the engine again.",
        final=False,
    ),
    _Known(r"No space left on device", "The disk is full.", "Free some space.", final=False),
    _Known(
        r"ModuleNotFoundError|ImportError|PackageNotFoundError|cannot open shared object file",
        "The engine's environment is not whole.",
        _ENVIRONMENT,
    ),
)


def while_loading(output: Sequence[str], exit_code: int) -> Cause:
    """Out of what vLLM printed. No request has reached it yet, so nothing of a caller's can be in there."""
    raised = [f"{match[1]}: {match[2]}" for line in output if (match := RAISED.match(line))]
    raised = [line for line in raised if not EMPTY.search(line)]
    for line in reversed(raised):
        for known in KNOWN:
            if match := re.search(known.pattern, line):
                return Cause(
                    known.cause.format(*match.groups()), known.cure.format(*match.groups()), known.final
                )
    if raised:
        return Cause(_printable(raised[-1]), "See the model's options in models.yaml.", final=False)
    return _by_exit_code(exit_code, "while it was loading")


def after_ready(exit_code: int, last_error: str) -> Cause:
    """From the exit code and the last sealed error: a constant of vLLM's source, never what it was about."""
    cause = _by_exit_code(exit_code, "while it was serving")
    if exit_code >= 0 and last_error and last_error != "<dynamic>":
        return Cause(_printable(f"{cause.text} Its last error: {last_error}"), cause.cure, final=False)
    return cause


def _by_exit_code(exit_code: int, when: str) -> Cause:
    if exit_code == -signal.SIGKILL:
        cure = "If nobody killed it, the machine ran out of memory: lower kv_cache_bytes in models.yaml."
        return Cause(f"vLLM was killed {when}.", cure, final=False)
    ending = f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
    return Cause(f"vLLM ended {when} ({ending}).", "It is started again by itself.", final=False)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:CAUSE_CHARACTERS_MAX]
