import subprocess
import sys
import time

import pytest

from benchmarks import processes

BUSY = """
import subprocess, sys, threading, time
def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
thread = threading.Thread(target=work, args=(0.2,))
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"])
print("done", flush=True)
time.sleep(30)
"""


def test_threads_and_ended_children_count() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()

        used = processes.sample(worker.pid)
        worker.kill()

    assert used.cpu_seconds == pytest.approx(0.5, abs=0.3)
    assert used.cpu_seconds >= 0.5
    assert used.processes == 1


def test_running_children_count() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 10
        while processes.sample(parent.pid).processes < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

        used = processes.sample(parent.pid)
        parent.communicate(b"\n")

    assert used.processes == 2
    assert used.memory_mb > 5
    assert used.memory_peak_mb >= used.memory_mb
    assert used.files >= 6


def test_cpu_is_told_finer_than_a_tick() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        used = processes.sample(idle.pid).cpu_seconds
        idle.communicate(b"\n")

    assert used % processes.TICK_SECONDS > 0
