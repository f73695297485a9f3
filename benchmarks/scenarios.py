"""The loads that every gateway is put under, each bounded in count and in time."""

from __future__ import annotations

from typing import Literal

import msgspec

STEP_SECONDS = 0.02
"""The scripted engine's step: 50 tokens a second on each stream, as a reader would see them."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load."""

    name: str
    title: str
    connections: int
    requests: int
    requests_quick: int
    """As many as a smoke test needs, which is too few for figures."""
    seconds_max: float
    per: Literal["request", "event"] = "request"
    tokens: int = 16
    tokens_quick: int = 16
    prompt_bytes: int = 0
    bad_key: bool = False

    @property
    def stream(self) -> bool:
        return self.per == "event"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="S1",
            title="whole answers, 64 connections",
            connections=64,
            requests=60_000,
            requests_quick=1_000,
            seconds_max=5,
        ),
        Scenario(
            name="S3",
            title="streams of 128 events, 20 ms apart, 200 connections",
            connections=200,
            requests=800,
            requests_quick=50,
            seconds_max=8,
            per="event",
            tokens=128,
            tokens_quick=32,
        ),
        Scenario(
            name="S4",
            title="whole answers, one connection",
            connections=1,
            requests=6_000,
            requests_quick=300,
            seconds_max=4,
        ),
        Scenario(
            name="S5",
            title="whole answers to prompts of 128 KB, 16 connections",
            connections=16,
            requests=12_000,
            requests_quick=200,
            seconds_max=5,
            prompt_bytes=128 * 1024,
        ),
        Scenario(
            name="S6",
            title="refused keys, 64 connections",
            connections=64,
            requests=80_000,
            requests_quick=1_000,
            seconds_max=4,
            bad_key=True,
        ),
        Scenario(
            name="S7",
            title="streams of 128 events, 20 ms apart, 1,000 connections",
            connections=1_000,
            requests=2_000,
            requests_quick=200,
            seconds_max=4,
            per="event",
            tokens=128,
            tokens_quick=32,
        ),
    )
}
