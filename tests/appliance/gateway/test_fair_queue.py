from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.errors import Overloaded, QueueFull
from appliance.gateway.fair_queue import FairQueue


def filled(*names: str, size_max: int = 100) -> FairQueue[str]:
    """A queue in which every item is named after its account, and a number."""
    queue = FairQueue[str](size_max)
    for name in names:
        queue.push(name[0], name)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    return list(itertools.takewhile(bool, (queue.pop() or "" for _ in itertools.count())))


def test_accounts_take_turns_and_each_keeps_its_order() -> None:
    queue = filled("a1", "a2", "a3", "b1", "b2", "c1")

    assert drained(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_whoever_was_just_served_does_not_gain_a_turn_by_coming_again() -> None:
    queue = filled("a1", "b1", "b2")
    queue.pop()
    queue.push("a", "a2")

    assert drained(queue) == ["b1", "a2", "b2"]


def test_an_empty_queue_gives_nothing() -> None:
    assert filled().pop() is None


def test_a_newcomer_displaces_the_newest_of_whoever_waits_with_the_most() -> None:
    queue = filled("a1", "b1", "b2", "a2", "b3", size_max=5)

    assert queue.push("c", "c1") == "b3"
    assert list(queue) == ["a1", "b1", "b2", "a2", "c1"]


@pytest.mark.parametrize(
    ("waiting", "account"),
    [
        pytest.param(["a1", "a2"], "a", id="alone"),
        pytest.param(["a1", "b1"], "a", id="as-many-as-others"),
        pytest.param(["a1", "a2", "b1"], "a", id="more-than-others"),
        pytest.param([], "a", id="no-places"),
    ],
)
def test_a_full_queue_refuses_who_has_as_many_as_anybody(waiting: list[str], account: str) -> None:
    queue = filled(*waiting, size_max=len(waiting))

    with pytest.raises(QueueFull):
        queue.push(account, "another")

    assert list(queue) == waiting


def test_a_full_queue_is_answered_as_an_overload() -> None:
    assert (QueueFull().status, QueueFull().retry_after_seconds) == (503, Overloaded.retry_after_seconds)


def test_what_is_removed_is_not_served_and_is_removed_once() -> None:
    queue = filled("a1", "a2", "b1")

    assert queue.remove("a1")
    assert not queue.remove("a1")
    assert drained(queue) == ["a2", "b1"]


def test_items_may_be_removed_while_all_are_looked_at() -> None:
    queue = filled("a1", "a2", "b1")

    removed = [queue.remove(item) for item in queue]

    assert removed == [True, True, True]
    assert len(queue) == 0


def test_an_item_waits_once() -> None:
    queue = filled("a1")

    with pytest.raises(AssertionError):
        queue.push("a", "a1")


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=40),
    st.lists(st.sampled_from("abcde"), max_size=40),
)
def test_with_k_accounts_waiting_each_is_served_within_k_pops(waiting: list[str], coming: list[str]) -> None:
    """Also while others, and the same ones again, keep coming after each pop."""
    queue = FairQueue[tuple[int, str]](100)
    numbers = itertools.count()
    for account in waiting:
        queue.push(account, (next(numbers), account))
    accounts = set(waiting)
    arrivals = iter(coming)

    served: set[str] = set()
    for _ in range(len(accounts)):
        item = queue.pop()
        assert item is not None
        served.add(item[1])
        for account in itertools.islice(arrivals, 3):
            queue.push(account, (next(numbers), account))

    assert served == accounts


class AgainstAModel(RuleBasedStateMachine):
    """The model is one list in order of arrival, and one list of whose turn it is."""

    accounts = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.waiting: list[tuple[str, int]] = []
        self.turns: list[str] = []

    @initialize(size_max=st.integers(0, 8))
    def begin(self, size_max: int) -> None:
        self.size_max = size_max
        self.queue = FairQueue[tuple[str, int]](size_max)

    @rule(account=accounts)
    def push(self, account: str) -> None:
        item = (account, next(self.numbers))
        most = max((self.count(other) for other in self.turns), default=0)
        if len(self.waiting) < self.size_max:
            assert self.queue.push(account, item) is None
            self.add(item)
        elif most > self.count(account):
            displaced = self.queue.push(account, item)
            assert displaced is not None
            assert self.count(displaced[0]) == most
            assert displaced == [one for one in self.waiting if one[0] == displaced[0]][-1]
            self.drop(displaced)
            self.add(item)
        else:
            with pytest.raises(QueueFull):
                self.queue.push(account, item)

    @rule()
    def pop(self) -> None:
        item = self.queue.pop()
        if item is None:
            assert self.waiting == []
            return
        account = self.turns.pop(0)
        self.turns.append(account)
        assert item == next(one for one in self.waiting if one[0] == account)
        self.drop(item)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(item)
        assert not self.queue.remove(item)
        self.drop(item)

    @invariant()
    def the_same_items_wait(self) -> None:
        assert list(self.queue) == self.waiting
        assert len(self.queue) == len(self.waiting) <= self.size_max

    def count(self, account: str) -> int:
        return sum(one[0] == account for one in self.waiting)

    def add(self, item: tuple[str, int]) -> None:
        self.waiting.append(item)
        self.turns += [item[0]] if item[0] not in self.turns else []

    def drop(self, item: tuple[str, int]) -> None:
        self.waiting.remove(item)
        self.turns = [account for account in self.turns if self.count(account)]


AgainstAModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
