"""What the gateway costs: CPU, latency and memory beside direct use of the engine and beside its peers.

All targets stand in front of the same scripted engine and get the same requests in interleaved
rounds, in one run, on the same core. Exit code 1: an answer was wrong, or the ledger is.
"""

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
from typing import TYPE_CHECKING

import click
import msgspec

ROOT = Path(__file__).resolve().parents[1]
if __package__ != "benchmarks":
    sys.path[0] = str(ROOT)  # run as a file, not as a module: let it find the repository

from benchmarks import launch, machine, plan, processes, product, report, scenarios  # noqa: E402  # found through the line above
from benchmarks.peers import PEERS, Absent, Bench, Target  # noqa: E402  # found through the line above

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.scenarios import Scenario

FILES_OPEN_MAX = 16_384
"""A gateway with 1,000 streams holds 2,000 sockets."""
RUN_SECONDS_MAX = 120.0
WARM_REQUESTS = 300
QUICK_PEERS = ("nginx", "haproxy")


@dataclass(frozen=True, slots=True)
class Server:
    """A target that runs."""

    target: Target
    pid: int | None
    """None of the engine itself, as `direct`."""


class Harness:
    """The scripted engine, the targets in front of it, and the runs they have been through."""

    def __init__(self, folder: Path, peers_env: Path | None, *, quick: bool) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.quick = quick
        self.gateway_cores, self.harness_cores = machine.cores()
        self.bench = Bench(folder, self.home / product.ENGINE_SOCKET, launch.free_port(), peers_env)
        self.unknown_key = product.unknown_key()
        self.servers: list[Server] = []
        self.absent: dict[str, str] = {}
        self.runs: list[report.Run] = []
        self.requests_sent = self.tokens_sent = 0

    def start(self, stack: contextlib.ExitStack, peers: list[str]) -> None:
        """Start the engine, our gateway and the peers; the stack stops them in reverse."""
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
        self.launch(stack, engine, self.harness_cores)
        self.servers[0] = Server(engine, None)
        self.launch(stack, product.target(self.home), self.gateway_cores)
        for name in peers:
            peer = PEERS[name](self.bench)
            if isinstance(peer, Absent):
                self.leave_out(name, peer.reason)
                continue
            try:
                self.launch(stack, peer, self.gateway_cores)
            except launch.DidNotStart as error:
                self.leave_out(name, f"{peer.version} {error}")

    def leave_out(self, name: str, reason: str) -> None:
        self.absent[name] = reason
        say(f"{name}: absent, {reason}")

    def launch(self, stack: contextlib.ExitStack, target: Target, cores: list[int]) -> None:
        log = self.folder / f"{target.name}.log"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
        }
        process = stack.enter_context(
            launch.running(launch.on_cores(cores, target.argv), env | dict(target.env), log)
        )
        warm = plan.Plan(model=product.MODEL, key=target.key).request
        launch.wait_until_answers(process, target.address, warm, log, target.start_seconds_max)
        if target.name == product.NAME:
            self.sent(1, plan.Plan().tokens)
        self.servers.append(Server(target, process.pid))
        say(f"{target.name} {target.version} is up")

    def measure(self, server: Server, scenario: Scenario, number: int) -> report.Run:
        todo = self.plan(server, scenario)
        if server.pid:
            processes.forget_peaks(server.pid)
        run = report.Run(server.target.name, scenario.name, number, self.carry_out(todo))
        self.runs.append(run)
        return run

    def warm(self, server: Server) -> None:
        """Let pools fill and code paths be compiled before anything counts."""
        todo = self.plan(server, scenarios.SCENARIOS["S1"])
        self.carry_out(msgspec.structs.replace(todo, requests=WARM_REQUESTS, watch=[]))

    def plan(self, server: Server, scenario: Scenario) -> plan.Plan:
        target = server.target
        return plan.Plan(
            port=target.port,
            socket=target.socket,
            model=product.MODEL,
            key=self.unknown_key if scenario.bad_key else target.key,
            status=401 if scenario.bad_key else 200,
            connections=scenario.connections,
            requests=scenario.requests_quick if self.quick else scenario.requests,
            seconds_max=scenario.seconds_max,
            timeout_seconds=RUN_SECONDS_MAX,
            stream=scenario.stream,
            tokens=scenario.tokens_quick if self.quick else scenario.tokens,
            prompt_bytes=scenario.prompt_bytes,
            watch=[server.pid] if server.pid else [],
        )

    def carry_out(self, todo: plan.Plan) -> plan.Result:
        argv = [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(todo).decode()]
        done = subprocess.run(  # noqa: S603  # our own client
            launch.on_cores(self.harness_cores, argv),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=2 * RUN_SECONDS_MAX + 30,
        )
        result = msgspec.json.decode(done.stdout, type=plan.Result)
        if todo.key == self.own_key and todo.status == 200:
            self.sent(result.answers, result.answers * todo.tokens)
        return result

    @property
    def own_key(self) -> str:
        return next((s.target.key for s in self.servers if s.target.name == product.NAME), "")

    def sent(self, requests: int, tokens: int) -> None:
        self.requests_sent += requests
        self.tokens_sent += tokens

    def ledger(self) -> dict[str, int]:
        """What our ledger holds beside what was sent. Ask once the gateway has stopped."""
        told = product.metered(self.home)
        return {
            "requests": told.requests,
            "completion_tokens": told.completion_tokens,
            "requests_sent": self.requests_sent,
            "completion_tokens_sent": self.tokens_sent,
        }


def schedule(
    servers: list[Server], chosen: list[Scenario], rounds: int
) -> Iterator[tuple[Scenario, int, Server]]:
    """Every scenario, round by round, each round beginning with another target."""
    for scenario in chosen:
        for number in range(1, rounds + 1):
            turn = number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                if scenario.name not in server.target.leaves_out:
                    yield scenario, number, server


def say(line: str) -> None:
    click.echo(line, err=True)


def stopped(number: int, _frame: object) -> None:
    """A stop from outside unwinds like any other end, so that all servers are stopped too."""
    sys.exit(128 + number)


def run_all(harness: Harness, chosen: list[Scenario], rounds: int) -> None:
    for server in harness.servers:
        harness.warm(server)
    todo = list(schedule(harness.servers, chosen, rounds))
    for done, (scenario, number, server) in enumerate(todo, 1):
        run = harness.measure(server, scenario, number)
        cost = "" if run.cpu_us is None else f"{run.cpu_us:9.1f} µs/{scenario.per}, core {run.core_use:.0%}"
        wrong = f", {run.result.errors} ERRORS" if run.result.errors else ""
        say(f"[{done:3}/{len(todo)}] {scenario.name} round {number} {server.target.name:14}{cost}{wrong}")


def write(result: report.Report, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    out.with_suffix(".md").write_text(report.markdown(result))
    say(f"written: {out.with_suffix('.json')} and {out.with_suffix('.md')}")


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


@click.command(help=__doc__)
@click.option(
    "--quick", is_flag=True, help="One short round of everything, to see that it works: no figures."
)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--scenarios", "names", type=Names(scenarios.SCENARIOS), default=list(scenarios.SCENARIOS))
@click.option("--peers", type=Names(PEERS), help="Default: all; with --quick nginx and haproxy.")
@click.option(
    "--peers-env",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Virtual environment that holds vllm-router, sglang-router, smg, litellm.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=ROOT / "benchmarks" / "results" / "overhead",
    help="Where the result goes, without .json and .md.",
)
def main(
    *, quick: bool, rounds: int, names: list[str], peers: list[str] | None, peers_env: Path | None, out: Path
) -> None:
    signal.signal(signal.SIGTERM, stopped)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (FILES_OPEN_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    rounds = 1 if quick else rounds
    chosen = [scenarios.SCENARIOS[name] for name in names]
    here = machine.here()
    began = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    with tempfile.TemporaryDirectory(prefix="inferfly-bench-") as folder:
        harness = Harness(Path(folder), peers_env.absolute() if peers_env else None, quick=quick)
        with contextlib.ExitStack() as stack:
            try:
                harness.start(stack, list(QUICK_PEERS if quick else PEERS) if peers is None else peers)
            except launch.DidNotStart as error:
                raise click.ClickException(f"The engine or our gateway did not start: {error}") from None
            run_all(harness, chosen, rounds)
        ledger = harness.ledger()
    result = report.Report(
        machine=here,
        began=began,
        quick=quick,
        rounds=rounds,
        versions={server.target.name: server.target.version for server in harness.servers},
        absent=harness.absent,
        left_out={s.target.name: dict(s.target.leaves_out) for s in harness.servers if s.target.leaves_out},
        ledger=ledger,
        figures=report.figures(harness.runs),
        runs=harness.runs,
    )
    write(result, out)
    if result.errors:
        raise click.ClickException(f"{result.errors} answers were wrong; the notes in the result say how.")
    if (ledger["requests"], ledger["completion_tokens"]) != (
        ledger["requests_sent"],
        ledger["completion_tokens_sent"],
    ):
        raise click.ClickException(f"The ledger differs from what was sent: {ledger}.")


if __name__ == "__main__":
    main()
