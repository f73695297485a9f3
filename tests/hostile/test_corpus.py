from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.fakes.engine import ScriptedEngine
from tests.fakes.served import BEARER
from tests.hostile.attack import Answer, Seen, attack, cuts, sources
from tests.hostile.bodies import BODIES
from tests.hostile.cases import CANARY, GOOD, Case
from tests.hostile.fields import FIELDS
from tests.hostile.framing import CHUNKS, CODINGS, HIDDEN, LENGTHS
from tests.hostile.gateways import Target
from tests.hostile.lines import LINES

TABLES = {
    "line": LINES,
    "header": FIELDS,
    "length": LENGTHS,
    "coding": CODINGS,
    "chunk": CHUNKS,
    "hidden": HIDDEN,
    "body": BODIES,
}
CORPUS = {f"{table}: {name}": case for table, cases in TABLES.items() for name, case in cases.items()}
CUT_OFTEN_BYTES_MAX = 100_000
SOURCES = sources("127.1.0.0/16")
SECRETS = (CANARY.lower().encode(), BEARER.removeprefix("Bearer ").lower().encode())
KEYS = {"message", "type", "param", "code"}


async def attacked(target: Target, sent: bytes) -> list[Seen]:
    """What comes of it, sent at once and cut at many places."""
    often = len(sent) <= CUT_OFTEN_BYTES_MAX
    ways = [(sent,), *cuts(sent, 12 if often else 1)]
    return await asyncio.gather(*(attack(target.port, *pieces, source=next(SOURCES)) for pieces in ways))


def faults(case: Case, answer: Answer) -> list[str]:
    """What is wrong with an answer, whatever its status."""
    found = [f"echoes {secret!r}" for secret in SECRETS if secret in repr(answer).lower().encode()]
    if answer.status < 400 or case.sent.startswith(b"HEAD"):
        return found
    told: dict[str, Any] = json.loads(answer.body)
    if b" /v1/messages" in case.sent[:20]:
        good = told["type"] == "error" and set(told["error"]) >= {"type", "message"}
    else:
        good = set(told) == {"error"} and set(told["error"]) == KEYS
    return found if good else [*found, "has another shape"]


def expected(case: Case) -> set[tuple[int, ...]]:
    return {(case.status,), (case.status, case.then)} if case.then else {(case.status,)}


@pytest.mark.parametrize("case", CORPUS.values(), ids=CORPUS.keys())
async def test_what_is_malformed_is_refused_however_it_is_cut(
    case: Case, target: Target, engine: ScriptedEngine
) -> None:
    seen = await attacked(target, case.sent)
    follows = Counter(one.statuses[1:] for one in seen)
    after = await attack(target.port, GOOD)

    assert {one.statuses for one in seen} <= expected(case)
    assert [fault for one in seen for answer in one.answers for fault in faults(case, answer)] == []
    assert len(engine.exchanges) == case.reached * len(seen) + follows[200,] + 1
    assert after.statuses == (200,)
    assert set(target.log_events) <= {"started"}
