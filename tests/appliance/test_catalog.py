from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance import catalog
from appliance.catalog import CATALOG_BYTES_MAX
from appliance.errors import CatalogError
from tests.tidy.tree import ROOT

MODEL: dict[str, Any] = {
    "name": "tiny",
    "source": {"path": "models/tiny"},
    "revision": "main",
    "digest": "sha256:" + "0" * 64,
    "licence": "MIT",
    "engine": {"max_context": 2048},
}

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes models.yaml and gives its path."""

    def to_file(content: str | bytes) -> Path:
        path = tmp_path / "models.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def with_models(*models: dict[str, Any]) -> str:
    return yaml.safe_dump({"models": [deepcopy(MODEL | changes) for changes in models]}, sort_keys=False)


def with_model(**changes: object) -> str:
    return with_models(changes)


def with_engine(**options: object) -> str:
    return with_model(engine={"max_context": 2048} | options)


def faults(path: Path) -> list[str]:
    """What is wrong, a line each, without the first line that counts them."""
    with pytest.raises(CatalogError) as failure:
        catalog.load(path)
    return [line.removeprefix("  - ") for line in str(failure.value).splitlines()[1:]]


def refusal(path: Path) -> str:
    with pytest.raises(CatalogError) as failure:
        catalog.load(path)
    assert failure.value.__cause__ is None
    return str(failure.value).replace(str(path), "FILE")


def test_the_models_yaml_that_is_shipped_is_valid() -> None:
    found = catalog.load(ROOT / "models.yaml")

    assert [model.name for model in found.models] == ["smollm2-135m-instruct"]


def test_a_small_entry_gets_safe_defaults(write: Write) -> None:
    [model] = catalog.load(write(with_model())).models

    assert (model.replicas, model.engine.tensor_parallel, model.images_max, model.switches) == (1, 1, 0, ())
    assert model.endpoints == ("chat", "completions", "responses", "messages", "tokenize")


@pytest.mark.parametrize(
    ("endpoints", "pools"),
    [
        (["chat", "tokenize"], False),
        (["responses", "messages"], False),
        (["tokenize"], False),
        (["embeddings"], True),
        (["embeddings", "rerank", "score", "tokenize"], True),
    ],
    ids=str,
)
def test_a_model_writes_or_turns_texts_into_numbers(
    endpoints: list[str], *, pools: bool, write: Write
) -> None:
    assert catalog.load(write(with_model(endpoints=endpoints))).models[0].pools == pools


def test_the_file_may_start_with_a_byte_order_mark(write: Write) -> None:
    assert catalog.load(write(b"\xef\xbb\xbf" + with_model().encode())).models


def test_a_model_is_found_by_its_name_and_by_its_engines(write: Write) -> None:
    found = catalog.load(write(with_model(replicas=2)))

    assert found.model("tiny") is found.by_engine("tiny-2") is found.models[0]
    assert found.model("tiny-2") is found.by_engine("tiny") is None


def test_a_single_engine_has_the_models_name(write: Write) -> None:
    assert catalog.load(write(with_model())).models[0].engine_names() == ("tiny",)


def test_several_engines_are_numbered(write: Write) -> None:
    assert catalog.load(write(with_model(replicas=3))).models[0].engine_names() == (
        "tiny-1",
        "tiny-2",
        "tiny-3",
    )


def test_a_catalog_does_not_change(write: Write) -> None:
    found = catalog.load(write(with_model()))

    with pytest.raises(ValidationError):
        found.models[0].name = "other"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": None}, "model number 1, field name: it has to be text. Write it in quotes."),
        (
            {"name": "Tiny"},
            (
                "model Tiny, field name: the value is not valid. Use lower case letters, digits, '.', '_' and '-', "
                "40 at most, with a letter or digit at both ends."
            ),
        ),
        ({"revision": 0.1}, "model tiny, field revision: it has to be text. Write it in quotes."),
        (
            {"digest": "abc"},
            (
                "model tiny, field digest: the value is not valid. Write sha256: and 64 hexadecimal digits in lower "
                "case; `inferfly weights digest PATH` prints it."
            ),
        ),
        ({"replicas": 0}, "model tiny, field replicas: it is too small. Use 1 or more."),
        ({"replicas": 65}, "model tiny, field replicas: it is too large. Use 64 or less."),
        ({"replicas": "2"}, "model tiny, field replicas: it has to be a whole number, without quotes."),
        ({"replicas": True}, "model tiny, field replicas: it has to be a whole number, without quotes."),
        (
            {"endpoints": ["chat", "speech"]},
            (
                "model tiny, field endpoints.2: the value is not known. Use 'chat', 'completions', 'responses', "
                "'messages', 'embeddings', 'rerank', 'score' or 'tokenize'."
            ),
        ),
        ({"endpoints": []}, "model tiny, field endpoints: the list is empty. Add at least one item."),
        (
            {"endpoints": "chat"},
            "model tiny, field endpoints: it has to be a list. Start each item on its own line with '- '.",
        ),
        (
            {"endpoints": ["chat", "chat"]},
            "model tiny, field endpoints: an endpoint is listed twice. List each once.",
        ),
        (
            {"endpoints": ["chat", "embeddings"]},
            (
                "model tiny, field endpoints: one model can't both write and turn texts into numbers. "
                "List either embeddings, rerank and score, or the others."
            ),
        ),
        ({"images_max": 9}, "model tiny, field images_max: it is too large. Use 8 or less."),
        (
            {"switches": ["Thinking"]},
            (
                "model tiny, field switches.1: the value is not valid. "
                "Use lower case letters and '_', 64 at most."
            ),
        ),
        (
            {"switches": ["tools", "x", "chat_template"]},
            "model tiny, field switches: callers must not set chat_template, tools. Remove it.",
        ),
        ({"switches": ["x", "x"]}, "model tiny, field switches: a switch is listed twice. List each once."),
        (
            {"switches": ["x" * length for length in range(1, 18)]},
            "model tiny, field switches: the list is too long. List 16 at most.",
        ),
        (
            {"endpoints": ["score"], "images_max": 1},
            "model tiny: a model that turns texts into numbers has no images_max and no switches.",
        ),
        (
            {"licence": "-x"},
            (
                "model tiny, field licence: the value is not valid. Use letters, digits, '.', '_' and "
                "'-', 64 at most, starting with a letter or digit."
            ),
        ),
        ({"replica": 2}, "model tiny, field replica: this key is not known. Did you mean replicas?"),
        (
            {"engine": []},
            "model tiny, field engine: it has to be keys with values. Write one `key: value` a line, indented alike.",
        ),
        ({"engine": {}}, "model tiny, field engine.max_context: it is required. Add it."),
        (
            {"name": "n" * 40, "replicas": 2},
            f"model {'n' * 40}: with 2 replicas the name is too long. Shorten it by 2.",
        ),
    ],
)
def test_a_fault_is_explained_by_model_field_and_fix(
    changes: dict[str, Any], fault: str, write: Write
) -> None:
    assert faults(write(with_model(**changes))) == [fault]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"dtype": "int8"}, "dtype: the value is not known. Use 'auto', 'bfloat16', 'float16' or 'float32'."),
        ({"gpu_memory_utilization": 0.01}, "gpu_memory_utilization: it is too small. Use more than 0.05."),
        (
            {"gpu_memory_utilization": "most"},
            "gpu_memory_utilization: it has to be a number, without quotes.",
        ),
        ({"eager": "yes"}, "eager: it has to be true or false, without quotes."),
        ({"kv_cache_bytes": 1}, "kv_cache_bytes: it is too small. Use 16777216 or more."),
        ({"max_contxt": 1}, "max_contxt: this key is not known. Did you mean max_context?"),
    ],
)
def test_a_fault_of_the_engine_is_explained_alike(options: dict[str, Any], fault: str, write: Write) -> None:
    assert faults(write(with_engine(**options))) == [f"model tiny, field engine.{fault}"]


ONE_OF_TWO = "model tiny, field source: it has to be one of two kinds. Give either package and file, or path."


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("models/tiny", ONE_OF_TWO),
        (None, ONE_OF_TWO),
        ({}, ONE_OF_TWO),
        ({"url": "x"}, ONE_OF_TWO),
        ({"package": "a", "file": "b", "path": "c"}, ONE_OF_TWO),
        ({"package": "a"}, "model tiny, field source.file: it is required. Add it."),
        (
            {"path": "a", "file": "b"},
            ("model tiny, field source.file: this key is not known. Remove it. The keys here are path."),
        ),
        (
            {"package": "a", "file": "../b"},
            (
                "model tiny, field source.file: the value is not valid. Write a path inside "
                "the package, of letters, digits, '.', '_', '-' and '/', 200 at most."
            ),
        ),
        (
            {"package": "a", "file": "b/../../c"},
            "model tiny, field source.file: it leads out of the package. Write a path without '..'.",
        ),
    ],
)
def test_a_source_that_is_neither_kind_is_one_fault(source: object, fault: str, write: Write) -> None:
    assert faults(write(with_model(source=source))) == [fault]


def test_all_faults_are_told_at_once_in_the_files_order(write: Write) -> None:
    text = with_models({"replicas": 0, "licence": 1}, {"name": "b", "digest": 1})

    found = faults(write(text))

    assert [fault.split(":")[0] for fault in found] == [
        "model tiny, field licence",
        "model tiny, field replicas",
        "model b, field digest",
    ]


def test_a_fault_in_the_only_entry_does_not_make_the_list_empty(write: Write) -> None:
    assert len(faults(write("models:\n  - 5\n"))) == 1


def test_an_engine_name_used_twice_is_a_fault(write: Write) -> None:
    """Model `tiny` with two replicas has an engine `tiny-1`, and so has the model `tiny-1`."""
    text = with_models({"replicas": 2}, {"name": "tiny-1"})

    assert faults(write(text)) == [
        "the file: these engine names are used twice: tiny-1. Rename one of the models."
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file: it has to be keys with values. Write one `key: value` a line, indented alike."),
        ("- a", "the file: it has to be keys with values. Write one `key: value` a line, indented alike."),
        (
            "models:",
            "the file, field models: it has to be a list. Start each item on its own line with '- '.",
        ),
        ("models: []", "the file, field models: the list is empty. Add at least one item."),
        ("{}", "the file, field models: it is required. Add it."),
        ("models: 1\nmodel: 2", "the file, field model: this key is not known. Did you mean models?"),
    ],
)
def test_a_fault_of_the_whole_file_is_explained(text: str, fault: str, write: Write) -> None:
    assert fault in faults(write(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:\n  - a\n b: 1", "FILE is not valid YAML at line 3, column "),
        (
            "models: []\nmodels: []",
            "FILE is not valid YAML at line 2, column 1: a key is written twice. Mend",
        ),
        ("a: &x 1\nb: *x", "FILE is not valid YAML at line 2, column 4: aliases are not supported."),
        (
            "a: !!python/object:os.system x",
            "FILE is not valid YAML at line 1, column 4: tags are not supported.",
        ),
        ("a: !!timestamp x", "FILE is not valid YAML at line 1, column 4: tags are not supported."),
        ("[a]: 1", "FILE is not valid YAML at line 1, column 1: a key has to be a word."),
        ("--- a\n--- b", "FILE is not valid YAML at line 2, column 1: but found another document."),
        ("a: \x00", "FILE holds control characters. Save it as plain UTF-8 text."),
        ("[" * 5000, "FILE is nested too deeply."),
        ("a: " + "9" * 5000, "FILE holds a number that is too long."),
        (b"\xff\xfe" + "models: []".encode("utf-16-le"), "FILE is not UTF-8 text. Save it as UTF-8."),
        (b"\x7fELF\x02\x01\x01\x00\x80\x99", "FILE is not UTF-8 text. Save it as UTF-8."),
        (b"#" * (CATALOG_BYTES_MAX + 1), "FILE is larger than 1 MiB."),
    ],
    ids=[
        "indent",
        "twice",
        "alias",
        "code",
        "tag",
        "key",
        "two",
        "nul",
        "deep",
        "number",
        "utf16",
        "binary",
        "huge",
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_sentence(
    text: str | bytes, expected: str, write: Write
) -> None:
    assert refusal(write(text)).startswith(expected)


@pytest.mark.parametrize("text", ["2024-01-01", "yes", "on", "0x1f", "010", "1_000", "1e3"])
def test_a_word_that_only_looks_special_stays_a_word(text: str, write: Write) -> None:
    """YAML 1.1 takes these for a date, a truth or a number."""
    path = write(with_model(revision="PLACE").replace("PLACE", text))

    assert catalog.load(path).models[0].revision == text


def test_a_missing_file_is_told_with_its_cure(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.yaml") == (
        f"{tmp_path / 'gone.yaml'} can't be read: No such file or directory. "
        "Create it (README, models.yaml) or set INFERFLY_MODELS."
    ).replace(str(tmp_path / "gone.yaml"), "FILE")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("FILE is not a file.")


def test_a_pipe_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert refusal(tmp_path / "pipe").startswith("FILE is not a file.")


def loads_or_refuses(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    message = outcome(path)
    assert message == "" or message.startswith(str(path))
    assert "pydantic" not in message
    assert all(line.isprintable() for line in message.split("\n"))


def outcome(path: Path) -> str:
    """Nothing, or why the file is refused."""
    try:
        catalog.load(path)
    except CatalogError as error:
        return str(error)
    return ""


FIXTURE_IS_REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
KEYS = (
    st.sampled_from([*MODEL, "models", "path", "package", "file", "max_context", "dtype", "replicas"])
    | st.text()
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=9)
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS | SCALARS, inner), max_leaves=20
)


@FIXTURE_IS_REUSED
@given(content=st.binary())
def test_no_bytes_end_in_a_traceback(content: bytes, tmp_path: Path) -> None:
    loads_or_refuses(tmp_path / "models.yaml", content)


@FIXTURE_IS_REUSED
@given(content=st.text(alphabet="amodels:-[]{}&*!?|>%@`'\"#,\n\t ~<=0123.\x85\u2028é"))
@example(content="a: =")
@example(content="<<: {a: 1}")
@example(content="? \n: ")
@example(content='a: "\\ud800"')
@example(content="%YAML 9.9\n--- a")
def test_no_text_ends_in_a_traceback(content: str, tmp_path: Path) -> None:
    loads_or_refuses(tmp_path / "models.yaml", content.encode())


@FIXTURE_IS_REUSED
@given(data=TREES, entries=st.lists(TREES, max_size=3))
def test_no_shape_ends_in_a_traceback(data: object, entries: list[object], tmp_path: Path) -> None:
    for tree in (data, {"models": entries}, {"models": [MODEL | {"source": data, "engine": data}]}):
        loads_or_refuses(tmp_path / "models.yaml", yaml.safe_dump(tree).encode())


def test_the_schema_describes_every_field() -> None:
    schema = json.loads(catalog.json_schema())
    parts = [schema, *schema["$defs"].values()]

    bare = [
        name for part in parts for name, field in part["properties"].items() if "description" not in field
    ]

    assert bare == []


def test_the_schema_refuses_unknown_keys() -> None:
    schema = json.loads(catalog.json_schema())

    assert all(part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()])
