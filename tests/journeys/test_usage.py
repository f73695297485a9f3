"""What a caller is told of its tokens is what the ledger says, on every endpoint, whole and in events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.appliance_under_test import Appliance
from tests.models import MINILM

TWIN = "twin"
MESSAGES: Any = [{"role": "user", "content": "Hello!"}]


class Seen(NamedTuple):
    """One request as its caller saw it."""

    request_id: str
    prompt_tokens: int
    completion_tokens: int


def chat(site: Appliance, **more: Any) -> Seen:
    with site.sdk() as client:
        create: Any = client.chat.completions.with_raw_response.create
        return seen(create(model=TWIN, messages=MESSAGES, max_tokens=7, **more))


def completions(site: Appliance, **more: Any) -> Seen:
    with site.sdk() as client:
        create: Any = client.completions.with_raw_response.create
        return seen(create(model=TWIN, max_tokens=7, **more))


def seen(raw: Any) -> Seen:
    """Of an answer with OpenAI's usage."""
    usage = raw.parse().usage
    return Seen(raw.headers["x-request-id"], usage.prompt_tokens, usage.completion_tokens)


def chat_stream(site: Appliance, **more: Any) -> Seen:
    with site.sdk() as client:
        raw: Any = client.chat.completions.with_raw_response.create(
            model=TWIN,
            messages=MESSAGES,
            max_tokens=7,
            stream=True,
            stream_options={"include_usage": True},
            **more,
        )
        return seen_last(raw)


def completions_stream(site: Appliance, **more: Any) -> Seen:
    with site.sdk() as client:
        raw: Any = client.completions.with_raw_response.create(
            model=TWIN, max_tokens=7, stream=True, stream_options={"include_usage": True}, **more
        )
        return seen_last(raw)


def seen_last(raw: Any) -> Seen:
    """Of a stream that ends with OpenAI's usage."""
    with raw.parse() as stream:
        usage = list(stream)[-1].usage
    return Seen(raw.headers["x-request-id"], usage.prompt_tokens, usage.completion_tokens)


def responses(site: Appliance) -> Seen:
    with site.sdk() as client:
        raw: Any = client.responses.with_raw_response.create(model=TWIN, input="Hello!", max_output_tokens=7)
        usage = raw.parse().usage
        return Seen(raw.headers["x-request-id"], usage.input_tokens, usage.output_tokens)


def responses_stream(site: Appliance) -> Seen:
    with site.sdk() as client:
        raw: Any = client.responses.with_raw_response.create(
            model=TWIN, input="Hello!", max_output_tokens=7, stream=True
        )
        with raw.parse() as stream:
            usage = list(stream)[-1].response.usage
        return Seen(raw.headers["x-request-id"], usage.input_tokens, usage.output_tokens)


def messages(site: Appliance) -> Seen:
    with site.anthropic_sdk() as claude:
        raw: Any = claude.messages.with_raw_response.create(model=TWIN, messages=MESSAGES, max_tokens=7)
        usage = raw.parse().usage
        return Seen(raw.headers["request-id"], usage.input_tokens, usage.output_tokens)


def messages_stream(site: Appliance) -> Seen:
    with (
        site.anthropic_sdk() as claude,
        claude.messages.stream(model=TWIN, messages=MESSAGES, max_tokens=7) as stream,
    ):
        usage = stream.get_final_message().usage
        return Seen(stream.response.headers["request-id"], usage.input_tokens, usage.output_tokens)


def embeddings(site: Appliance) -> Seen:
    with site.sdk() as client:
        raw: Any = client.embeddings.with_raw_response.create(model=MINILM, input=["one", "two three"])
        return Seen(raw.headers["x-request-id"], raw.parse().usage.prompt_tokens, 0)


def post(site: Appliance, path: str, **body: Any) -> Seen:
    with site.http() as client:
        answer = client.post(path, json=body).raise_for_status()
        usage = answer.json().get("usage", {})
        return Seen(
            answer.headers["x-request-id"], usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        )


def rerank(site: Appliance) -> Seen:
    return post(
        site, "/v1/rerank", model=MINILM, query="one", documents=['"usage":{"prompt_tokens":9}', "two"]
    )


def score(site: Appliance) -> Seen:
    return post(site, "/v1/score", model=MINILM, text_1="one", text_2=["two", "three"])


ASKED: dict[str, Callable[[Appliance], Seen]] = {
    "chat": chat,
    "chat, streamed": chat_stream,
    "two chats at once": lambda site: chat(site, n=2),
    "two chats at once, streamed": lambda site: chat_stream(site, n=2),
    "completions": lambda site: completions(site, prompt="one"),
    "completions, streamed": lambda site: completions_stream(site, prompt="one"),
    "two prompts twice": lambda site: completions(site, prompt=["one", "two three"], n=2),
    "two prompts twice, streamed": lambda site: completions_stream(site, prompt=["one", "two three"], n=2),
    "responses": responses,
    "responses, streamed": responses_stream,
    "messages": messages,
    "messages, streamed": messages_stream,
    "embeddings": embeddings,
    "rerank": rerank,
    "score": score,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_the_row_is_what_the_caller_was_told(site: Appliance, ask: Callable[[Appliance], Seen]) -> None:
    told = ask(site)

    row = site.row(told.request_id)
    assert told.prompt_tokens > 0
    assert (row.token_counts, row.http_status) == ("exact", 200)
    assert (row.prompt_tokens, row.completion_tokens) == (told.prompt_tokens, told.completion_tokens)


def count_tokens(site: Appliance) -> Seen:
    return post(site, "/v1/messages/count_tokens", model=TWIN, messages=MESSAGES)


FREE: dict[str, Callable[[Appliance], Seen]] = {
    "tokenize": lambda site: post(site, "/tokenize", model=TWIN, prompt="one"),
    "detokenize": lambda site: post(site, "/detokenize", model=TWIN, tokens=[9, 8, 7]),
    "count_tokens": count_tokens,
}


@pytest.mark.parametrize("ask", FREE.values(), ids=FREE)
def test_counting_tokens_costs_none(site: Appliance, ask: Callable[[Appliance], Seen]) -> None:
    told = ask(site)

    row = site.row(told.request_id)
    assert (row.token_counts, row.http_status) == ("exact", 200)
    assert (row.prompt_tokens, row.completion_tokens) == (0, 0)
