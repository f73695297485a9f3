from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.fakes.served import BEARER
from tests.hostile.documented import EngineThread
from tests.hostile.gateways import Target
from tests.privacy.bodies import Bodies
from tests.privacy.cases import good

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
SCHEMA: Any = schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text()))
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
ASKED = [label for label in OPERATIONS if label.startswith("POST")]
GOOD = good(Bodies(lambda place: place.replace(" ", "_"), "m", "p"))
POOLING = ("/v1/embeddings", "/v1/rerank", "/v1/score")
Case = schemathesis.Case[Any]
CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
WITH_MANY = settings(
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=(
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ),
)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture
def engine_thread(target: Target) -> Iterator[EngineThread]:
    with EngineThread(target.engine_socket) as thread:
        yield thread


def aimed(case: Case) -> Case:
    """At a model that is there and with a key that is right: all else is answered in one way only, wrong keys late."""
    for name in [name for name in case.headers if name.lower() in {"authorization", "x-api-key"}]:
        del case.headers[name]
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "p" if case.path in POOLING else "m"
    return case


@pytest.mark.usefixtures("engine_thread")
@pytest.mark.parametrize("label", ASKED)
def test_a_good_request_is_answered_as_documented(
    label: str, target: Target, session: requests.Session
) -> None:
    operation = OPERATIONS[label]
    case = operation.Case(body=GOOD[operation.path], media_type="application/json")

    answer = case.call(
        base_url=f"http://127.0.0.1:{target.port}", session=session, headers={"Authorization": BEARER}
    )

    assert answer.status_code == 200
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.usefixtures("engine_thread")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("label", ASKED)
def test_what_is_asked_is_answered_as_documented(
    label: str, mode: GenerationMode, target: Target, session: requests.Session
) -> None:
    @WITH_MANY
    @given(OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        answer = aimed(case).call(
            base_url=f"http://127.0.0.1:{target.port}", session=session, headers={"Authorization": BEARER}
        )
        case.validate_response(answer, checks=CHECKS)

    ask()

    assert set(target.log_events) <= {"started"}
