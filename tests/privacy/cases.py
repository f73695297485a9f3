"""Requests that are refused, endpoint by endpoint: each with a canary where the refusal could quote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.privacy.bodies import Bodies, Body

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
SCORE = "/v1/score"
TOKENIZE = "/tokenize"
DETOKENIZE = "/detokenize"


class Case(NamedTuple):
    """A request, what is wrong with it, and how it is answered."""

    name: str
    status: int
    path: str
    body: Body | bytes


def good(bodies: Bodies) -> dict[str, Body]:
    """One good request for each endpoint."""
    return {
        CHAT: bodies.chat(),
        COMPLETIONS: bodies.completion(),
        RESPONSES: bodies.response(),
        MESSAGES: bodies.message(),
        COUNT: bodies.count(),
        EMBEDDINGS: bodies.embedding(),
        RERANK: bodies.rerank(),
        SCORE: bodies.score(),
        TOKENIZE: bodies.tokenize(),
        DETOKENIZE: bodies.detokenize(),
    }


def of_every_endpoint(bodies: Bodies) -> Iterator[Case]:
    """What can be wrong with a request wherever it goes."""
    for path, body in good(bodies).items():

        def at(place: str, path: str = path) -> str:
            return bodies.at(f"{place} of {path}")

        yield Case(f"unknown field of {path}", 400, path, body | {at("field"): at("field value")})
        yield Case(f"cache salt of {path}", 400, path, body | {"cache_salt": at("cache salt")})
        yield Case(f"unknown model of {path}", 404, path, body | {"model": at("model")})
        yield Case(f"text for a list of {path}", 400, path, body | {_list_of(body): {at("key"): at("value")}})
        yield Case(f"half a body of {path}", 400, path, json.dumps(body).encode()[:-9])
        yield Case(f"query of {path}", 400, f"{path}?{at('query')}={at('query value')}", body)
        yield Case(f"path below {path}", 404, f"{path}/{at('path')}", body)


def _list_of(body: Body) -> str:
    """A field that takes no object."""
    return next(
        name for name in ("messages", "input", "prompt", "documents", "text_1", "tokens") if name in body
    )


def of_chat(bodies: Bodies) -> Iterator[Case]:
    at, chat = bodies.at, bodies.chat

    def asked(name: str, status: int = 400, **fields: Any) -> Case:
        return Case(name, status, CHAT, chat(**fields))

    yield asked("text for a number", temperature=at("temperature"))
    yield asked("text for an object", stream_options=at("stream options"))
    yield asked("unknown field inside", messages=[{"role": "user", "content": "", at("inner field"): 1}])
    yield asked("unknown role", messages=[{"role": at("role"), "content": ""}])
    yield asked("unknown tool choice", tool_choice=at("tool choice"))
    yield asked("unknown format", response_format={"type": at("format")})
    yield asked("unknown kind of tool", tools=[{"type": at("kind of tool"), at("tool field"): {}}])
    yield asked("stop string too long", stop=at("long stop") * 4)
    yield asked("bias for a word", logit_bias={at("bias"): 1})
    yield asked("missing tool", tool_choice={"type": "function", "function": {"name": at("missing tool")}})
    yield asked("unknown variable", chat_template_kwargs={"thinking": at("variable")})
    yield asked("no name of a variable", chat_template_kwargs={at("name of a variable"): True})
    yield asked("two ways to bind", structured_outputs={"choice": [at("choice")], "regex": at("regex")})
    for case, url in {
        "picture elsewhere": f"https://none.invalid/{at('picture elsewhere')}",
        "no picture": f"data:image/png;base64,{at('no picture')}",
        "picture": bodies.picture(),
    }.items():
        part = {"type": "image_url", "image_url": {"url": url}}
        yield asked(case, messages=[{"role": "user", "content": [part]}])


def of_responses(bodies: Bodies) -> Iterator[Case]:
    at = bodies.at

    def asked(name: str, **fields: Any) -> Case:
        return Case(name, 400, RESPONSES, bodies.response(**fields))

    yield asked("unknown item", input=[{"type": at("kind of item"), at("item field"): at("item value")}])
    yield asked("item by its id", input=[{"type": "item_reference", "id": at("referred item")}])
    yield asked("unknown field of an item", input=[{"role": "user", "content": "", at("field of item"): 1}])
    yield asked("hosted tool", tools=[{"type": at("hosted tool"), "server_url": at("server of tools")}])
    yield asked("earlier response", previous_response_id=at("earlier response"))
    yield asked("conversation", conversation=at("conversation"))
    yield asked("stored prompt", prompt={"id": at("stored prompt"), "variables": {at("variable name"): 1}})
    yield asked("included", include=[at("included")])
    yield asked("metadata of numbers", metadata={at("number in metadata"): 7})
    yield asked("long metadata", metadata={"a": at("long metadata") * 17})
    picture = {"type": "input_image", "image_url": bodies.picture()}
    yield asked("picture in a response", input=[{"role": "user", "content": [picture]}])
    file = {"type": "input_file", "filename": at("file name in a response"), "file_data": at("file data")}
    yield asked("file in a response", input=[{"role": "user", "content": [file]}])


def of_messages(bodies: Bodies) -> Iterator[Case]:
    at = bodies.at

    def asked(name: str, **fields: Any) -> Case:
        return Case(name, 400, MESSAGES, bodies.message(**fields))

    def said(block: Any) -> Any:
        return [{"role": "user", "content": [block]}]

    yield asked("temperature of a message", temperature=at("temperature of a message"))
    yield asked("unknown block", messages=said({"type": at("kind of block"), at("block field"): 1}))
    yield asked("unknown turn", messages=[{"role": at("role of a turn"), "content": ""}])
    yield asked("server's tool", tools=[{"type": at("server tool"), "name": at("server tool name")}])
    yield asked("unknown tool", tool_choice={"type": "tool", "name": at("unknown tool")})
    yield asked("begun answer", messages=[{"role": "assistant", "content": at("begun answer")}])
    yield asked("container", container=at("container"))
    source = {"type": "url", "url": f"https://none.invalid/{at('picture of a message')}"}
    yield asked("picture elsewhere of a message", messages=said({"type": "image", "source": source}))
    data = bodies.picture().partition(",")[2]
    source = {"type": "base64", "media_type": "image/png", "data": data}
    yield asked("picture in a message", messages=said({"type": "image", "source": source}))
    source = {"type": "text", "media_type": "text/plain", "data": at("document block")}
    document = {"type": "document", "title": at("document title"), "source": source}
    yield asked("document in a message", messages=said(document))


def of_numbers(bodies: Bodies) -> Iterator[Case]:
    """Of what is not answered with words."""
    at = bodies.at
    yield Case("unknown encoding", 400, EMBEDDINGS, bodies.embedding(encoding_format=at("encoding")))
    yield Case("mixed inputs", 400, EMBEDDINGS, bodies.embedding(input=[at("mixed input"), 7]))
    document = {"text": "a", at("field of a document"): at("document value")}
    yield Case("unknown field of a document", 400, RERANK, bodies.rerank(documents=[document]))
    yield Case("best of a word", 400, RERANK, bodies.rerank(top_n=at("top")))
    yield Case("pairs without partners", 400, SCORE, bodies.score(queries=at("query without documents")))
    yield Case("prompt and messages", 400, TOKENIZE, bodies.tokenize_chat(prompt=at("prompt of two")))
    yield Case("token of a word", 400, DETOKENIZE, bodies.detokenize(tokens=[at("token")]))


def of_the_engine(bodies: Bodies) -> Iterator[Case]:
    """These pass the gateway's schema: vLLM's own words about them quote the request."""
    at = bodies.at
    long = at("long prompt") * 300

    def said(role: str, content: Any, **more: Any) -> Any:
        return [{"role": role, "content": content, **more}]

    yield Case("prompt too long", 400, CHAT, bodies.chat(messages=said("user", long)))
    yield Case("completion too long", 400, COMPLETIONS, bodies.completion(prompt=long))
    yield Case("response too long", 400, RESPONSES, bodies.response(input=long))
    yield Case("message too long", 400, MESSAGES, bodies.message(messages=said("user", long)))
    yield Case("embedded text too long", 400, EMBEDDINGS, bodies.embedding(input=long))
    yield Case("document too long", 400, RERANK, bodies.rerank(documents=[long]))
    yield Case("pair too long", 400, SCORE, bodies.score(text_2=long))
    yield Case("dimensions", 400, EMBEDDINGS, bodies.embedding(dimensions=64))
    refused = said("assistant", at("refused by the template"))
    yield Case("template refuses", 400, CHAT, bodies.chat(messages=refused))
    yield Case("template refuses to count", 400, TOKENIZE, bodies.tokenize_chat(messages=refused))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": at("broken arguments")}}
    broken = [*said("assistant", None, tool_calls=[call]), *said("user", "")]
    yield Case("broken arguments", 200, CHAT, bodies.chat(messages=broken))
    for case, schema in {
        "bad pattern": {"type": "string", "pattern": f"({at('pattern')}[("},
        "bad kind": {"type": at("kind")},
        "bad reference": {"$ref": f"#/{at('reference')}"},
    }.items():
        form: Any = {"name": at("form name"), "description": at("form description"), "schema": schema}
        chat = bodies.chat(response_format={"type": "json_schema", "json_schema": form})
        response = bodies.response(text={"format": {"type": "json_schema", **form}})
        message = bodies.message(output_config={"format": {"type": "json_schema", "schema": schema}})
        yield Case(case, 400, CHAT, chat)
        yield Case(f"{case} of a response", 400, RESPONSES, response)
        yield Case(f"{case} of a message", 400, MESSAGES, message)
    yield Case("token of another model", 400, CHAT, bodies.chat(logit_bias={"9999999": 1}))
    yield Case("at least more than at most", 400, CHAT, bodies.chat(min_tokens=400, max_tokens=2))
