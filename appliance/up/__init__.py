"""`inferfly up`: a small init in the foreground, where there is no systemd. It starts, watches and stops every part."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import setproctitle

from appliance.engine import gpus
from appliance.privacy import logs
from appliance.up import checks, run_folder, screen
from appliance.up.appliance import Appliance
from appliance.up.parts import parts

if TYPE_CHECKING:
    from appliance.catalog import Catalog
    from appliance.settings import Settings


def run(settings: Settings, catalog: Catalog) -> None:
    """Returns after Ctrl-C or SIGTERM, with nothing left behind. Raises what the operator should read."""
    setproctitle.setproctitle("inferfly up")
    os.umask(0o077)  # every part inherits it, vLLM as well
    logs.install("up")
    with checks.only_one(settings):
        show = screen.choose()
        try:
            checks.machine(settings, catalog, gpu=gpus.has_nvidia(), verifying=show.verifying)
        finally:
            show.settled()
        engines = [name for model in catalog.models for name in model.engine_names()]
        with checks.listen(settings) as listening, run_folder.made(settings, engines):
            asyncio.run(Appliance(settings, parts(settings, catalog, listening), show).run())
