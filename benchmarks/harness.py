"""The scripted engine, the targets in front of it, and the runs that they go through."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from benchmarks import launch, machine, plan, processes, product, report, scenarios
from benchmarks.install import ROOT
from benchmarks.peers import PEERS, Absent, Bench, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.scenarios import Scenario

FILES_OPEN_MAX: Final = 16_384
"""A gateway with 1,000 streams holds 2,000 sockets."""
SERVERS: Final = "/usr/sbin"
"""Where Debian has nginx and haproxy; it is not on everybody's PATH."""
RUN_SECONDS_MAX: Final = 120.0
WARM_REQUESTS: Final = 300
WARM_STREAMS: Final = 20


@dataclass(frozen=True, slots=True)
class Server:
    """A target that runs."""

    target: Target
    pid: int | None
    """None of the engine itself, as `direct`."""


@dataclass(slots=True)
class Sent:
    """What went to one gateway of ours: what its ledger has to hold in the end."""

    home: Path
    requests: int = 0
    tokens: int = 0


class Harness:
    """One benchmark's servers. They are started on a stack, which stops them in reverse."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, *, quick: bool) -> None:
        """Raises DidNotStart where there is no openssl."""
        self.folder = folder
        self.quick = quick
        self.gateway_cores, self.harness_cores = machine.cores()
        certificate, key = launch.make_certificate(folder)
        self.bench = Bench(folder, folder / "engine.sock", launch.free_port(), certificate, key)
        self.unknown_key = product.unknown_key()
        self.servers: list[Server] = []
        self.absent: dict[str, str] = {}
        self.runs: list[report.Run] = []
        self.sent: dict[str, Sent] = {}
        self.ledgers: dict[str, report.Ledger] = {}
        """What ours held in the end, once all are stopped."""
        self._stack = stack
        self._start_engine()

    def _start_engine(self) -> None:
        engine = Target(
            name=report.DIRECT,
            version="",
            argv=(
                *(sys.executable, "-m", "benchmarks.upstream", "--socket", str(self.bench.engine_socket)),
                *("--port", str(self.bench.engine_port), "--step-ms", str(scenarios.STEP_SECONDS * 1000)),
            ),
            socket=str(self.bench.engine_socket),
            leaves_out={"S6": "the engine checks no key"},
        )
        self._launch(engine, self.harness_cores)
        self.servers.append(Server(engine, None))

    def start_ours(self, variants: Iterable[product.Variant]) -> None:
        """Start our gateway, once for each variant. Raises DidNotStart."""
        for variant in variants:
            target = product.target(variant, self.bench)
            if target.ledger is not None:
                self.sent[target.name] = Sent(target.ledger)
            self._start(target)
            self._count(target.name, 1, plan.Plan().tokens)

    def start_peers(self, names: Iterable[str]) -> None:
        """Start the peers that are there. Those that are not are told of, and that is all."""
        for name in names:
            peer = PEERS[name](self.bench)
            if isinstance(peer, Absent):
                self._leave_out(name, peer.reason)
                continue
            try:
                self._start(peer)
            except launch.DidNotStart as error:
                self._leave_out(name, f"{peer.version} {error}")

    def _leave_out(self, name: str, reason: str) -> None:
        self.absent[name] = reason
        say(f"{name}: absent, {reason}")

    def _start(self, target: Target) -> None:
        process = self._launch(target, self.gateway_cores)
        self.servers.append(Server(target, process.pid))

    def _launch(self, target: Target, cores: list[int]) -> subprocess.Popen[bytes]:
        log = self.folder / f"{target.name}.log"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
        }
        process = self._stack.enter_context(
            launch.running(launch.on_cores(cores, target.argv), env | dict(target.env), log)
        )
        warm = self._plan(Server(target, None), 200)
        launch.wait_until_answers(
            process, target.address, warm.request, log, target.start_seconds_max, warm.tls
        )
        say(f"{target.name} {target.version} is up")
        return process

    def warm(self, server: Server) -> None:
        """Let pools fill and code paths be compiled before anything counts."""
        base = self._plan(server, 200)
        self.carry_out(server, msgspec.structs.replace(base, connections=64, requests=WARM_REQUESTS))
        self.carry_out(
            server,
            msgspec.structs.replace(base, connections=WARM_STREAMS, requests=WARM_STREAMS, stream=True),
        )

    def measure(self, server: Server, scenario: Scenario, number: int) -> report.Run:
        if server.pid:
            processes.forget_peaks(server.pid)
        result = self.carry_out(server, self.plan(server, scenario))
        run = report.Run(server.target.name, scenario.name, number, result)
        self.runs.append(run)
        return run

    def plan(self, server: Server, scenario: Scenario) -> plan.Plan:
        base = self._plan(server, 401 if scenario.bad_key else 200)
        return msgspec.structs.replace(
            base,
            key=self.unknown_key if scenario.bad_key else base.key,
            connections=scenario.connections,
            requests=scenario.requests_quick if self.quick else scenario.requests,
            seconds_max=scenario.seconds_max,
            timeout_seconds=RUN_SECONDS_MAX,
            stream=scenario.stream,
            tokens=scenario.tokens_quick if self.quick else scenario.tokens,
            prompt_bytes=scenario.prompt_bytes,
            watch=[server.pid] if server.pid else [],
        )

    def _plan(self, server: Server, status: int) -> plan.Plan:
        target = server.target
        return plan.Plan(
            port=target.port,
            socket=target.socket,
            certificate=str(target.certificate or ""),
            model=product.MODEL,
            key=target.key,
            status=status,
        )

    def carry_out(self, server: Server, todo: plan.Plan) -> plan.Result:
        """Have the client do it, and count what it did."""
        with self.client(todo) as client:
            try:
                output, _ = client.communicate(timeout=2 * todo.timeout_seconds + 30)
            except BaseException:
                client.kill()
                raise
        return self.take_result(server, todo, output)

    def client(self, todo: plan.Plan) -> subprocess.Popen[bytes]:
        """The client at work. It prints its result when it is done."""
        argv = [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(todo).decode()]
        return subprocess.Popen(  # noqa: S603  # our own client
            launch.on_cores(self.harness_cores, argv),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )

    def take_result(self, server: Server, todo: plan.Plan, output: bytes) -> plan.Result:
        if not output:
            raise click.ClickException("The client ended without a result.")
        result = msgspec.json.decode(output, type=plan.Result)
        if todo.status == 200:
            self._count(server.target.name, result.answers, result.answers * todo.tokens)
        return result

    def _count(self, name: str, requests: int, tokens: int) -> None:
        if name in self.sent:
            self.sent[name].requests += requests
            self.sent[name].tokens += tokens

    def read_ledgers(self) -> None:
        for name, sent in self.sent.items():
            held = product.metered(sent.home)
            self.ledgers[name] = report.Ledger(
                requests=held.requests,
                completion_tokens=held.completion_tokens,
                requests_in_totals=held.requests_in_totals,
                requests_sent=sent.requests,
                completion_tokens_sent=sent.tokens,
            )


@contextlib.contextmanager
def started(variants: Iterable[product.Variant], *, quick: bool = False) -> Iterator[Harness]:
    """The engine and our gateways, up and answering. At the end all is stopped, and the ledgers are read.

    Raises ClickException where they don't start.
    """
    with tempfile.TemporaryDirectory(prefix="inferfly-bench-") as folder:
        with contextlib.ExitStack() as stack:
            try:
                bench = Harness(Path(folder), stack, quick=quick)
                bench.start_ours(variants)
            except launch.DidNotStart as error:
                raise click.ClickException(f"The engine or our gateway did not start: {error}") from None
            yield bench
        bench.read_ledgers()


def schedule(
    servers: Sequence[Server], chosen: Iterable[Scenario], rounds: int
) -> Iterator[tuple[Scenario, int, Server]]:
    """Every scenario, round by round, each round beginning with another target."""
    for scenario in chosen:
        for number in range(1, rounds + 1):
            turn = number % len(servers)
            for server in [*servers[turn:], *servers[:turn]]:
                if scenario.name not in server.target.leaves_out:
                    yield scenario, number, server


def run_all(harness: Harness, servers: Sequence[Server], chosen: Sequence[Scenario], rounds: int) -> None:
    """Warm up, then measure all of it, and tell how it goes."""
    for server in servers:
        harness.warm(server)
    todo = list(schedule(servers, chosen, rounds))
    for done, (scenario, number, server) in enumerate(todo, 1):
        run = harness.measure(server, scenario, number)
        cost = "" if run.cpu_us is None else f"{run.cpu_us:9.2f} µs/{scenario.per}, core {run.core_use:.0%}"
        wrong = f", {run.result.errors} ERRORS" if run.result.errors else ""
        say(f"[{done:3}/{len(todo)}] {scenario.name} round {number} {server.target.name:18}{cost}{wrong}")


def prepare() -> str:
    """Let this process and all that it starts hold many files; let a stop from outside unwind like any other end.

    Gives the time, for the result.
    """
    signal.signal(signal.SIGTERM, _stopped)
    os.environ["PATH"] += os.pathsep + SERVERS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_OPEN_MAX, hard))
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def write(result: msgspec.Struct, out: Path, page: str) -> None:
    """The result as JSON, and beside it the page that shows it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    out.with_suffix(".md").write_text(page)
    say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.md')}")


def say(line: str) -> None:
    click.echo(line, err=True)


class Names(click.ParamType[list[str]]):
    """Some of the names that are known, with commas between."""

    name = "names"

    def __init__(self, known: Iterable[str]) -> None:
        self.known = tuple(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  # click's signature
        return ",".join(self.known)

    def convert(
        self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        names = value if isinstance(value, list) else [name for name in value.split(",") if name]
        if unknown := set(names) - set(self.known):
            self.fail(f"{', '.join(sorted(unknown))} is not one of {', '.join(self.known)}", param, ctx)
        return names


def _stopped(number: int, _frame: object) -> None:
    sys.exit(128 + number)
