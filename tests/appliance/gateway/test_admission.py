from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.domain import Call, Caller
from appliance.errors import Overloaded, ShuttingDown
from appliance.gateway.admission import Admission
from appliance.store.journal import Journal

CALLER = Caller("account", "abcdefghij")
CALL = Call("chat", "m", False, False, False)  # noqa: FBT003  # its fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", 3)
    yield journal
    journal.release()


def test_an_admitted_request_is_in_the_journal(journal: Journal) -> None:
    reservation = Admission(journal, 3).admit(CALLER, CALL)

    ((slot, row),) = journal.left_open()
    assert slot == reservation.slot
    assert (row.request_id, row.ts_start_ms) == (reservation.request_id, reservation.ts_start_ms)
    assert (row.model_id, row.deployment_id, row.api_key_id) == ("m", "m", "abcdefghij")


def test_no_more_are_admitted_than_allowed(journal: Journal) -> None:
    admission = Admission(journal, 2)
    admission.admit(CALLER, CALL)
    admission.admit(CALLER, CALL)

    with pytest.raises(Overloaded):
        admission.admit(CALLER, CALL)

    assert admission.open == 2
    assert len(journal.left_open()) == 2


def test_one_that_leaves_makes_room(journal: Journal) -> None:
    admission = Admission(journal, 1)
    admission.admit(CALLER, CALL)

    admission.leave()
    admission.admit(CALLER, CALL)

    assert admission.open == 1


def test_rows_that_are_not_written_yet_keep_their_places(journal: Journal) -> None:
    """A ledger that can't be written stops admission at the journal's size: nothing is lost."""
    admission = Admission(journal, 2)
    admission.admit(CALLER, CALL)
    admission.leave()
    admission.admit(CALLER, CALL)
    admission.leave()
    admission.admit(CALLER, CALL)
    admission.leave()

    with pytest.raises(Overloaded):
        admission.admit(CALLER, CALL)

    assert admission.open == 0


def test_nothing_is_admitted_while_draining(journal: Journal) -> None:
    admission = Admission(journal, 2)
    admission.draining = True

    with pytest.raises(ShuttingDown):
        admission.admit(CALLER, CALL)

    assert journal.left_open() == []
