"""Real vLLM as it comes: its own log formatter, its request log, its output kept in a file. Run by the engine's Python.

Stands where the engine's interpreter stands: `engine.py LOG REAL_ARGUMENTS...`, as the engine's runner gives them.
"""

from __future__ import annotations

import importlib.util
import os
import sys

DROPPED = ("--no-enable-log-requests", "--max-log-len", "--uvicorn-log-level", "--disable-uvicorn-access-log")


def main(argv: list[str]) -> None:
    _, log, _, launcher, *arguments = argv
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    del os.environ["VLLM_LOGGING_CONFIG_PATH"]
    os.environ["VLLM_LOGGING_LEVEL"] = "DEBUG"
    spec = importlib.util.spec_from_file_location("launcher", launcher)
    assert spec is not None
    assert spec.loader is not None
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    kept = [argument for argument in arguments if not argument.startswith(DROPPED)]
    real.main([launcher, *kept, "--enable-log-requests"])


if __name__ == "__main__":
    main(sys.argv)
