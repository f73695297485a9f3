import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[2]
QUICK = [sys.executable, str(ROOT / "benchmarks" / "overhead.py"), "--quick", "--peers", "nginx,vllm-router"]
OURS = {"inferfly", "inferfly-litestar", "inferfly-tls", "inferfly-keys"}


def left_running(folder: Path) -> list[str]:
    """Command lines of processes that work in `folder`."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line.decode() for line in lines if bytes(folder) in line]


def test_quick_run_measures_the_gateway_and_names_what_is_absent(short_folder: Path) -> None:
    out = short_folder / "result"
    environment = os.environ | {"TMPDIR": str(short_folder)}

    done = subprocess.run(
        [*QUICK, "--out", str(out)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=Report)
    assert report.errors == 0
    assert report.ledgers.keys() == OURS
    assert all(ledger.right for ledger in report.ledgers.values())
    measured = {(figure.target, figure.scenario) for figure in report.figures}
    assert {("inferfly", name) for name in ("S1", "S3", "S4", "S5", "S7")} <= measured
    assert {("inferfly-litestar", "S7"), ("inferfly-tls", "S3"), ("inferfly-keys", "S6")} <= measured
    assert {"nginx", "vllm-router"} <= report.versions.keys() | report.absent.keys()
    assert all(f"{name}: absent" in out.with_suffix(".md").read_text() for name in report.absent)
    assert not left_running(short_folder)


def test_stop_from_outside_leaves_nothing_behind(short_folder: Path) -> None:
    environment = os.environ | {"TMPDIR": str(short_folder)}

    with subprocess.Popen(QUICK, env=environment, stderr=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stderr is not None
        heard = [next(benchmark.stderr), next(benchmark.stderr)]
        benchmark.send_signal(signal.SIGTERM)
        benchmark.communicate(timeout=60)

    assert "inferfly" in heard[1]
    assert benchmark.returncode == 128 + signal.SIGTERM
    assert not left_running(short_folder)
    assert not list(short_folder.iterdir())
