"""Tools a model may call: functions with a JSON schema of their arguments, and which of them it has to call."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.errors import BadRequest
from appliance.gateway.schema.fields import TOOLS_MAX, Id, Name, Part, Text
from appliance.gateway.schema.formats import Schema, check_schema


class CalledFunction(Part):
    name: Name
    arguments: Text


class ToolCall(Part, tag="function", tag_field="type"):
    id: Id
    function: CalledFunction


class FunctionSchema(Part):
    name: Name
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Part, tag="function", tag_field="type"):
    function: FunctionSchema


Tools = Annotated[list[Tool], Meta(min_length=1, max_length=TOOLS_MAX)]


class NamedFunction(Part):
    name: Name


class NamedToolChoice(Part, tag="function", tag_field="type"):
    function: NamedFunction


class AllowedTools(Part):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedToolChoice], Meta(min_length=1, max_length=TOOLS_MAX)]


class AllowedToolsChoice(Part, tag="allowed_tools", tag_field="type"):
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice


def check_tools(tools: list[Tool] | None, choice: ToolChoice | None) -> None:
    """Raise BadRequest for a choice of a tool that isn't there, or a schema that is too large."""
    for tool in tools or ():
        check_schema(tool.function.parameters, "tools[].function.parameters")
    if choice is None or choice == "none":
        return
    names = {tool.function.name for tool in tools or ()}
    chosen = {called.function.name for called in _named(choice)}
    if not names or not chosen <= names:
        raise BadRequest(
            "`tool_choice` asks for a tool that is not in `tools`.",
            param="tool_choice",
            code="invalid_value",
        )


def for_engine(
    tools: list[Tool] | None, choice: ToolChoice | None
) -> tuple[list[Tool] | None, Literal["none", "auto", "required"] | NamedToolChoice | None]:
    """Tools and choice as vLLM takes them.

    It knows no `allowed_tools`, so it gets only those. It holds a call that has to come to the schema of its
    arguments only where the tool says `strict`, which OpenAI's API does not ask for.
    """
    if tools is None:
        return None, None
    if isinstance(choice, AllowedToolsChoice):
        allowed = {called.function.name for called in _named(choice)}
        tools = [tool for tool in tools if tool.function.name in allowed]
        choice = choice.allowed_tools.mode
    if choice == "required" or isinstance(choice, NamedToolChoice):
        for tool in tools:
            tool.function.strict = True
    return tools, choice


def _named(choice: ToolChoice) -> list[NamedToolChoice]:
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.tools
    return [choice] if isinstance(choice, NamedToolChoice) else []
