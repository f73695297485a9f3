"""POST /v1/rerank: documents sorted by how well they answer a query, in the words of Jina and Cohere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from appliance.domain import Call
from appliance.gateway.schema.fields import DROPPED, INPUTS_MAX, Body, Count, Part, Text, Truncation
from appliance.gateway.schema.refusals import decoder
from appliance.privacy.content import Content


class Document(Part):
    text: Text


class RerankBody(Body, kw_only=True):
    """POST /v1/rerank."""

    query: Text
    documents: Annotated[list[Text | Document], Meta(min_length=1, max_length=INPUTS_MAX)]
    top_n: Count | None = None
    max_tokens_per_doc: Count | None = None
    return_documents: msgspec.Raw = DROPPED

    truncate_prompt_tokens: Truncation | None = None

    def write(self) -> bytes:
        """As any body, with documents as the texts that they are: engines know no other form."""
        self.documents = [each.text if isinstance(each, Document) else each for each in self.documents]
        return super().write()


_decode = decoder(RerankBody)


def parse(body: bytes) -> tuple[Call, Content]:
    """Its shape and its words. Raises BadRequest that quotes nothing of it."""
    request = _decode(body)
    return Call("rerank", request.model), Content(request)
