from pathlib import Path

from appliance.engine.process import ProcessSupervisor
from appliance.engine.supervisor import Supervisor


def test_the_process_supervisor_is_a_supervisor() -> None:
    supervisor: Supervisor = ProcessSupervisor(Path("up.sock"))

    assert {"start", "stop", "restart", "states"} <= set(dir(supervisor))
