"""`inferfly up` out of its real parts but for its gateway, which has a leak. Run as the appliance's command."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import setproctitle

from appliance import catalog
from appliance.privacy import logs
from appliance.settings import Settings
from appliance.up import checks, screen
from appliance.up.appliance import Appliance
from appliance.up.parts import parts

GATEWAY = Path(__file__).with_name("gateway.py")


def run() -> None:
    settings = Settings.load()
    setproctitle.setproctitle("inferfly up")
    logs.install("up")
    with checks.only_one(settings), checks.listen(settings) as listening:
        settings.run.mkdir(mode=0o700)
        real = parts(settings, catalog.load(settings.models), listening)
        argv = (sys.executable, "-P", str(GATEWAY))
        leaky = replace(real, gateway=replace(real.gateway, argv=argv))
        try:
            asyncio.run(Appliance(settings, leaky, screen.choose()).run())
        finally:
            shutil.rmtree(settings.run, ignore_errors=True)


if __name__ == "__main__":
    run()
