"""POST /v1/messages and /v1/messages/count_tokens: every field a caller may send, rebuilt as an engine's chat body.

Field names and ranges are Anthropic's (API reference, messages).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.dialects.messages import CountTranslator, MessagesTranslator
from appliance.gateway.schema import chat, formats
from appliance.gateway.schema import tools as chat_tools
from appliance.gateway.schema.fields import DROPPED, TOOLS_MAX, Count, ModelName, Part, Stop, Text
from appliance.gateway.schema.refusals import decoder
from appliance.gateway.schema.turns import AssistantTurn, TextBlock, ToolName, Turn, UserTurn, translate
from appliance.privacy.content import Content

STOP_SEQUENCES_MAX = 16
"""Each is looked for at each token, so there is a limit; Anthropic names none."""


class Tool(Part):
    """A tool that the caller runs."""

    name: ToolName
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: Text | None = None
    strict: bool | None = None

    allowed_callers: msgspec.Raw = DROPPED
    cache_control: msgspec.Raw = DROPPED
    defer_loading: msgspec.Raw = DROPPED
    eager_input_streaming: msgspec.Raw = DROPPED
    input_examples: msgspec.Raw = DROPPED

    def for_chat(self) -> chat_tools.Tool:
        return chat_tools.Tool(
            function=chat_tools.FunctionSchema(
                name=self.name,
                description=self.description,
                parameters=self.input_schema,
                strict=self.strict,
            )
        )


class _AnyChoice(Part):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(_AnyChoice, tag="auto", tag_field="type"):
    pass


class RequiredChoice(_AnyChoice, tag="any", tag_field="type"):
    pass


class NamedChoice(_AnyChoice, tag="tool", tag_field="type", kw_only=True):
    name: ToolName


class NoChoice(_AnyChoice, tag="none", tag_field="type"):
    pass


class Thinking(Part):
    """Whether thoughts are shown. How long a model thinks, if it does, is its own affair."""

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    display: Literal["summarized", "omitted"] | None = None
    budget_tokens: msgspec.Raw = DROPPED

    @property
    def is_shown(self) -> bool:
        return self.type != "disabled" and self.display != "omitted"


class JsonFormat(Part, tag="json_schema", tag_field="type"):
    schema: dict[str, Any]


class OutputConfig(Part):
    format: JsonFormat | None = None
    effort: msgspec.Raw = DROPPED


class CountTokensBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/messages/count_tokens. Fields of the last block are accepted and dropped."""

    model: ModelName
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=10_000)]
    system: Text | list[TextBlock] | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: AutoChoice | RequiredChoice | NamedChoice | NoChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    container: None = None
    context_management: None = None
    mcp_servers: None = None

    cache_control: msgspec.Raw = DROPPED
    speed: msgspec.Raw = DROPPED
    user_profile_id: msgspec.Raw = DROPPED

    def tools_for_chat(self) -> list[chat_tools.Tool] | None:
        return [tool.for_chat() for tool in self.tools] if self.tools else None


class MessagesBody(CountTokensBody, kw_only=True):
    """POST /v1/messages. Fields of the last block are accepted and dropped."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=STOP_SEQUENCES_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None

    diagnostics: msgspec.Raw = DROPPED
    inference_geo: msgspec.Raw = DROPPED
    metadata: msgspec.Raw = DROPPED
    service_tier: msgspec.Raw = DROPPED

    def chat_body(self, messages: list[chat.Message]) -> chat.ChatBody:
        """What asks an engine for the same."""
        tools, choice = self.tools_for_chat(), self._choice()
        parallel = self.tool_choice is None or not self.tool_choice.disable_parallel_tool_use
        output_format = self.output_config and self.output_config.format
        return chat.ChatBody(
            model=self.model,
            messages=messages,
            max_tokens=self.max_tokens,
            stream=self.stream,
            stop=self.stop_sequences or None,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=None if parallel or not tools else False,
            response_format=_response_format(output_format) if output_format else None,
        )

    def _choice(self) -> Literal["none", "auto", "required"] | chat_tools.NamedToolChoice | None:
        """The choice of a tool as a chat says it. Without tools there is nothing to choose."""
        choice, tools = self.tool_choice, self.tools or ()
        if type(choice) is NamedChoice:
            if all(tool.name != choice.name for tool in tools):
                raise BadRequest(
                    "`tool_choice` names a tool that is not in `tools`. Add it there.",
                    param="tool_choice",
                    code="invalid_value",
                )
            return chat_tools.NamedToolChoice(function=chat_tools.NamedFunction(name=choice.name))
        if type(choice) is RequiredChoice:
            if not tools:
                raise BadRequest(
                    "`tool_choice` asks for a tool, but `tools` is empty. Send at least one.",
                    param="tool_choice",
                    code="invalid_value",
                )
            return "required"
        if choice is None or not tools:
            return None
        return "auto" if type(choice) is AutoChoice else "none"


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _read(_decode, body)
    _check_last(request.messages)
    messages, images = translate(request.system, request.messages)
    call = Call(
        endpoint="messages",
        model=request.model,
        stream=bool(request.stream),
        output_tokens_max=request.max_tokens,
        images=images,
    )
    thinking = request.thinking is not None and request.thinking.is_shown
    asked = request.chat_body(messages)
    asked.check()
    return call, Content(_Question(asked, thinking))


def parse_count_tokens(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _read(_decode_count_tokens, body)
    messages, images = translate(request.system, request.messages)
    prompt = _Prompt(
        model=request.model, messages=messages, add_generation_prompt=True, tools=request.tools_for_chat()
    )
    chat_tools.check_tools(prompt.tools, None)
    return Call(endpoint="messages", model=request.model, images=images), Content(prompt)


class _Question:
    """A chat body whose answer is wanted in Anthropic's words."""

    __slots__ = ("_chat", "_show_thinking")

    def __init__(self, body: chat.ChatBody, show_thinking: bool) -> None:  # noqa: FBT001  # one of two fields
        self._chat = body
        self._show_thinking = show_thinking

    def encode(self, cache_salt: str) -> bytes:
        return self._chat.encode(cache_salt)

    def translator(self, request_id: str) -> MessagesTranslator:
        return MessagesTranslator(request_id, show_thinking=self._show_thinking)


class _Prompt(Part, kw_only=True):
    """The body of vLLM's /tokenize for a chat (entrypoints/serve/tokenize/protocol.py, TokenizeChatRequest)."""

    model: str
    messages: list[chat.Message]
    add_generation_prompt: bool
    tools: list[chat_tools.Tool] | None = None

    def encode(self, cache_salt: str) -> bytes:  # noqa: ARG002  # counting leaves nothing in a cache
        return _encoder.encode(self)

    def translator(self, request_id: str) -> CountTranslator:
        return CountTranslator(request_id)


def _check_last(turns: list[Turn]) -> None:
    """Anthropic refuses an answer that has begun for models that can't continue one; here none can."""
    speaker = next((type(turn) for turn in reversed(turns) if type(turn) in (UserTurn, AssistantTurn)), None)
    if speaker is not UserTurn:
        raise BadRequest(
            "The last message has to be the user's: an answer that has begun can't be continued here. Remove it.",
            param="messages",
            code="unsupported_value",
        )


def _response_format(output_format: JsonFormat) -> formats.JsonSchemaFormat:
    return formats.JsonSchemaFormat(
        json_schema=formats.JsonSchema(name="answer", schema=output_format.schema)
    )


class _AnyTool(Struct):
    type: str | None = None


class _AnyTools(Struct):
    tools: list[_AnyTool] = []


_Body = TypeVar("_Body")
_decode = decoder(MessagesBody)
_decode_count_tokens = decoder(CountTokensBody)
_decode_tools = decoder(_AnyTools)
_encoder = msgspec.json.Encoder()


def _read(decode: Callable[[bytes], _Body], body: bytes) -> _Body:
    try:
        return decode(body)
    except BadRequest as refusal:
        if not _has_server_tool(body):
            raise refusal from None
    raise BadRequest(
        "`tools` has a tool that Anthropic's servers would run. Only tools of your own are taken here: remove it.",
        param="tools",
        code="unsupported_value",
    )


def _has_server_tool(body: bytes) -> bool:
    """Whether a body that was refused holds a server's tool, which has fields that no tool of a caller has."""
    try:
        tools = _decode_tools(body).tools
    except BadRequest:
        return False
    return any(tool.type not in (None, "custom") for tool in tools)
