from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance import app, catalog
from appliance.errors import CatalogError, OperatorError
from tests.tidy.tree import ROOT

VALID = (ROOT / "models.yaml").read_text()


@pytest.fixture
def shell() -> CliRunner:
    return CliRunner(catch_exceptions=False)


def test_check_names_the_models_of_a_valid_file(shell: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(VALID)

    done = shell.invoke(app.check, [str(path)])

    assert done.output == (
        f"{path}: valid. Models:\n"
        "  smollm2-135m-instruct: chat, completions, responses, messages, tokenize; replicas: 1\n"
    )


def test_check_takes_the_file_of_the_settings(shell: CliRunner, working_folder: Path) -> None:
    (working_folder / "models.yaml").write_text(VALID)

    assert shell.invoke(app.check).output.startswith(f"{working_folder / 'models.yaml'}: valid")


def test_check_refuses_a_file_with_faults(shell: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: []")

    with pytest.raises(CatalogError, match="field models: the list is empty"):
        shell.invoke(app.check, [str(tmp_path / "models.yaml")])


def test_check_prints_the_schema_and_reads_nothing(shell: CliRunner, working_folder: Path) -> None:
    assert list(working_folder.iterdir()) == []

    assert shell.invoke(app.check, ["--schema"]).output == catalog.json_schema()


@pytest.mark.parametrize("verb", [["up"], ["control"], ["engine", "tiny"]], ids=lambda verb: verb[0])
def test_a_part_with_a_broken_catalog_does_not_start(
    verb: list[str], shell: CliRunner, working_folder: Path
) -> None:
    (working_folder / "models.yaml").write_text("models: []")

    with pytest.raises(OperatorError, match="field models: the list is empty"):
        shell.invoke(getattr(app, verb[0]), verb[1:])

    assert [path.name for path in working_folder.iterdir()] == ["models.yaml"]
