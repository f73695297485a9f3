"""Request bodies for the tests of the allow-list: good ones, what becomes of them, and why bad ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.privacy.content import Content

Parse = Callable[[bytes], tuple[Call, Content]]

CANARY = "CANARY5d1fcanary"
SALT = "s" * 43

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
"""A PNG file of one pixel, in base64."""

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "Once"}

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "x": [1, 2.5]},
        "strict": True,
    },
}

SAMPLING: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "n": 4,
    "stop": ["a", "b"],
    "seed": -(2**63),
    "presence_penalty": -2.0,
    "frequency_penalty": 2.0,
    "logit_bias": {"5": 1.5},
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.5,
    "min_tokens": 0,
    "ignore_eos": True,
    "stop_token_ids": [1, 2],
    "bad_words": ["x"],
    "skip_special_tokens": False,
    "include_stop_str_in_output": True,
    "structured_outputs": {"choice": ["yes", "no"]},
    "stream": False,
}

DROPPED: dict[str, Any] = {
    "user": CANARY,
    "metadata": {CANARY: CANARY},
    "service_tier": "auto",
    "store": True,
    "safety_identifier": CANARY,
    "prompt_cache_key": CANARY,
    "prompt_cache_retention": "24h",
}

CHAT_DROPPED: dict[str, Any] = {
    "prediction": {"type": "content", "content": CANARY},
    "verbosity": "low",
}

DANGEROUS: dict[str, Any] = {
    "cache_salt": CANARY,
    "kv_transfer_params": {},
    "ec_transfer_params": {},
    "request_id": CANARY,
    "session_id": CANARY,
    "priority": 1,
    "prompt_logprobs": 1,
    "prompt_embeds": CANARY,
    "return_token_ids": True,
    "return_tokens_as_token_ids": True,
    "return_prompt_text": True,
    "vllm_xargs": {},
    "mm_processor_kwargs": {},
    "media_io_kwargs": {},
    "guided_json": {},
    "guided_regex": CANARY,
    "chat_template": CANARY,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "documents": [CANARY],
    "allowed_token_ids": [1],
    "logits_processors": [],
    "use_beam_search": True,
    "spaces_between_special_tokens": True,
    "lora_request": {},
    "data_parallel_rank": 0,
    CANARY: CANARY,
}
"""vLLM's fields that reach across accounts, into logs or out of the box, or that nobody needs."""


def body(base: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(base | fields).encode()


def sent_on(parsed: tuple[Call, Content]) -> dict[str, Any]:
    """What the engine gets."""
    return json.loads(parsed[1].for_engine(SALT))


def refusal(raw: bytes, parse: Parse) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(raw)
    assert CANARY.lower() not in f"{caught.value} {caught.value.param} {caught.value.reason}".lower()
    return caught.value
