"""ModelSpec -> argv and environment of vLLM: the sealed launch profile, in one pure function.

The environment is built from nothing: no variable of ours reaches an engine, so no proxy, token or debug switch does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.engine.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.catalog import EngineOptions, ModelSpec
    from appliance.settings import Settings

CPU_KV_CACHE_BYTES: Final = 512 * 1024 * 1024
"""KV cache without a GPU when models.yaml names none: vLLM's own choice there claims most of the memory."""

SEALED_FLAGS: Final = (
    "--disable-uvicorn-access-log",
    "--uvicorn-log-level=critical",
    "--disable-fastapi-docs",
    "--fingerprint-mode=none",
    # An empty list would mean "no restriction"; a domain that can't exist closes it.
    "--allowed-media-domains=none.invalid",
    "--prefix-caching-hash-algo=sha256",
    "--mm-processor-cache-gb=0",
    "--max-log-len=0",
    # Pickled weights run code when they are read; safetensors can't.
    "--load-format=safetensors",
    "--no-use-tqdm-on-load",
    "--no-enable-log-requests",
)

SEALED_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Any text but the empty one, "0" too, would switch the fault handler on.
    "PYTHONFAULTHANDLER": "",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_MEDIA_CACHE": "",
    "VLLM_SERVER_DEV_MODE": "0",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "0",
    "VLLM_ENABLE_RESPONSES_API_STORE": "0",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
    "VLLM_TRACE_FUNCTION": "0",
    "VLLM_V1_USE_OUTLINES_CACHE": "0",
    "VLLM_USE_RUST_FRONTEND": "0",
    "VLLM_PLUGINS": "",
    "VLLM_CONFIGURE_LOGGING": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "TORCH_FR_BUFFER_SIZE": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
    "CUDA_ENABLE_COREDUMP_ON_EXCEPTION": "0",
}


@dataclass(frozen=True, slots=True)
class Command:
    """How to start vLLM for one engine."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def build(
    spec: ModelSpec, settings: Settings, engine: str, weights: Path, *, gpu: bool, threads: int
) -> Command:
    """The sealed command of `engine`. `threads` counts the processor cores a CPU engine may use."""
    folder = RunFolder(settings.engine_run(engine))
    argv = (
        str(settings.engine_interpreter),
        "-P",
        str(folder.launcher),
        engine,
        "serve",
        str(weights),
        f"--served-model-name={spec.name}",
        f"--uds={folder.socket}",
        f"--shutdown-timeout={max(1, round(settings.drain_seconds_max))}",
        *SEALED_FLAGS,
        *_abilities(spec),
        *_options(spec.engine),
        *_memory(spec.engine, gpu=gpu),
    )
    environment = dict(SEALED_ENVIRONMENT) | _places(folder, engine)
    if not gpu:
        environment |= _cpu(threads)
    return Command(argv, environment)


def _abilities(spec: ModelSpec) -> list[str]:
    """What the model is used for. A modality that nobody can send costs no memory."""
    flags = [f'--limit-mm-per-prompt={{"image":{spec.images_max},"video":0,"audio":0}}']
    if spec.pools:
        flags.append("--runner=pooling")
    return flags


def _options(options: EngineOptions) -> list[str]:
    flags = [
        f"--max-model-len={options.max_context}",
        f"--dtype={options.dtype}",
        f"--max-num-seqs={options.max_concurrent_sequences}",
        # vLLM counts the running ones too.
        f"--max-num-queued-reqs={options.max_concurrent_sequences + options.max_queued_requests}",
        f"--tensor-parallel-size={options.tensor_parallel}",
    ]
    if options.quantization:
        flags.append(f"--quantization={options.quantization}")
    if options.tool_parser:
        flags += ["--enable-auto-tool-choice", f"--tool-call-parser={options.tool_parser}"]
    if options.reasoning_parser:
        flags.append(f"--reasoning-parser={options.reasoning_parser}")
    return flags


def _memory(options: EngineOptions, *, gpu: bool) -> list[str]:
    flags = ["--enforce-eager"] if options.eager or not gpu else []
    kv_cache_bytes = options.kv_cache_bytes or (None if gpu else CPU_KV_CACHE_BYTES)
    if kv_cache_bytes:
        flags.append(f"--kv-cache-memory-bytes={kv_cache_bytes}")
    if gpu and options.gpu_memory_utilization:
        flags.append(f"--gpu-memory-utilization={options.gpu_memory_utilization}")
    return flags


def _places(folder: RunFolder, engine: str) -> dict[str, str]:
    home = str(folder.home)
    return {
        "HOME": home,
        "TMPDIR": str(folder.temporary),
        "XDG_CACHE_HOME": f"{home}/cache",
        "XDG_CONFIG_HOME": f"{home}/config",
        "HF_HOME": f"{home}/hf",
        "TORCHINDUCTOR_CACHE_DIR": f"{home}/inductor",
        "TRITON_CACHE_DIR": f"{home}/triton",
        "VLLM_CACHE_ROOT": f"{home}/vllm",
        "VLLM_CONFIG_ROOT": f"{home}/vllm-config",
        "VLLM_ASSETS_CACHE": f"{home}/assets",
        "VLLM_XLA_CACHE_PATH": f"{home}/xla",
        "VLLM_RPC_BASE_PATH": str(folder.temporary),
        "VLLM_PROCESS_NAME_PREFIX": f"inferfly engine {engine}",
        "VLLM_LOGGING_CONFIG_PATH": str(folder.logging_config),
        "PYTHONPATH": str(folder.code),
        "INFERFLY_LOG_SOCKET": str(folder.log_socket),
    }


def _cpu(threads: int) -> dict[str, str]:
    return {
        # The worker lives in vLLM's engine core instead of beside it: starts sooner, no token ids in /dev/shm.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # vLLM compiles a piece of log probabilities even when eager: 16 s in which no request moves.
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
    }
