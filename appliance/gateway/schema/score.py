"""POST /v1/score: how well pairs of texts fit each other."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from appliance.domain import Call
from appliance.errors import BadRequest
from appliance.gateway.schema.fields import INPUTS_MAX, Body, Text, Truncation
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content

Texts = Text | Annotated[list[Text], Meta(min_length=1, max_length=INPUTS_MAX)]


class ScoreBody(Body, kw_only=True):
    """POST /v1/score. Either `text_1` and `text_2`, or `queries` and `documents`: two names for the same."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None

    truncate_prompt_tokens: Truncation | None = None


_decode = decoder(ScoreBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    _check_pairs(request)
    return Call("score", request.model), Content(request)


def _check_pairs(body: ScoreBody) -> None:
    """Raise BadRequest unless one of the two forms is given whole, and each text has its counterpart."""
    pairs = [(body.text_1, body.text_2), (body.queries, body.documents)]
    given = [pair for pair in pairs if pair != (None, None)]
    if len(given) != 1 or None in given[0]:
        raise BadRequest(
            "Give either `text_1` and `text_2`, or `queries` and `documents`.",
            param="text_1",
            code="invalid_value",
        )
    left, right = (1 if isinstance(texts, str) else len(texts or ()) for texts in given[0])
    if left not in (1, right):
        raise BadRequest(
            "On the left side give one text, or as many as on the right.",
            param="text_1",
            code="invalid_value",
        )
