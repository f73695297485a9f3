"""An engine that answers each of its addresses as vLLM does, whatever it is asked, on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any, Self

from tests.fakes.engine import (
    DONE,
    END,
    STREAM_HEAD,
    Exchange,
    ScriptedEngine,
    chunk,
    event,
    last_event,
    whole,
)

_USAGE = {"prompt_tokens": 7, "total_tokens": 8, "completion_tokens": 1}
_HEAD = {"id": "x-1", "model": "m", "created": 1, "usage": _USAGE}
_MESSAGE = {"role": "assistant", "content": "N"}
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _HEAD
    | {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    },
    "/v1/completions": _HEAD
    | {"object": "text_completion", "choices": [{"index": 0, "text": "N", "finish_reason": "stop"}]},
    "/v1/embeddings": _HEAD
    | {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]},
    "/rerank": _HEAD | {"results": [{"index": 0, "document": {"text": "x"}, "relevance_score": 0.5}]},
    "/score": _HEAD | {"object": "list", "data": [{"object": "score", "index": 0, "score": 0.5}]},
    "/tokenize": {"count": 1, "max_model_len": 512, "tokens": [1], "token_strs": None},
    "/detokenize": {"prompt": "x"},
}


async def as_documented(exchange: Exchange) -> None:
    asked = json.loads(exchange.body)
    if asked.get("stream"):
        await exchange.send(STREAM_HEAD, *map(chunk, (event("N", 1), last_event(1), DONE)), END)
    else:
        await exchange.send(whole(json.dumps(ANSWERS[exchange.path], separators=(",", ":")).encode()))


class EngineThread:
    """For tests that don't run on a loop themselves."""

    def __init__(self, path: Path) -> None:
        self.engine = ScriptedEngine(path, as_documented)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self.engine:
            self._ready.set()
            await self._stop.wait()
