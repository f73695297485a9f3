from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from appliance import clock

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
moments = st.integers(0, 2**48 - 1)


def time_of(ulid: str) -> int:
    value = 0
    for letter in ulid[:10]:
        value = value * 32 + CROCKFORD.index(letter)
    return value


@given(moments)
def test_a_ulid_has_26_letters_and_tells_its_time(ms: int) -> None:
    made = clock.ulid(ms)

    assert re.fullmatch(rf"[0-7][{CROCKFORD}]{{25}}", made)
    assert time_of(made) == ms


@given(moments, moments)
def test_ulids_sort_by_time(one: int, other: int) -> None:
    made = clock.ulid(one)[:10], clock.ulid(other)[:10]

    assert (made[0] < made[1]) == (one < other)


def test_no_two_ulids_of_one_moment_are_the_same() -> None:
    assert len({clock.ulid(1) for _ in range(10_000)}) == 10_000


def test_now_is_the_time_in_milliseconds() -> None:
    before, now, after = time.time() * 1000, clock.now_ms(), time.time() * 1000

    assert int(before) <= now <= after
