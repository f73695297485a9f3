"""POST /v1/responses: every field a caller may send, turned into a chat for the engine. Nothing is stored.

Field names are OpenAI's (API reference, responses). What needs storage, or tools that OpenAI runs, is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.dialects.response_items import Echo, ReasoningConfig, TextConfig
from appliance.gateway.dialects.responses import ResponsesTranslator
from appliance.gateway.schema import chat, formats, response_input
from appliance.gateway.schema import tools as chat_tools
from appliance.gateway.schema.fields import DROPPED, TOOLS_MAX, Count, ModelName, Name, Part, Text
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content

LOGPROBS = "message.output_text.logprobs"


class FunctionTool(Part, omit_defaults=False, tag="function", tag_field="type"):
    """Written back as it came, with null for what was left out."""

    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Part, tag="function", tag_field="type"):
    name: Name


class SchemaFormat(Part, tag="json_schema", tag_field="type"):
    name: Name
    schema: dict[str, Any]
    description: Text | None = None
    strict: bool | None = None


class TextOptions(Part):
    format: formats.TextFormat | formats.JsonObjectFormat | SchemaFormat | None = None
    verbosity: msgspec.Raw = DROPPED


class ReasoningOptions(Part):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: msgspec.Raw = DROPPED
    generate_summary: msgspec.Raw = DROPPED


class StreamOptions(Part):
    include_obfuscation: bool | None = None


Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""All but the first ask for more of what no answer of this box has."""


class ResponsesBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of the second block are refused with a value; those of the last are accepted and dropped."""

    model: ModelName
    input: Text | Annotated[list[msgspec.Raw], Meta(max_length=10_000)]
    instructions: Text | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: Annotated[list[Included], Meta(max_length=16)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    background: bool | None = None
    context_management: None = None
    conversation: None = None
    previous_response_id: None = None
    prompt: None = None
    truncation: Literal["disabled"] | None = None

    max_tool_calls: msgspec.Raw = DROPPED
    prompt_cache_key: msgspec.Raw = DROPPED
    prompt_cache_options: msgspec.Raw = DROPPED
    prompt_cache_retention: msgspec.Raw = DROPPED
    safety_identifier: msgspec.Raw = DROPPED
    service_tier: msgspec.Raw = DROPPED
    store: msgspec.Raw = DROPPED
    user: msgspec.Raw = DROPPED

    def chat(self, messages: list[chat.Message]) -> chat.ChatBody:
        """What the engine is asked."""
        with_logprobs = self.include is not None and LOGPROBS in self.include
        body = chat.ChatBody(
            model=self.model,
            messages=messages,
            stream=self.stream,
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            logprobs=True if with_logprobs else None,
            top_logprobs=self.top_logprobs if with_logprobs else None,
            tools=[_tool(tool) for tool in self.tools] if self.tools else None,
            tool_choice=self._tool_choice(),
            parallel_tool_calls=self.parallel_tool_calls if self.tools else None,
            response_format=_format(self.text),
        )
        if self.reasoning is not None and self.reasoning.effort is not None:
            body.reasoning_effort = self.reasoning.effort
        return body

    def echo(self) -> Echo:
        """What the answer repeats of the request."""
        return Echo(
            model=self.model,
            instructions=self.instructions,
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata or {},
            parallel_tool_calls=self.parallel_tool_calls is not False,
            reasoning=ReasoningConfig(self.reasoning.effort if self.reasoning else None),
            temperature=self.temperature,
            text=TextConfig((self.text.format if self.text else None) or formats.TextFormat()),
            tool_choice=self.tool_choice or "auto",
            tools=self.tools or (),
            top_logprobs=self.top_logprobs or 0,
            top_p=self.top_p,
        )

    def _tool_choice(self) -> Literal["none", "auto", "required"] | chat_tools.NamedToolChoice | None:
        """vLLM refuses any choice where there are no tools; OpenAI takes those that then mean nothing."""
        choice = self.tool_choice
        if isinstance(choice, FunctionChoice):
            return chat_tools.NamedToolChoice(function=chat_tools.NamedFunction(name=choice.name))
        return choice if self.tools or choice == "required" else None


class _Request:
    """A request on its way: the chat for the engine, and what the answer repeats."""

    __slots__ = ("_chat", "_echo")

    def __init__(self, body: chat.ChatBody, echo: Echo) -> None:
        self._chat = body
        self._echo = echo

    def encode(self, cache_salt: str) -> bytes:
        return self._chat.encode(cache_salt)

    def translator(self, request_id: str) -> ResponsesTranslator:
        return ResponsesTranslator(request_id, self._echo)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    try:
        request = _decode(body)
    except BadRequest as error:
        raise _explained(error) from None
    if request.background:
        raise _not_here("background")
    messages, images = response_input.messages_of(request.instructions, request.input)
    call = Call(
        endpoint="responses",
        model=request.model,
        stream=bool(request.stream),
        output_tokens_max=request.max_output_tokens,
        images=images,
    )
    asked = request.chat(messages)
    asked.check()
    return call, Content(_Request(asked, request.echo()))


_decode = decoder(ResponsesBody)

_NOT_HERE = {
    "background": "`background` is not possible here: answers are not stored. Leave it out and wait for the answer.",
    "context_management": "`context_management` is not done here. Leave it out and shorten `input` yourself.",
    "conversation": "`conversation` is not possible here: nothing is stored. Send the whole conversation in `input`.",
    "previous_response_id": "`previous_response_id` is not possible here: answers are not stored. "
    "Send the whole conversation in `input`.",
    "prompt": "`prompt` is not possible here: templates are not stored. Send `instructions` and `input`.",
    "truncation": '`truncation` has to be "disabled" or left out: nothing is cut from a conversation here. '
    "Shorten `input` yourself.",
}
_TOOLS = "Only tools of the type `function` are served: the model calls them and your application runs them."


def _not_here(field: str) -> BadRequest:
    return BadRequest(_NOT_HERE[field], param=field, code="unsupported_field")


def _explained(error: BadRequest) -> BadRequest:
    """The refusal, in better words where they are known."""
    param = error.param or ""
    if param in _NOT_HERE:
        return _not_here(param)
    field = param.partition("[")[0].partition(".")[0]
    if field in ("tools", "tool_choice") and param.endswith(".type"):
        return BadRequest(_TOOLS, param=field, code="unsupported_tool")
    return error


def _tool(tool: FunctionTool) -> chat_tools.Tool:
    function = chat_tools.FunctionSchema(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return chat_tools.Tool(function=function)


def _format(text: TextOptions | None) -> formats.JsonObjectFormat | formats.JsonSchemaFormat | None:
    wanted = None if text is None else text.format
    if isinstance(wanted, SchemaFormat):
        schema = formats.JsonSchema(
            name=wanted.name, description=wanted.description, schema=wanted.schema, strict=wanted.strict
        )
        return formats.JsonSchemaFormat(json_schema=schema)
    return wanted if isinstance(wanted, formats.JsonObjectFormat) else None
