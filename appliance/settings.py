"""Machine settings: where things are, and every limit by its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from appliance.errors import SettingsError

ENV_PREFIX = "INFERFLY_"


class Settings(BaseSettings):
    """Read once, in `app.py`, from `INFERFLY_*` variables. Every default is the safe one."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    home: Path = Path(".inferfly")
    """Folder of all state, mode 0700."""
    models: Path = Path("models.yaml")
    """The models this box serves."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free port."""
    engine_python: Path | None = None
    """Python of the engine's environment; by default `engine/current/bin/python` under `home`."""

    tls_certificate: Path | None = None
    """PEM file of the certificate and what it builds on; read again when it changes. None: no TLS."""
    tls_key: Path | None = None
    """PEM file of the certificate's key."""
    tls_version_min: Literal["1.2", "1.3"] = "1.3"
    fast_lane: bool = True
    """Inference requests go past Litestar. Off, they go through it: slower, the same in all else."""

    connections_per_source_max: int = Field(default=512, ge=1)
    """From one IPv4 address or one /64 of IPv6."""
    guesses_max: int = Field(default=20, ge=1)
    """Refused keys within a minute after which their source is banned."""
    ban_seconds: float = Field(default=900, gt=0)
    queue_seconds_max: float = Field(default=60, gt=0)
    """How long a request may wait for a place at its model's engines."""

    timezone: str = "Asia/Kolkata"
    """Days and months of limits, totals and costs begin at midnight here. A name of the IANA database."""
    currency: str = Field(default="INR", pattern=r"^[A-Z]{3}$")
    """What prices are in. For display only: nothing is converted."""

    body_bytes_max: int = Field(default=8 * 1024 * 1024, ge=1024)
    body_seconds_max: float = Field(default=60, gt=0)
    open_requests_max: int = Field(default=2048, ge=1, le=65536)
    """Requests in flight in the whole gateway; beyond it, 503."""
    drain_seconds_max: float = Field(default=20, ge=0)
    """How long a stopping gateway lets open streams run."""
    engine_start_seconds_max: float = Field(default=600, gt=0)
    engine_stall_seconds_max: float = Field(default=60, gt=0)
    """No token for this long while requests run: the engine is hung and is restarted."""
    engine_restarts_max: int = Field(default=5, ge=0)
    """Restarts in a row without ever becoming ready, before an engine is left failed."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, OSError):  # a name that is not there; one that is a folder
            raise ValueError("no such time zone") from None
        return timezone

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def registry_db(self) -> Path:
        return self.home / "registry.db"

    @property
    def usage_db(self) -> Path:
        return self.home / "usage.db"

    @property
    def journal(self) -> Path:
        """Open requests, in a file that outlives a kill -9 of the gateway."""
        return self.home / "usage.journal"

    @property
    def weights(self) -> Path:
        return self.home / "models"

    @property
    def run(self) -> Path:
        """Sockets and engines' private folders; made anew at each start, short enough for sockets.

        `run` under `home`, or the folder that it links to where `home` has a long path (`up/run_folder.py`).
        """
        run = self.home / "run"
        return run.readlink() if run.is_symlink() else run

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "up.sock"

    def engine_run(self, name: str) -> Path:
        """Private folder of one engine, mode 0700, removed when it stops."""
        return self.run / "engines" / name

    def engine_socket(self, name: str) -> Path:
        return self.engine_run(name) / "sock"

    @property
    def engine_interpreter(self) -> Path:
        return self.engine_python or self.home / "engine" / "current" / "bin" / "python"

    @classmethod
    def load(cls, home: Path | None = None) -> Settings:
        """Read the environment; `home` given on the command line wins. Paths come back absolute."""
        names = {name.removeprefix(ENV_PREFIX) for name in os.environ if name.startswith(ENV_PREFIX)}
        if unknown := sorted(names - {field.upper() for field in cls.model_fields}):
            raise SettingsError(
                f"These settings are not known: {', '.join(ENV_PREFIX + name for name in unknown)}.",
                fix="Correct or unset these environment variables.",
            )
        try:
            settings = cls() if home is None else cls(home=home)
        except ValidationError as error:
            names_wrong = {str(fault["loc"][0]) if fault["loc"] else "tls_key" for fault in error.errors()}
            wrong = sorted(f"{ENV_PREFIX}{name.upper()}" for name in names_wrong)
            raise SettingsError(
                f"These settings are not valid: {', '.join(wrong)}.",
                fix="Correct or unset these environment variables.",
            ) from None
        return settings.model_copy(
            update={"home": settings.home.absolute(), "models": settings.models.absolute()}
        )
