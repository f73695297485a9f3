"""Our own gateway as a target: the real product on a state folder with one account, key, model and engine."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance import __version__, apikey, clock
from appliance.catalog import ModelSpec
from appliance.domain import EngineState, Limits, Price
from appliance.settings import Settings
from appliance.store.registry import EngineRow, Registry
from appliance.store.usage import UsageReader
from benchmarks import launch
from benchmarks.peers import TLS_LEAVES_OUT, Target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.peers import Bench

NAME: Final = "inferfly"
MODEL: Final = "scripted"
ACCOUNT: Final = "default"
YEAR_MS: Final = 365 * 86_400_000
HIGH: Final = Limits(*(10**15 for _ in Limits._fields))
"""Every limit and budget there is, checked at each request, and never reached."""
PRICE: Final = Price(input_micros_per_million=250_000, output_micros_per_million=1_000_000)
OPEN_TO_ONE_ADDRESS: Final = {"INFERFLY_CONNECTIONS_PER_SOURCE_MAX": "16384"}
"""All of a benchmark's connections come from one address. They are counted all the same."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run our gateway."""

    name: str
    tls: bool = False
    limits: bool = True
    """With all limits on key, account and model, and with prices."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    without: str = ""
    """A step that is left out; benchmarks/without.py has them."""
    metered: bool = True
    leaves_out: Mapping[str, str] = field(default_factory=dict[str, str])


_ONLY_KEYS: Final = "this target is there for refused keys only"
EVERYTHING_ON: Final = Variant(
    NAME, leaves_out={"S6": "its guard answers late, then not at all; see the row inferfly-keys"}
)
BESIDE_PEERS: Final = (
    EVERYTHING_ON,
    Variant(f"{NAME}-litestar", env={"INFERFLY_FAST_LANE": "false"}, leaves_out={"S6": "as for inferfly"}),
    Variant(
        f"{NAME}-tls",
        tls=True,
        leaves_out=TLS_LEAVES_OUT,
    ),
    Variant(
        f"{NAME}-keys",
        env={"INFERFLY_GUESSES_MAX": "1000000000"},
        without="delays",
        leaves_out=dict.fromkeys(("S1", "S3", "S4", "S5", "S7"), _ONLY_KEYS),
    ),
)
"""What stands in one run with the peers."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What the ledger says was served."""

    requests: int
    completion_tokens: int
    requests_in_totals: int
    """The days' totals are kept beside the rows."""


def target(variant: Variant, bench: Bench) -> Target:
    """Prepare the state folder that `inferfly gateway` will find."""
    home = bench.folder / variant.name
    home.mkdir(mode=0o700)
    key, port = apikey.new(), launch.free_port()
    _fill(Settings(home=home), key, bench.engine_socket, limits=variant.limits)
    start = ("benchmarks.without", variant.without) if variant.without else ("appliance", "gateway")
    tls = {"INFERFLY_TLS_CERTIFICATE": str(bench.certificate), "INFERFLY_TLS_KEY": str(bench.certificate_key)}
    return Target(
        name=variant.name,
        version=__version__,
        argv=(sys.executable, "-m", *start, "--home", str(home)),
        port=port,
        key=key.plaintext,
        certificate=bench.certificate if variant.tls else None,
        env={
            "INFERFLY_PORT": str(port),
            **OPEN_TO_ONE_ADDRESS,
            **(tls if variant.tls else {}),
            **variant.env,
        },
        ledger=home if variant.metered else None,
        leaves_out=variant.leaves_out,
    )


def unknown_key() -> str:
    """A key in good shape that no account has: the dearest kind to refuse."""
    return apikey.new().plaintext


def metered(home: Path) -> Metered:
    """Read the ledger of a gateway that has stopped."""
    path = Settings(home=home).usage_db
    usage = UsageReader(path)
    days = usage.totals("day", since_day="")
    usage.close()
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as rows:
        requests, tokens = rows.execute("SELECT count(*), total(completion_tokens) FROM usage").fetchone()
    return Metered(requests, int(tokens), sum(day.requests for day in days))


def _fill(settings: Settings, key: apikey.ApiKey, engine_socket: Path, *, limits: bool) -> None:
    now = clock.now_ms()
    registry = Registry(settings.registry_db)
    registry.add_account(ACCOUNT)
    registry.add_key(key, account=ACCOUNT, name="benchmark", expires_at_ms=now + YEAR_MS)
    registry.put_models([_model()])
    registry.put_engines([EngineRow(MODEL, MODEL, str(engine_socket), EngineState.READY, now, 0)])
    if limits:
        registry.change_limits("key", key.key_id, HIGH._asdict())
        registry.change_limits("account", ACCOUNT, HIGH._asdict())
        registry.change_limits("model", MODEL, HIGH._asdict())
        registry.set_price(MODEL, PRICE)
    registry.close()


def _model() -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": MODEL,
            "source": {"path": "/nonexistent"},
            "revision": "1",
            "digest": "sha256:" + 64 * "0",
            "licence": "none",
            "endpoints": ("chat",),
            "engine": {"max_context": 262_144, "max_concurrent_sequences": 1024},
        }
    )
