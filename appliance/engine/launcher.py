"""Starts vLLM's command line inside a sealed process. Run by the engine's Python, from an engine's private folder.

Stdlib and what vLLM itself needs: nothing of ours is installed there but this file and the sealed log beside it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def seal() -> None:
    """No core dump of this process, whatever the machine's core_pattern says; sealed logging before vLLM's own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # vLLM's engine core outlives an API server that is killed; the words in its memory would too.
    os.register_at_fork(after_in_child=die_with_parent)
    import inferfly_sealed_log  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  # the copy of sealed_log.py beside this file

    inferfly_sealed_log.install()


def die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(argv: list[str]) -> None:
    """Run vLLM's command line as the engine named in argv[1].

    Its own `vllm` script is not used: it looks for a distribution of that name, which the CPU build does not have.
    """
    import setproctitle  # noqa: PLC0415  # a dependency of vLLM's

    setproctitle.setproctitle(f"inferfly engine {argv[1]}")
    sys.argv = ["vllm", *argv[2:]]
    # Only now: what it prints on import is to be sealed already.
    import vllm.entrypoints.cli.main as vllm  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  # vLLM's own Python has it

    vllm.main()


# Workers that vLLM spawns import this file as __mp_main__ before anything else.
if __name__ in ("__main__", "__mp_main__"):
    seal()
if __name__ == "__mp_main__":
    die_with_parent()
if __name__ == "__main__":
    main(sys.argv)
