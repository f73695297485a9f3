"""`inferfly up` over stand-ins for its parts: `up.py HOME CONTROL GATEWAY ENGINE...`, each a mode of part.py.

An engine of mode `real` is the appliance's own, named tiny, over the engine's environment of the settings.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from pathlib import Path

import click

from appliance.errors import InferflyError
from appliance.privacy import logs
from appliance.settings import Settings
from appliance.up import screen
from appliance.up.appliance import Appliance
from appliance.up.children import Part
from appliance.up.parts import Parts, environment

PART = Path(__file__).with_name("part.py")


def part(settings: Settings, name: str, mode: str, listening: socket.socket | None = None) -> Part:
    fake = (sys.executable, str(PART), mode, str(settings.home))
    real = (sys.executable, "-m", "appliance", "engine", name)
    return Part(
        name=name,
        argv=real if mode == "real" else fake,
        environment=environment(settings),
        log=settings.home / f"{name}.log",
        notify=settings.run / f"notify-{name}",
        stop_seconds_max=2,
        listening=listening,
    )


def main() -> None:
    logs.install("up")
    home, control, gateway, *modes = sys.argv[1:]
    engines = {"tiny" if mode == "real" else f"e{number}": mode for number, mode in enumerate(modes)}
    settings = Settings(home=Path(home), engine_restarts_max=1)
    settings.run.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Parts(
            control=part(settings, "control", control),
            gateway=part(settings, "gateway", gateway, listening),
            engines={name: part(settings, name, mode) for name, mode in engines.items()},
            models=("tiny",),
            model_of=dict.fromkeys(engines, "tiny"),
        )
        try:
            asyncio.run(Appliance(settings, found, screen.choose()).run())
        except InferflyError as error:
            click.echo(f"inferfly: {error}", err=True)
            sys.exit(1)
        finally:
            shutil.rmtree(settings.run)


main()
