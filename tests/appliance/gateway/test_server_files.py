from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from appliance.gateway.server import _allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
print(_allow_files(int(sys.argv[1])), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("wanted", "is_now"),
    [(100, "256 256 1024"), (600, "600 600 1024"), (5000, "1024 1024 1024")],
    ids=["enough already", "more", "more than the machine gives"],
)
def test_a_gateway_takes_as_many_open_files_as_it_needs_and_gets(wanted: int, is_now: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CODE, str(wanted)], capture_output=True, text=True, check=True
    )

    assert child.stdout.strip() == is_now
