"""Machine settings: where things are, and every limit by its name."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from appliance.errors import SettingsError

SOCKET_PATH_BYTES_MAX = 107
"""Linux keeps a unix socket's path in 108 bytes, the last one zero (unix(7))."""


class Settings(BaseSettings):
    """Read once, in `app.py`, from `INFERFLY_*` variables. Every default is the safe one."""

    model_config = SettingsConfigDict(env_prefix="INFERFLY_", frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Path(".inferfly")
    """Folder of all state, mode 0700."""
    models: Path = Path("models.yaml")
    """The models this box serves."""
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    """0 takes a free port."""
    engine_python: Path | None = None
    """Python of the engine's environment; by default `engine/current/bin/python` under `home`."""

    body_bytes_max: int = Field(8 * 1024 * 1024, ge=1024)
    body_seconds_max: float = Field(30, gt=0)
    open_requests_max: int = Field(2048, ge=1, le=65536)
    """Requests in flight in the whole gateway; beyond it, 503."""
    drain_seconds_max: float = Field(20, ge=0)
    """How long a stopping gateway lets open streams run."""
    engine_start_seconds_max: float = Field(600, gt=0)
    engine_stall_seconds_max: float = Field(60, gt=0)
    """No token for this long while requests run: the engine is hung and is restarted."""
    engine_restarts_max: int = Field(5, ge=0)
    """Restarts in a row without ever becoming ready, before an engine is left failed."""

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
        """Sockets and engines' private folders; emptied at each start."""
        return self.home / "run"

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
        try:
            settings = cls() if home is None else cls(home=home)
        except ValidationError as error:
            names = ", ".join(sorted({f"INFERFLY_{str(part['loc'][0]).upper()}" for part in error.errors()}))
            raise SettingsError(
                f"These settings are not valid: {names}.", fix="Correct or unset these environment variables."
            ) from None
        settings = settings.model_copy(
            update={"home": settings.home.absolute(), "models": settings.models.absolute()}
        )
        longest = len(bytes(settings.engine_socket("x" * 40)))
        if longest > SOCKET_PATH_BYTES_MAX:
            raise SettingsError(
                f"The state folder's path is too long by {longest - SOCKET_PATH_BYTES_MAX} bytes.",
                why="Linux limits the path of a unix socket to 107 bytes.",
                fix="Set INFERFLY_HOME to a shorter path.",
            )
        return settings
