from __future__ import annotations

import stat

import httpx

from tests.appliance_under_test import Appliance
from tests.processes import Process, listening


def test_status_says_ready(box: Appliance) -> None:
    status = box.asked("status")

    assert status["ready"] is True
    assert [engine["state"] for engine in status["engines"]] == ["ready"]


def test_the_box_says_that_it_lives_and_serves(box: Appliance) -> None:
    origin = box.base_url.removesuffix("/v1")

    assert httpx.get(f"{origin}/healthz").status_code == 200
    assert httpx.get(f"{origin}/readyz").json() == {"ready": True}


def test_metrics_are_for_the_box_itself(box: Appliance) -> None:
    assert b"inferfly_requests" in box.gateway_metrics()
    assert httpx.get(f"{box.base_url.removesuffix('/v1')}/metrics").status_code == 404


def test_processes_are_named_after_their_part(box: Appliance) -> None:
    titles = [process.title for process in box.processes()]

    engine = "inferfly engine smollm2-135m-instruct"
    assert {"inferfly up", "inferfly gateway", "inferfly control", engine} <= set(titles)
    assert titles.count(engine) == 2, "the watcher and its vLLM"


def test_only_the_public_port_listens(box: Appliance) -> None:
    """vLLM talks to itself over loopback; nothing else of it can be reached but its unix socket."""
    public = int(box.base_url.removesuffix("/v1").rpartition(":")[2])
    engines = [process for process in box.processes() if process.title.startswith("inferfly engine")]
    others = [process for process in box.processes() if process not in engines]

    assert listening(others) == {("127.0.0.1", public)}
    assert {address for address, _ in listening(engines)} <= {"127.0.0.1"}


def test_the_state_folder_is_closed_to_others(box: Appliance) -> None:
    models = box.home / "models"
    others = stat.S_IRWXG | stat.S_IRWXO
    open_ones = [
        f"{path.relative_to(box.home)}: {path.lstat().st_mode & 0o777:o}"
        for path in (box.home, *box.home.rglob("*"))
        if path != models and models not in path.parents and not path.is_symlink()
        if path.lstat().st_mode & others
    ]

    assert open_ones == []


def test_no_process_leaves_a_core_dump(box: Appliance) -> None:
    """A dump of the engine or the gateway would hold the words of its callers."""
    limits = [process.text("limits").decode() for process in serving(box)]

    assert [core_limit(text) for text in limits] == ["0"] * len(limits)


def serving(box: Appliance) -> list[Process]:
    return [process for process in box.processes() if process.title != "inferfly up"]


def core_limit(limits: str) -> str:
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    return line.split()[4]
