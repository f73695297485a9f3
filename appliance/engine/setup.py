"""`inferfly setup` and `inferfly weights`: everything that an engine needs, in place before it starts."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from appliance import catalog
from appliance.catalog import ModelSpec
from appliance.engine import environment, gpus
from appliance.engine import weights as files
from appliance.engine.progress import Reporter
from appliance.errors import AlreadyRunning, CatalogError, EnvironmentBroken
from appliance.settings import Settings

EXIT_TERMINATED: Final = 128 + signal.SIGTERM

_home = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=None,
    help="State folder. Default: ./.inferfly or INFERFLY_HOME.",
)
_name = click.argument("name", required=False)


@click.command()
@_home
@click.option("--repair", is_flag=True, help="Verify every file, and make anew what is damaged.")
def setup(home: Path | None, *, repair: bool) -> None:
    """Set up vLLM's environment and every model of models.yaml.

    What is in place is kept, so a second run is short. `install.sh` calls this.
    """
    settings, models = _load(home)
    with _alone(settings) as others_run, _explained():
        if repair and others_run:
            raise AlreadyRunning(
                "The appliance is running.", fix="Stop it (Ctrl-C in `inferfly up`), then repair."
            )
        reporter = Reporter()
        if settings.engine_python is None:
            builder = environment.builder(settings, os.environ, reporter)
            builder.ensure(environment.chosen_lock(gpu=gpus.has_nvidia()), repair=repair)
            if not others_run:
                builder.discard_others()
        for model in models:
            files.obtain(model, settings, reporter, repair=repair)
    click.echo("Everything is in place.")


@click.group()
def weights() -> None:
    """Fetch, verify and identify the files of models."""


@weights.command()
@_name
@_home
def fetch(name: str | None, home: Path | None) -> None:
    """Put a model's files in place, or those of all.

    NAME is a model of models.yaml. What is in place is only verified.
    """
    settings, models = _load(home, name)
    with _alone(settings), _explained():
        for model in models:
            files.obtain(model, settings, Reporter())


@weights.command()
@_name
@_home
def verify(name: str | None, home: Path | None) -> None:
    """Compare a model's files with its digest, or those of all.

    NAME is a model of models.yaml.
    """
    settings, models = _load(home, name)
    reporter = Reporter()
    for model in models:
        with reporter.step(f"Verifying {model.name}") as step:
            folder = files.locate(model, settings, step.update)
        click.echo(f"{model.name}: {folder}")


@weights.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def digest(path: Path) -> None:
    """Print the digest that models.yaml wants of PATH.

    PATH is a file, or a folder in Hugging Face layout.
    """
    click.echo(files.digest_of(path))


def _load(home: Path | None, name: str | None = None) -> tuple[Settings, tuple[ModelSpec, ...]]:
    settings = Settings.load(home)
    found = catalog.load(settings.models)
    if name is None:
        return settings, found.models
    model = found.model(name)
    if model is None:
        raise CatalogError(
            f"{settings.models} has no model of this name.", fix="`inferfly check` lists them."
        )
    return settings, (model,)


@contextmanager
def _alone(settings: Settings) -> Generator[bool]:
    """Let no second setup into the state folder. Gives whether an appliance runs on it."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.home.chmod(0o700)
    file = settings.home / "setup.lock"
    file.touch(mode=0o600)
    with file.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Another setup is under way in {settings.home}.", fix="Wait until it has ended."
            ) from None
        yield _appliance_runs(settings)


def _appliance_runs(settings: Settings) -> bool:
    try:
        with (settings.home / "up.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _explained() -> Generator[None]:
    """SIGTERM unwinds, so that nothing half-done is left; what the disk refuses is said in words."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except OSError as error:
        raise EnvironmentBroken(
            f"The setup stopped: {error.strerror}.",
            why=f"It was about to use {error.filename}." if error.filename else "",
            fix="Mend that, and run `inferfly setup` again: it goes on where it stopped.",
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(EXIT_TERMINATED)
