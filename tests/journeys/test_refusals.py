from __future__ import annotations

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.appliance_under_test import Appliance

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello!"}]
STRANGE = "zebra_crossing"


def error_of(refused: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    return refused.status_code, refused.code, refused.type


@pytest.mark.parametrize(
    "key",
    ["ifk_live_0000000000000000000000000000000000000000000000000", "sk-something-else", "x"],
    ids=["shape", "other", "short"],
)
def test_a_wrong_key(box: Appliance, key: str) -> None:
    with box.sdk(key) as client, pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=box.model, messages=HELLO)

    assert error_of(refused.value) == (401, "invalid_api_key", "authentication_error")


def test_a_wrong_key_lists_no_models(box: Appliance) -> None:
    with box.sdk("ifk_live_wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=STRANGE, messages=HELLO)

    assert error_of(refused.value) == (404, "model_not_found", "invalid_request_error")
    assert STRANGE not in str(refused.value)


def test_an_unknown_field_is_not_named(box: Appliance, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=box.model, messages=HELLO, extra_body={STRANGE: STRANGE})

    assert error_of(refused.value) == (400, "unknown_field", "invalid_request_error")
    assert STRANGE not in refused.value.response.text


def test_a_value_of_the_wrong_kind_is_not_quoted(box: Appliance, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=box.model, messages=HELLO, extra_body={"temperature": STRANGE})

    assert error_of(refused.value) == (400, "invalid_value", "invalid_request_error")
    assert refused.value.param == "temperature"
    assert STRANGE not in refused.value.response.text


def test_a_prompt_longer_than_the_context(box: Appliance, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=box.model, prompt="one two three " * 1500, max_tokens=4)

    assert error_of(refused.value) == (400, "context_length_exceeded", "invalid_request_error")
    row = box.row(refused.value.response.headers["x-request-id"])
    assert (row.http_status, row.prompt_tokens, row.completion_tokens) == (400, 0, 0)


def test_what_the_engine_refuses_is_not_quoted(box: Appliance, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=box.model,
            messages=HELLO,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": STRANGE}},
            },
        )

    assert STRANGE not in refused.value.response.text


def test_a_body_that_is_no_json(box: Appliance) -> None:
    headers = {"Authorization": f"Bearer {box.key}", "Content-Type": "application/json"}

    answer = httpx.post(f"{box.base_url}/chat/completions", headers=headers, content=b'{"model": ')

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_an_address_that_is_not_there(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.moderations.create(input="any")

    assert error_of(refused.value) == (404, "not_found", "invalid_request_error")


def test_a_refused_request_has_no_row(box: Appliance, client: openai.OpenAI) -> None:
    before = len(box.rows())

    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=box.model, messages=[])

    client.completions.create(model=box.model, prompt="a", max_tokens=1)
    assert len(box.rows()) <= before + 1
