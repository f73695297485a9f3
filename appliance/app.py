"""Composition roots: each part of the appliance is put together here, once."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import catalog
from appliance.settings import Settings

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=None,
    help="State folder. Default: ./.inferfly or INFERFLY_HOME.",
)


@click.command()
@home_option
def up(home: Path | None) -> None:
    """Serve in the foreground: gateway, control and engines. Ctrl-C stops.

    Applications find it at INFERFLY_HOST and INFERFLY_PORT: http://127.0.0.1:8080/v1 unless they are set.
    Ctrl-C lets open answers end, for at most INFERFLY_DRAIN_SECONDS_MAX seconds.
    """
    from appliance import up as foreground

    settings = Settings.load(home)
    foreground.run(settings, catalog.load(settings.models))


@click.command()
@home_option
def gateway(home: Path | None) -> None:
    """Run the gateway: the API of applications. Started by `inferfly up` or systemd."""
    from appliance.gateway import server

    server.run(Settings.load(home))


@click.command()
@home_option
def control(home: Path | None) -> None:
    """Run control: keys, limits, states of engines. Started by `inferfly up` or systemd."""
    from appliance.admin import server

    settings = Settings.load(home)
    server.run(settings, catalog.load(settings.models))


@click.command()
@click.argument("name")
@home_option
def engine(name: str, home: Path | None) -> None:
    """Run one engine and watch over it. Started by `inferfly up` or systemd.

    NAME is the model's, with -1, -2... behind it where it has replicas.
    """
    from appliance.engine import runner

    settings = Settings.load(home)
    runner.run(settings, catalog.load(settings.models), name)


@click.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of models.yaml instead.")
def check(path: Path | None, *, schema: bool) -> None:
    """Validate models.yaml and explain every fault.

    PATH is another file than that of INFERFLY_MODELS. A fault is told by model, field and fix.
    """
    if schema:
        click.echo(catalog.json_schema(), nl=False)
        return
    path = path or Settings.load().models
    found = catalog.load(path)
    click.echo(f"{path}: valid. Models:")
    for model in found.models:
        click.echo(f"  {model.name}: {', '.join(model.endpoints)}; replicas: {model.replicas}")
