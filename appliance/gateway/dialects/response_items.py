"""The Response object of OpenAI's Responses API: the items of its output, and what it repeats of the request."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from appliance.clock import now_ms
from appliance.errors import RequestError

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Status = Literal["in_progress", "completed", "incomplete", "failed"]

LOGPROB_MIN = -9999.0
"""What vLLM says of a token that is too unlikely for a number, or leaves out."""


class TopLogprob(Struct):
    token: str
    logprob: float = LOGPROB_MIN
    bytes: list[int] | None = None

    def __post_init__(self) -> None:
        if self.bytes is None:
            self.bytes = []


class Logprob(TopLogprob):
    top_logprobs: list[TopLogprob] = []


class OutputText(Struct, tag="output_text", tag_field="type"):
    text: str
    logprobs: list[Logprob]
    annotations: tuple[()] = ()


class ReasoningText(Struct, tag="reasoning_text", tag_field="type"):
    text: str


class Message(Struct, tag="message", tag_field="type"):
    id: str
    status: ItemStatus = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []


class Reasoning(Struct, tag="reasoning", tag_field="type"):
    id: str
    status: ItemStatus = "in_progress"
    summary: tuple[()] = ()
    content: list[ReasoningText] = []


class FunctionCall(Struct, tag="function_call", tag_field="type"):
    id: str
    call_id: str
    name: str
    arguments: str = ""
    status: ItemStatus = "in_progress"


Item = Message | Reasoning | FunctionCall


class InputDetails(Struct, frozen=True):
    """Always nothing: what the cache held would tell one account about another's prompts."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int = 0


class Usage(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    output_tokens_details: OutputDetails
    input_tokens_details: InputDetails = InputDetails()


class ReasoningConfig(Struct):
    effort: str | None = None
    summary: None = None


class TextConfig(Struct):
    format: object


class Echo(Struct, kw_only=True):
    """What an answer repeats of its request, and the fields that are the same in every answer of this box."""

    model: str
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    reasoning: ReasoningConfig
    temperature: float | None
    text: TextConfig
    tool_choice: object
    tools: object
    top_logprobs: int
    top_p: float | None

    background: bool = False
    max_tool_calls: None = None
    previous_response_id: None = None
    prompt_cache_key: None = None
    safety_identifier: None = None
    service_tier: Literal["default"] = "default"
    store: bool = False
    truncation: Literal["disabled"] = "disabled"
    user: None = None


class Failure(Struct):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str

    @classmethod
    def of(cls, error: RequestError) -> Failure:
        """In the protocol's own few codes."""
        if error.status >= 500:
            return cls("server_error", str(error))
        return cls("rate_limit_exceeded" if error.status == 429 else "invalid_prompt", str(error))


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class _Head(Struct, kw_only=True):
    """What changes while a response is made."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None
    status: Status
    error: Failure | None
    incomplete_details: IncompleteDetails | None
    output: list[Item]
    usage: Usage | None


_encode = msgspec.json.Encoder().encode


class ResponseWriter:
    """Writes the Response object of one request. What doesn't change is encoded once."""

    __slots__ = ("_created_at_s", "_fixed", "_id")

    def __init__(self, request_id: str, echo: Echo) -> None:
        self._id = f"resp_{request_id}"
        self._created_at_s = now_ms() // 1000
        self._fixed = _encode(echo)[1:]

    def write(
        self, status: Status, output: list[Item], usage: Usage | None, failure: Failure | None = None
    ) -> bytes:
        head = _Head(
            id=self._id,
            created_at=self._created_at_s,
            completed_at=now_ms() // 1000 if status == "completed" else None,
            status=status,
            error=failure,
            incomplete_details=IncompleteDetails() if status == "incomplete" else None,
            output=output,
            usage=usage,
        )
        return b"%b,%b" % (_encode(head)[:-1], self._fixed)
