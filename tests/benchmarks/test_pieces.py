from pathlib import Path

import msgspec
from click.testing import CliRunner

from benchmarks.pieces import Pieces, main


def test_every_step_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "pieces.json"

    done = CliRunner().invoke(main, ["--quick", "--out", str(out)])

    assert done.exit_code == 0, done.output
    assert min(msgspec.json.decode(out.read_bytes(), type=Pieces).cpu_us.values()) > 0
