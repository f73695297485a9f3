from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.errors import Banned
from appliance.gateway.guard import Ban, Guard

NOW = 1_800_000_000.0
SOURCE = "192.0.2.1"


def fail(guard: Guard, source: str | None = SOURCE, *, times: int, now: float = NOW) -> list[float]:
    return [guard.failed(source, now) for _ in range(times)]


def refused_seconds(guard: Guard, source: str, now: float) -> int | None:
    with pytest.raises(Banned) as caught:
        guard.check(source, now)
    return caught.value.retry_after_seconds


def test_the_first_wrong_keys_are_answered_at_once_and_then_ever_later() -> None:
    delays = fail(Guard(), times=10)

    assert delays == [0, 0, 0, 0.125, 0.25, 0.5, 1, 2, 2, 2]


def test_too_many_wrong_keys_ban_their_source() -> None:
    guard = Guard()
    fail(guard, times=19)
    guard.check(SOURCE, NOW)

    assert fail(guard, times=1) == [2]

    assert refused_seconds(guard, SOURCE, NOW) == 900
    assert refused_seconds(guard, SOURCE, NOW + 0.5) == 900
    assert refused_seconds(guard, SOURCE, NOW + 899.5) == 1
    guard.check(SOURCE, NOW + 900)
    guard.check("192.0.2.2", NOW)


def test_wrong_keys_count_for_a_minute() -> None:
    guard = Guard()
    fail(guard, times=10, now=NOW)
    fail(guard, times=9, now=NOW + 30)

    assert fail(guard, times=1, now=NOW + 60) == [2]
    guard.check(SOURCE, NOW + 60)
    fail(guard, times=10, now=NOW + 61)

    assert refused_seconds(guard, SOURCE, NOW + 61) == 900


def test_after_a_ban_counting_starts_anew() -> None:
    guard = Guard()
    fail(guard, times=20)

    assert fail(guard, times=4, now=NOW + 900) == [0, 0, 0, 0.125]


def test_wrong_keys_that_were_on_their_way_do_not_make_a_ban_longer() -> None:
    guard = Guard()
    fail(guard, times=20)

    assert fail(guard, times=2, now=NOW + 10) == [2, 2]

    start = int(NOW) * 1000
    assert guard.banned(NOW + 10) == [Ban(SOURCE, start, start + 900_000, 22)]


@pytest.mark.parametrize(
    ("failing", "other", "network"),
    [
        pytest.param("2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::/64", id="ipv6"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1", id="ipv4-in-ipv6"),
        pytest.param("fe80::1%eth0", "fe80::2", "fe80::/64", id="link-local"),
    ],
)
def test_one_subscribers_addresses_are_one_source(failing: str, other: str, network: str) -> None:
    guard = Guard()
    fail(guard, failing, times=20)

    assert [ban.source for ban in guard.banned(NOW)] == [network]
    assert refused_seconds(guard, other, NOW) == 900


def test_the_next_network_is_another_source() -> None:
    guard = Guard()
    fail(guard, "2001:db8::1", times=20)

    guard.check("2001:db8:0:1::1", NOW)


def test_the_unix_socket_is_never_banned() -> None:
    guard = Guard()
    fail(guard, times=20)

    assert fail(guard, None, times=100) == [0] * 100

    guard.check(None, NOW)


@pytest.mark.parametrize("name", ["2001:db8::/64", "2001:db8::77"])
def test_a_lifted_ban_is_over_and_counting_starts_anew(name: str) -> None:
    guard = Guard()
    fail(guard, "2001:db8::1", times=20)

    assert guard.lift(name)

    guard.check("2001:db8::1", NOW)
    assert guard.banned(NOW) == []
    assert fail(guard, "2001:db8::1", times=1) == [0]


@pytest.mark.parametrize("name", ["192.0.2.7", "2001:db8::/64", "::no address::", ""])
def test_what_is_not_banned_cannot_be_lifted(name: str) -> None:
    guard = Guard()
    fail(guard, times=20)

    assert not guard.lift(name)


def test_many_sources_push_out_the_one_that_failed_longest_ago() -> None:
    guard = Guard(sources_max=3)
    fail(guard, "192.0.2.1", times=3)
    fail(guard, "192.0.2.2", times=3)
    fail(guard, "192.0.2.3", times=3)
    fail(guard, "192.0.2.1", times=1)

    fail(guard, "192.0.2.4", times=3)

    assert fail(guard, "192.0.2.1", times=1) == [0.25]
    assert fail(guard, "192.0.2.2", times=1) == [0]


def test_many_sources_do_not_lift_a_ban_nor_grow_the_memory() -> None:
    guard = Guard(sources_max=3)
    fail(guard, "192.0.2.1", times=20)
    fail(guard, "192.0.2.2", times=20)
    fail(guard, "192.0.2.3", times=20)

    assert fail(guard, "192.0.2.4", times=30) == [2] * 30

    assert [ban.source for ban in guard.banned(NOW)] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert fail(guard, "192.0.2.4", times=1, now=NOW + 900) == [0]


def test_sources_are_forgotten_when_their_wrong_keys_are_a_minute_old() -> None:
    guard = Guard()
    fail(guard, "192.0.2.1", times=1)
    fail(guard, "192.0.2.2", times=1, now=NOW + 60)

    assert list(guard._failures) == ["192.0.2.2"]


def test_a_clock_set_back_bans_nobody_until_it_has_caught_up() -> None:
    guard = Guard()
    fail(guard, "192.0.2.1", times=20, now=NOW - 600)
    fail(guard, "192.0.2.2", times=20)
    fail(guard, "192.0.2.3", times=19)
    earlier = NOW - 599

    assert [ban.source for ban in guard.banned(earlier)] == ["192.0.2.1"]
    guard.check("192.0.2.2", earlier)
    assert fail(guard, "192.0.2.2", times=1, now=earlier) == [0]
    assert fail(guard, "192.0.2.3", times=1, now=earlier) == [0]
    fail(guard, "192.0.2.2", times=19, now=earlier)
    assert refused_seconds(guard, "192.0.2.2", earlier) == 900


class AgainstAModel(RuleBasedStateMachine):
    """The model keeps every wrong key and every ban there ever was."""

    sources = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::", "2001:db8:0:1::"])

    def __init__(self) -> None:
        super().__init__()
        self.guard = Guard(failures_max=5, window_seconds=60, ban_seconds=90)
        self.now = NOW
        self.failures: list[tuple[str, float]] = []
        self.bans: dict[str, list[float]] = {}
        """Since when, and how many wrong keys, of the last ban of each source."""

    @rule(seconds=st.sampled_from([0.25, 1.0, 20.0, 30.0, 59.75, 60.0, 89.5, 90.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(source=sources, times=st.integers(1, 5))
    def fail(self, source: str, times: int) -> None:
        for _ in range(times):
            assert self.guard.failed(source, self.now) == self.expect_failure(source)

    def expect_failure(self, source: str) -> float:
        if self.is_banned(source):
            self.bans[source][1] += 1
            return 2
        self.failures.append((source, self.now))
        recent = sum(other == source and at > self.now - 60 for other, at in self.failures)
        if recent == 5:
            self.bans[source] = [self.now, 5]
            self.failures = [failure for failure in self.failures if failure[0] != source]
        return [0, 0, 0, 0.125, 2][recent - 1]

    @rule(source=sources)
    def lift(self, source: str) -> None:
        assert self.guard.lift(source) == self.is_banned(source)
        self.bans.pop(source, None)

    @invariant()
    def the_same_sources_are_banned(self) -> None:
        running = sorted((since, source, int(count)) for source, (since, count) in self.running())
        found = sorted((ban.since_ms, ban.source, ban.failures) for ban in self.guard.banned(self.now))
        assert found == [
            (int(since * 1000), f"{source}/64" if ":" in source else source, count)
            for since, source, count in running
        ]

    @rule(source=sources)
    def check(self, source: str) -> None:
        if self.is_banned(source):
            assert refused_seconds(self.guard, source, self.now) == -(
                -(self.bans[source][0] + 90 - self.now) // 1
            )
        else:
            self.guard.check(source, self.now)

    def is_banned(self, source: str) -> bool:
        return source in dict(self.running())

    def running(self) -> list[tuple[str, list[float]]]:
        return [(source, ban) for source, ban in self.bans.items() if self.now < ban[0] + 90]


AgainstAModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
