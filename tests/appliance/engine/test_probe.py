import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.catalog import ModelSpec
from appliance.engine.probe import Probe, read_pulse

METRICS = b"""# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 21.0
vllm:prompt_tokens_created{engine="0",model_name="tiny"} 1.7e+09
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1.5e+03
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 6.0
vllm:iteration_tokens_total_sum{engine="0",model_name="tiny"} 27.0
"""


def spec(*endpoints: str) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "source": {"path": "models/tiny"},
            "revision": "1",
            "digest": "sha256:" + "ab" * 32,
            "licence": "Apache-2.0",
            "endpoints": endpoints,
            "engine": {"max_context": 512},
        }
    )


@asynccontextmanager
async def engine(folder: Path, answer: bytes, *, silent: bool = False) -> AsyncIterator[Probe]:
    """A unix socket that gives every request the same answer, or none."""
    closing = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if silent:
            await closing.wait()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "sock")
    probe = Probe(folder / "sock", spec("completions"))
    try:
        yield probe
    finally:
        await probe.close()
        server.close()
        closing.set()
        await asyncio.sleep(0.05)


def answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(body), body)


def test_a_pulse_sums_the_ranks_of_an_engine() -> None:
    assert read_pulse(METRICS).requests == 7


def test_a_pulse_tells_all_that_moves_when_an_engine_works() -> None:
    assert read_pulse(METRICS).fingerprint == (21.0, 1500.0, 6.0, 0.25)


def test_no_metrics_at_all_is_an_idle_pulse() -> None:
    assert read_pulse(b"").requests == 0


async def test_the_metrics_are_asked_over_the_socket(short_folder: Path) -> None:
    async with engine(short_folder, answer(200, METRICS)) as probe:
        assert await probe.pulse(5) == read_pulse(METRICS)


async def test_an_engine_that_completes_a_token_answers(short_folder: Path) -> None:
    async with engine(short_folder, answer(200, b"{}")) as probe:
        assert await probe.answers(5)
        assert await probe.healthy(5)


async def test_a_full_engine_answers(short_folder: Path) -> None:
    """Past --max-num-queued-reqs vLLM refuses with 503: it is busy, not broken."""
    async with engine(short_folder, answer(503)) as probe:
        assert await probe.answers(5)
        assert not await probe.healthy(5)


async def test_an_engine_that_fails_does_not_answer(short_folder: Path) -> None:
    async with engine(short_folder, answer(500)) as probe:
        assert not await probe.answers(5)
        assert await probe.pulse(5) is None


async def test_a_silent_engine_does_not_answer(short_folder: Path) -> None:
    async with engine(short_folder, b"", silent=True) as probe:
        assert not await probe.answers(0.1)
        assert not await probe.healthy(0.1)
        assert await probe.pulse(0.1) is None


async def test_an_engine_that_is_not_there_does_not_answer(short_folder: Path) -> None:
    probe = Probe(short_folder / "sock", spec("completions"))

    assert not await probe.answers(1)
    await probe.close()


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("completions", "/v1/completions"), ("embeddings", "/v1/embeddings"), ("rerank", "/score")],
)
async def test_an_engine_is_asked_for_what_its_model_can_do(
    short_folder: Path, endpoint: str, path: str
) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(200))
        writer.close()

    server = await asyncio.start_unix_server(serve, short_folder / "sock")
    probe = Probe(short_folder / "sock", spec(endpoint))
    answers = await probe.answers(1)
    await probe.close()
    server.close()

    assert answers
    assert asked[0].startswith(f"POST {path} HTTP/1.1".encode())
