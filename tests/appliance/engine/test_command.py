from pathlib import Path
from typing import Any

import pytest

from appliance.catalog import ModelSpec
from appliance.engine import command
from appliance.engine.command import CPU_KV_CACHE_BYTES, Command
from appliance.settings import Settings


def built(
    *, gpu: bool = False, engine: str = "tiny-2", model: dict[str, Any] | None = None, **options: Any
) -> Command:
    spec = ModelSpec.model_validate(
        {
            "name": "tiny",
            "source": {"path": "/weights"},
            "revision": "1",
            "digest": "sha256:" + "0" * 64,
            "licence": "MIT",
            "engine": {"max_context": 256, "max_concurrent_sequences": 4, "max_queued_requests": 8} | options,
        }
        | (model or {})
    )
    settings = Settings(home=Path("/box"), drain_seconds_max=12)
    return command.build(spec, settings, engine, Path("/weights"), gpu=gpu, threads=2)


def test_it_is_our_launcher_in_the_engines_python_serving_the_weights() -> None:
    assert built().argv[:6] == (
        "/box/engine/current/bin/python",
        "-P",
        "/box/run/engines/tiny-2/code/inferfly_launcher.py",
        "tiny-2",
        "serve",
        "/weights",
    )


@pytest.mark.parametrize(
    "flag",
    [
        "--served-model-name=tiny",
        "--uds=/box/run/engines/tiny-2/sock",
        "--shutdown-timeout=12",
        "--disable-uvicorn-access-log",
        "--uvicorn-log-level=critical",
        "--disable-fastapi-docs",
        "--fingerprint-mode=none",
        "--allowed-media-domains=none.invalid",
        "--prefix-caching-hash-algo=sha256",
        "--mm-processor-cache-gb=0",
        "--max-log-len=0",
        "--load-format=safetensors",
        "--no-enable-log-requests",
        "--max-model-len=256",
        "--max-num-seqs=4",
        "--max-num-queued-reqs=12",
        "--tensor-parallel-size=1",
        "--dtype=auto",
        '--limit-mm-per-prompt={"image":0,"video":0,"audio":0}',
    ],
)
def test_the_sealed_profile_has(flag: str) -> None:
    assert flag in built().argv
    assert flag in built(gpu=True).argv


@pytest.mark.parametrize(
    "flag",
    [
        "--enable-log-outputs",
        "--log-error-stack",
        "--otlp-traces-endpoint",
        "--kv-transfer-config",
        "--kv-events-config",
        "--kv-offloading-size",
        "--ec-transfer-config",
        "--tool-server",
        "--allowed-local-media-path",
        "--trust-remote-code",
        "--trust-request-chat-template",
        "--trust-request-mm-kwargs",
        "--enable-lora",
        "--profiler-config",
        "--enable-scale-out",
        "--enable-prompt-tokens-details",
        "--enable-per-request-metrics",
        "--api-key",
        "--grpc",
        "--host",
        "--port",
        "--disable-log-stats",
    ],
)
def test_the_sealed_profile_never_has(flag: str) -> None:
    everything = built(
        gpu=True,
        quantization="awq",
        tool_parser="hermes",
        reasoning_parser="qwen3",
        eager=True,
        gpu_memory_utilization=0.5,
        kv_cache_bytes=2**30,
    )

    assert [given for given in everything.argv if given.split("=")[0] == flag] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "0"),
        ("VLLM_SERVER_DEV_MODE", "0"),
        ("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "0"),
        ("VLLM_ENABLE_RESPONSES_API_STORE", "0"),
        ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0"),
        ("VLLM_ALLOW_INSECURE_SERIALIZATION", "0"),
        ("VLLM_TRACE_FUNCTION", "0"),
        ("VLLM_V1_USE_OUTLINES_CACHE", "0"),
        ("VLLM_MEDIA_CACHE", ""),
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("VLLM_HOST_IP", "127.0.0.1"),
        ("GLOO_SOCKET_IFNAME", "lo"),
        ("NCCL_SOCKET_IFNAME", "lo"),
        ("TORCH_FR_BUFFER_SIZE", "0"),
        ("TORCH_NCCL_DUMP_ON_TIMEOUT", "0"),
        ("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "0"),
        ("PYTHONFAULTHANDLER", ""),
    ],
)
def test_the_sealed_environment_has(name: str, value: str) -> None:
    assert built().environment[name] == value


def test_nothing_of_our_own_environment_reaches_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = built().environment
    monkeypatch.setenv("HTTPS_PROXY", "http://outside.invalid")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("PATH", "/somewhere")

    assert built().environment == before
    assert [name for name in before if "PROXY" in name.upper() or name == "NCCL_DEBUG"] == []


@pytest.mark.parametrize(
    "name",
    [
        "HOME",
        "TMPDIR",
        "VLLM_RPC_BASE_PATH",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "VLLM_CACHE_ROOT",
        "TRITON_CACHE_DIR",
    ],
)
def test_whatever_vllm_writes_lies_in_the_engines_private_folder(name: str) -> None:
    assert built().environment[name].startswith("/box/run/engines/tiny-2/")


def test_without_a_gpu_nothing_is_compiled_and_memory_is_claimed_by_size() -> None:
    command = built()

    assert "--enforce-eager" in command.argv
    assert f"--kv-cache-memory-bytes={CPU_KV_CACHE_BYTES}" in command.argv
    assert command.environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert command.environment["OMP_NUM_THREADS"] == "2"


def test_with_a_gpu_vllm_compiles_and_takes_the_memory_that_is_free() -> None:
    command = built(gpu=True)

    assert [flag for flag in command.argv if "eager" in flag or "kv-cache" in flag] == []
    assert "OMP_NUM_THREADS" not in command.environment


def test_an_operators_options_become_flags() -> None:
    argv = built(
        gpu=True,
        quantization="awq",
        tensor_parallel=2,
        tool_parser="hermes",
        reasoning_parser="qwen3",
        eager=True,
        kv_cache_bytes=2**30,
        gpu_memory_utilization=0.5,
        dtype="float16",
    ).argv

    assert {
        "--quantization=awq",
        "--tensor-parallel-size=2",
        "--enable-auto-tool-choice",
        "--tool-call-parser=hermes",
        "--reasoning-parser=qwen3",
        "--enforce-eager",
        f"--kv-cache-memory-bytes={2**30}",
        "--gpu-memory-utilization=0.5",
        "--dtype=float16",
    } <= set(argv)


def test_a_model_that_sees_takes_so_many_pictures_and_nothing_else() -> None:
    assert '--limit-mm-per-prompt={"image":4,"video":0,"audio":0}' in built(model={"images_max": 4}).argv


@pytest.mark.parametrize(
    ("endpoints", "pools"),
    [
        (["embeddings"], True),
        (["tokenize", "rerank", "score"], True),
        (["chat"], False),
        (["tokenize"], False),
    ],
    ids=str,
)
def test_a_model_that_turns_texts_into_numbers_runs_as_one(endpoints: list[str], *, pools: bool) -> None:
    assert ("--runner=pooling" in built(model={"endpoints": endpoints}).argv) == pools


def test_the_processes_of_an_engine_carry_its_name() -> None:
    assert built().environment["VLLM_PROCESS_NAME_PREFIX"] == "inferfly engine tiny-2"
