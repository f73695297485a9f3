"""The scripted engine says what vLLM 0.32 says, to the byte: these lines were recorded from a real one."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from benchmarks import upstream

ROLE = (
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
)
TOKEN = (
    b'"choices":[{"index":0,"delta":{"content":"*"},"logprobs":null,"finish_reason":null,"token_ids":null}]'
)
LAST = (
    b'"choices":[{"index":0,"delta":{"content":"*"},"logprobs":null,"finish_reason":"length","stop_reason":null,'
    b'"token_ids":null}]'
)
PRINT = b',"system_fingerprint":"vllm-0.32.0-dd921a2e"'
UNTOLD = b',"prompt_token_ids":null,"prompt_text":null'


def usage(completion: int, tail: bytes = b',"completion_tokens_details":null') -> bytes:
    numbers = (b"2", b"%d" % (2 + completion), b"%d" % completion)
    return b',"usage":{"prompt_tokens":%b,"total_tokens":%b,"completion_tokens":%b%b}' % (*numbers, tail)


TOTAL = b'"choices":[]' + usage(2, b"") + PRINT


async def events_of(folder: Path, stream_options: bytes) -> list[bytes]:
    """What comes for a prompt of two letters and an answer of two tokens, without ids and token texts."""
    socket = folder / "engine"
    serving = asyncio.create_task(upstream.serve(socket, None, "scripted", 0.001))
    while not socket.exists():
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_unix_connection(socket)
    body = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true%b}' % stream_options
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    answer = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    anonymous = re.sub(rb"T\d{6}\.\d{16}", b"*", answer)
    return re.findall(rb'data: (?:{"id".*?"scripted",)?(.*?)}?\n\n', anonymous)


@pytest.mark.parametrize(
    ("stream_options", "expected"),
    [
        (b"", [ROLE + UNTOLD, TOKEN, LAST + PRINT, b"[DONE]"]),
        (b',"stream_options":{"include_usage":true}', [ROLE + UNTOLD, TOKEN, LAST, TOTAL, b"[DONE]"]),
        (
            b',"stream_options":{"include_usage":true,"continuous_usage_stats":true}',
            [ROLE + usage(0) + UNTOLD, TOKEN + usage(1), LAST + usage(2), TOTAL, b"[DONE]"],
        ),
    ],
    ids=["plain", "usage", "running usage"],
)
async def test_stream_has_vllms_shape(tmp_path: Path, stream_options: bytes, expected: list[bytes]) -> None:
    assert await events_of(tmp_path, stream_options) == expected
