"""The private run folder of one engine: everything that vLLM writes anywhere lies in it, and goes with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.engine import launcher, sealed_log


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names the places in the folder. Mode 0700 throughout."""

    root: Path

    @property
    def socket(self) -> Path:
        return self.root / "sock"

    @property
    def log_socket(self) -> Path:
        return self.root / "log"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def code(self) -> Path:
        """What vLLM's Python imports of ours, and nothing else."""
        return self.root / "code"

    @property
    def launcher(self) -> Path:
        return self.code / "inferfly_launcher.py"

    @property
    def logging_config(self) -> Path:
        return self.code / "logging.json"

    def create(self) -> None:
        """Make it anew: a socket or cache of an engine that was killed would stop or mislead the next one."""
        self.remove()
        for folder in (self.root, self.temporary, self.home, self.code):
            folder.mkdir(mode=0o700, parents=True)
        shutil.copyfile(launcher.__file__, self.launcher)
        shutil.copyfile(sealed_log.__file__, self.code / "inferfly_sealed_log.py")
        self.logging_config.write_text(json.dumps(sealed_log.LOGGING_CONFIG), encoding="utf-8")

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
