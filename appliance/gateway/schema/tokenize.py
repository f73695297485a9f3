"""POST /tokenize and /detokenize: texts to token ids and back."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.chat import Messages, Switches, check_images, messages_for_engine
from appliance.gateway.schema.fields import Body, Text, TokenId
from appliance.gateway.schema.refusals import decoder
from appliance.gateway.schema.tools import Tools, check_tools
from appliance.privacy.content import Content

TOKENS_MAX = 100_000


class Unsalted(Body, kw_only=True):
    """Nothing is kept of these in an engine's cache, and its endpoints know no salt."""

    def encode(self, cache_salt: str) -> bytes:  # noqa: ARG002  # see above
        return self.write()


class TokenizeBody(Unsalted, kw_only=True):
    """POST /tokenize. Either `prompt`, or `messages` as a chat would send them."""

    prompt: Text | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: Switches | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    def write(self) -> bytes:
        if self.messages is not None:
            self.messages = messages_for_engine(self.messages)
        return super().write()


class DetokenizeBody(Unsalted, kw_only=True):
    """POST /detokenize."""

    tokens: Annotated[list[TokenId], Meta(max_length=TOKENS_MAX)]


_decode_tokenize = decoder(TokenizeBody)
_decode_detokenize = decoder(DetokenizeBody)


def parse_tokenize(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode_tokenize(body)
    of_chat = request.messages is not None
    if of_chat == (request.prompt is not None):
        raise BadRequest("Give one of `prompt` and `messages`.", param="prompt", code="invalid_value")
    if not of_chat and (request.tools or request.chat_template_kwargs):
        raise BadRequest(
            "Only `messages` take tools and template variables.", param="prompt", code="invalid_value"
        )
    check_tools(request.tools, None)
    images = check_images(request.messages or [])
    switches = tuple(request.chat_template_kwargs or ())
    return Call("tokenize", request.model, images=images, switches=switches), Content(request)


def parse_detokenize(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode_detokenize(body)
    return Call("tokenize", request.model), Content(request)
