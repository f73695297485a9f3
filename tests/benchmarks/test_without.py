"""A step that is said to be left out is left out: else its cost would be measured as nothing."""

import subprocess
import sys

import pytest

from benchmarks import harness, product
from benchmarks.without import STEPS

SALTS = """
from appliance.domain import Call, Caller
from appliance.gateway import policy
left = not policy.cache_salt(Caller("a", "k"), Call("chat", "m"))
"""
STRUCTURE = """
from appliance.gateway import inference
left = inference.shape.check(b'{"a":1,"a":2}') is None
"""
RUNNING_USAGE = """
from appliance.gateway.schema import chat
body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
sent = chat.parse(body)[1].for_engine("")
left = b"include_usage" in sent and b"continuous_usage_stats" not in sent
"""
JOURNAL = """
import pathlib, tempfile
from appliance.store.journal import Journal, OpenRequest
with tempfile.TemporaryDirectory() as folder:
    journal = Journal(pathlib.Path(folder, "journal"), 1)
    places = {journal.open(OpenRequest(1, "r", "m", "m", "k")) for _ in range(3)}
    journal.note(0, b"{}")
    left = len(places) == 3 and not journal.left_open()
"""
METERING = """
from appliance.gateway import meter
left = meter.Meter.charge.__module__ == "benchmarks.without"
"""
DELAYS = """
from appliance.gateway import server
guard = server.Guard(failures_max=1_000_000, ban_seconds=900)
left = max(guard.failed("127.0.0.1", 1.0) for _ in range(2_000)) == 0
"""
PROOFS = {
    "salts": SALTS,
    "structure": STRUCTURE,
    "running-usage": RUNNING_USAGE,
    "journal": JOURNAL,
    "metering": METERING,
    "delays": DELAYS,
}


def is_left_out(step: str | None, proof: str) -> bool:
    """In a process of its own, because a step that is gone stays gone."""
    leave_out = f"from benchmarks import without\nwithout.STEPS[{step!r}]()\n" if step else ""
    program = f"{leave_out}{proof}\nprint(left)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout == "True\n"


def test_every_step_has_its_proof() -> None:
    assert PROOFS.keys() == STEPS.keys()


@pytest.mark.parametrize("step", STEPS)
def test_step_is_left_out(step: str) -> None:
    assert is_left_out(step, PROOFS[step])


@pytest.mark.parametrize("step", STEPS)
def test_step_is_there_in_the_product(step: str) -> None:
    assert not is_left_out(None, PROOFS[step])


def test_gateway_without_metering_serves_and_writes_no_row() -> None:
    variant = product.Variant("metering", without="metering")

    with harness.started([variant], quick=True) as bench:
        bench.warm(bench.servers[1])

    ledger = bench.ledgers["metering"]
    assert ledger.requests_sent > 300
    assert (ledger.requests, ledger.completion_tokens) == (0, 0)
