from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from posixpath import normpath

import click
import pytest

from appliance import catalog
from appliance.__main__ import COMMANDS, cli
from appliance.settings import Settings
from tests.tidy.tree import Tree

DOCS = ("*.md",)
HISTORY = ("CHANGELOG.md", "docs/decisions/*")
"""These tell of files that were, or that were not made."""

NOT_OURS = {
    "config.json": "a file of every model in Hugging Face layout",
    "tokenizer.json": "see config.json",
    "tokenizer_config.json": "see config.json",
    "*.safetensors": "see config.json",
    "/*": "a place on the operator's machine",
    "~/*": "see /*",
    ".venv*": "made by the install",
    "./.venv*": "see .venv*",
    ".inferfly*": "made at run time",
    "./.inferfly*": "see .inferfly*",
    ".build*": "made by the install",
    "image/*": "a kind of picture",
}
"""Files that the docs may name and that git doesn't have, and why."""

SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(
    r"\.{0,2}[\w.*-]*(/[\w.*-]+)+/?|[\w*-]+\.(py|md|toml|ya?ml|sh|json|txt|tcss)|Makefile|LICENSE"
)
COMMAND = re.compile(r"(?:^|[\s/$(])inferfly (?=[a-z-])([^|;&>#\n]*)")
YAML = re.compile(r"^```yaml\n(models:.*?)^```", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"\bINFERFLY_[A-Z_]+\b")
TARGET = re.compile(r"(?:^|\s)make ([a-z][a-z-]*)")


def quoted(text: str) -> Iterator[str]:
    """What stands between backticks, in a line or in a block line by line."""
    for block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from SPAN.findall(FENCE.sub("", text))


def documents(tree: Tree) -> Iterator[tuple[str, str]]:
    for path, text in tree.matching(*DOCS):
        if not any(fnmatch(path, pattern) for pattern in HISTORY):
            yield path, text


def missing_files(tree: Tree, not_ours: Mapping[str, str]) -> list[str]:
    """Paths in backticks and link targets that exist neither from the root nor beside the document."""
    faults: list[str] = []
    for path, text in documents(tree):
        spans = {span for span in SPAN.findall(FENCE.sub("", text)) if PATH.fullmatch(span)}
        links = {link.split("#")[0] for link in LINK.findall(text) if "://" not in link and link[0] != "#"}
        named = {name for name in spans if not any(fnmatch(name, pattern) for pattern in not_ours)} | links
        faults += [f"{path}: {name}" for name in sorted(named) if not exists(tree, path, name)]
    return faults


def exists(tree: Tree, document: str, name: str) -> bool:
    beside = normpath(str(PurePosixPath(document).parent / name))
    candidates = {normpath(name), beside}
    folders = {str(parent) for path in tree.paths for parent in PurePosixPath(path).parents}
    known = tree.paths | folders
    if any(fnmatch(path, candidate) for candidate in candidates for path in known):
        return True
    return any(path.endswith(f"/{name.rstrip('/')}") for path in known)


def wrong_commands(tree: Tree, root: click.Group) -> list[str]:
    """`inferfly ...` with a verb, subcommand or option that isn't there."""
    faults: list[str] = []
    for path, text in documents(tree):
        for line in quoted(text):
            faults += [
                f"{path}: inferfly {use}" for use in COMMAND.findall(line) if not is_command(use, root)
            ]
    return faults


def is_command(use: str, root: click.Group) -> bool:
    command: click.Command = root
    context = click.Context(root)
    options = option_names(root)
    for token in shlex.split(use.replace("'", "")):
        if token.startswith("-"):
            if token.split("=")[0] not in options | {"-h", "--help"}:
                return False
        elif isinstance(command, click.Group) and "VERB" not in token:
            found = command.get_command(context, token.rstrip(".,:"))
            if found is None:
                return False
            command, options = found, option_names(found)
    return True


def option_names(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def undocumented(tree: Tree, verbs: Iterable[str]) -> list[str]:
    words = "\n".join(text for _, text in documents(tree))
    return [verb for verb in verbs if not re.search(rf"\binferfly {verb}\b", words)]


def wrong_targets(tree: Tree) -> list[str]:
    targets = set(re.findall(r"^([a-z][a-z-]*):", tree.texts.get("Makefile", ""), re.MULTILINE))
    return [
        f"{path}: make {target}"
        for path, text in documents(tree)
        for line in quoted(text)
        for target in TARGET.findall(line)
        if target not in targets
    ]


def unknown_settings(tree: Tree, known: Iterable[str]) -> list[str]:
    names = {f"INFERFLY_{name.upper()}" for name in known}
    return [
        f"{path}: {name}"
        for path, text in documents(tree)
        for name in sorted(set(SETTING.findall(text)) - names)
    ]


def example_files(tree: Tree) -> Iterator[str]:
    """What the documents show of models.yaml, with a digest put in."""
    for _, text in documents(tree):
        for block in YAML.findall(text):
            yield block.replace("sha256:...", f"sha256:{'0' * 64}")


def stale_schema(tree: Tree) -> bool:
    return tree.texts.get("docs/models.schema.json") != catalog.json_schema()


def test_docs_name_files_that_exist(tree: Tree) -> None:
    assert missing_files(tree, NOT_OURS) == []


def test_docs_name_commands_that_exist(tree: Tree) -> None:
    assert wrong_commands(tree, cli) == []


def test_every_verb_is_in_the_docs(tree: Tree) -> None:
    assert undocumented(tree, COMMANDS) == []


def test_docs_name_make_targets_that_exist(tree: Tree) -> None:
    assert wrong_targets(tree) == []


def test_docs_name_settings_that_exist(tree: Tree) -> None:
    assert unknown_settings(tree, Settings.model_fields) == []


def test_a_setting_that_does_not_exist_is_caught() -> None:
    tree = Tree({"README.md": "Set `INFERFLY_PORT` or INFERFLY_PROT."})

    assert unknown_settings(tree, ["port"]) == ["README.md: INFERFLY_PROT"]


def test_the_models_yaml_that_the_docs_show_is_valid(tree: Tree, tmp_path: Path) -> None:
    [shown] = example_files(tree)
    (tmp_path / "models.yaml").write_text(shown)

    assert [model.name for model in catalog.load(tmp_path / "models.yaml").models] == [
        "my-model",
        "my-embeddings",
    ]


def test_the_schema_in_the_docs_is_the_catalogs_own(tree: Tree) -> None:
    """Made by: inferfly check --schema > docs/models.schema.json."""
    assert not stale_schema(tree)


def test_models_yaml_names_its_schema_on_the_first_line(tree: Tree) -> None:
    assert tree.texts["models.yaml"].startswith("# yaml-language-server: $schema=docs/models.schema.json\n")


@pytest.mark.parametrize(
    "text",
    [
        "see `appliance/gone.py`",
        "see `gone.py`",
        "[a](gone.md)",
        "[a](gone.md#part)",
        "`tests/gone/`",
        "`a/*.txt`",
    ],
)
def test_a_missing_file_is_caught(text: str) -> None:
    tree = Tree({"README.md": text, "appliance/here.py": ""})

    assert len(missing_files(tree, NOT_OURS)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`appliance/here.py`",
        "`here.py`",
        "[a](appliance/here.py)",
        "`appliance/`",
        "`appliance/*.py`",
        "[a](https://example.com/gone.py)",
        "[a](#part)",
        "`config.json` of the model",
        "`/etc/inferfly/models.yaml`",
        "```\nappliance/gone.py\n```",
    ],
)
def test_other_names_are_fine(text: str) -> None:
    tree = Tree({"README.md": text, "appliance/here.py": ""})

    assert missing_files(tree, NOT_OURS) == []


def test_a_link_beside_the_document_is_followed() -> None:
    assert (
        missing_files(Tree({"docs/a.md": "[b](b.md) [c](../c.md)", "docs/b.md": "", "c.md": ""}), NOT_OURS)
        == []
    )


@pytest.fixture
def example() -> click.Group:
    """A command line with `up`, and `keys create --name`."""
    keys = click.Group("keys", commands=[click.Command("create", params=[click.Option(["--name"])])])
    return click.Group("inferfly", commands=[click.Command("up"), keys])


@pytest.mark.parametrize(
    "text",
    [
        "`inferfly down`",
        "`inferfly up --fast`",
        "```sh\n./.venv/bin/inferfly keys destroy\n```",
        "`inferfly keys create -x`",
    ],
)
def test_a_command_that_does_not_exist_is_caught(text: str, example: click.Group) -> None:
    assert len(wrong_commands(Tree({"README.md": text}), example)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`inferfly up`",
        "`inferfly keys create --name NAME`",
        "```\n$ inferfly keys create \\\n  --name x | jq .key\n```",
        "`inferfly`",
        "inferfly down, in prose",
        "`inferfly up --help`",
    ],
)
def test_a_command_that_exists_is_fine(text: str, example: click.Group) -> None:
    assert wrong_commands(Tree({"README.md": text}), example) == []


def test_a_verb_missing_from_the_docs_is_caught() -> None:
    assert undocumented(Tree({"README.md": "`inferfly up`"}), ["up", "down"]) == ["down"]


def test_a_make_target_that_does_not_exist_is_caught() -> None:
    tree = Tree({"README.md": "`make test` `make coffee`", "Makefile": "test: setup\n\tpytest\n"})

    assert wrong_targets(tree) == ["README.md: make coffee"]


def test_a_stale_schema_is_caught() -> None:
    assert stale_schema(Tree({"docs/models.schema.json": catalog.json_schema() + " "}))
