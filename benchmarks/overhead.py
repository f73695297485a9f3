"""What the gateway costs: CPU, latency and memory beside direct use of the engine and beside its peers.

All targets stand in front of the same scripted engine and get the same requests in interleaved
rounds, in one run, on the same core. Exit code 1: an answer was wrong, or a ledger is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
if __package__ != "benchmarks":
    sys.path[0] = str(ROOT)  # run as a file, not as a module: let it find the repository

from benchmarks import harness, install, machine, product, report, scenarios  # noqa: E402  # found through the line above
from benchmarks.peers import PEERS  # noqa: E402  # found through the line above

QUICK_PEERS = ("nginx", "nginx-tls", "haproxy")


@click.command(help=__doc__)
@click.option(
    "--quick", is_flag=True, help="One short round of everything, to see that it works: no figures."
)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option(
    "--scenarios", "names", type=harness.Names(scenarios.SCENARIOS), default=list(scenarios.SCENARIOS)
)
@click.option(
    "--peers",
    type=harness.Names(PEERS),
    help="Default: all; with --quick nginx and haproxy, if they are there.",
)
@click.option(
    "--install/--no-install",
    "installs",
    default=None,
    help="Install peers that are missing into .build/peers. Default: yes, but not with --quick.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=install.RESULTS / "overhead",
    help="Where the result goes, without .json and .md.",
)
def main(
    *, quick: bool, rounds: int, names: list[str], peers: list[str] | None, installs: bool | None, out: Path
) -> None:
    began = harness.prepare()
    if installs or (installs is None and not quick):
        install.install(install.FOLDER, harness.say)
    rounds = 1 if quick else rounds
    here = machine.here()
    with harness.started(product.BESIDE_PEERS, quick=quick) as bench:
        bench.start_peers(list(QUICK_PEERS if quick else PEERS) if peers is None else peers)
        harness.run_all(bench, bench.servers, [scenarios.SCENARIOS[name] for name in names], rounds)
    targets = [server.target for server in bench.servers]
    result = report.Report(
        machine=here,
        began=began,
        quick=quick,
        rounds=rounds,
        versions={target.name: target.version for target in targets},
        absent=bench.absent,
        left_out={target.name: dict(target.leaves_out) for target in targets if target.leaves_out},
        ledgers=bench.ledgers,
        figures=report.figures(bench.runs),
        runs=bench.runs,
    )
    harness.write(result, out, report.markdown(result))
    report.refuse_wrong(result.errors, bench.ledgers)


if __name__ == "__main__":
    main()
