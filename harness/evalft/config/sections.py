"""The sections of a Config and what each of their values may be; the resolved form, and its digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from evalft.records import TaskType
from evalft.yaml_data import Number, WrittenInt

PROVIDER_KINDS = ("openai", "hf", "file", "fake", "plugin")


# ---------------------------------------------------------------- scalars


def _as_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.written
    return str(value) if isinstance(value, int | float) else value


def _as_int(value: object) -> object:
    return int(value) if isinstance(value, WrittenInt) else value


def _as_float(value: object) -> object:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_as_text)]
Int = Annotated[int, BeforeValidator(_as_int)]
Float = Annotated[float, BeforeValidator(_as_float), Field(allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


# ---------------------------------------------------------------- sections


class MetricSpec(Section):
    """A metric's name with its options, e.g. `{regex: {pattern: "^A"}}`."""

    name: Text
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            ((name, options),) = value.items()
            return {"name": name, "options": options or {}}
        return value


def is_given(metric: str) -> bool:
    """Whether a metric's name is that of scores which came with answers made elsewhere: "tool/name"."""
    return "/" in metric


class TaskConfig(Section):
    name: Text | None = None
    type: TaskType | None = None
    test: Text | None = None
    train: Text | None = None
    dev: Text | None = None
    input: Text | None = None
    target: Text | None = None
    id: Text | None = None
    group: Text | None = None
    slices: list[Text] = []
    labels: list[Text] | None = None
    positive: Text | None = None
    prompt: Text | None = None
    system: Text | None = None
    metrics: list[MetricSpec] | None = None
    normalize: list[Literal["strip", "collapse_spaces", "lower", "punctuation", "articles"]] = [
        "strip",
        "collapse_spaces",
    ]

    @field_validator("labels")
    @classmethod
    def _labels_once(cls, labels: list[str] | None) -> list[str] | None:
        twice = sorted({label for label in labels or [] if (labels or []).count(label) > 1})
        if twice:
            raise ValueError(f"label {twice[0]!r} is listed twice")
        return labels


def holds_password(url: str) -> bool:
    return "@" in url.partition("://")[2].partition("/")[0]


class ProviderConfig(Section):
    base_url: Text
    api_key_env: Text | None = None
    """None: no key is sent, so that no provider is handed another one's key."""
    stand_in: bool = False
    """A local stand-in for a closed API; marked as one wherever it is shown."""

    @field_validator("api_key_env")
    @classmethod
    def _a_name_not_a_key(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
            raise ValueError("is the name of an environment variable such as TOGETHER_API_KEY, never the key itself")
        return name

    @field_validator("base_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not re.match(r"https?://[^/\s]+", url):
            raise ValueError(f"{url!r} is not an http(s) URL such as https://api.example.com/v1")
        if holds_password(url):
            raise ValueError("holds a user name or password; name the key's variable with api_key_env")
        return url.rstrip("/")


class PriceConfig(Section):
    """USD per million tokens (API), or USD per hour of the machine (local)."""

    input: Annotated[Float, Field(ge=0)] | None = None
    output: Annotated[Float, Field(ge=0)] | None = None
    cached: Annotated[Float, Field(ge=0)] | None = None
    hour: Annotated[Float, Field(ge=0)] | None = None


class ShotsConfig(Section):
    """`4` stands for `{count: 4}`, and is how it is written out again."""

    count: Annotated[Int, Field(ge=0)] = 0
    pick: Literal["random", "first", "nearest"] = "random"

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        return {"count": value} if isinstance(value, int | float | str) else value

    @model_serializer
    def _to_yaml(self) -> int | dict[str, Any]:
        return self.count if self.pick == "random" else {"count": self.count, "pick": self.pick}


class CandidateConfig(Section):
    name: Text = ""
    model: Text
    adapter: Text | None = None
    revision: Text | None = None
    prompt: Text | None = None
    system: Text | None = None
    shots: ShotsConfig = ShotsConfig()
    temperature: Annotated[Float, Field(ge=0)] = 0.0
    top_p: Annotated[Float, Field(gt=0, le=1)] | None = None
    num_beams: Annotated[Int, Field(ge=1)] = 1
    max_tokens: Annotated[Int, Field(ge=1)] | None = None
    stop: list[Text] | None = None
    seed: Int | None = None
    reasoning_effort: Text | None = None
    samples: Annotated[Int, Field(ge=1, le=1000)] = 1
    mode: Literal["live", "batch"] = "live"
    extra_body: dict[str, Any] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: Text | None = None
    price: PriceConfig | None = None

    @field_validator("model")
    @classmethod
    def _spec(cls, model: str) -> str:
        kind, _, rest = model.partition(":")
        if not rest:
            raise ValueError(f"{model!r} does not say which provider; write openai:{model}, hf:{model} or NAME:{model}")
        return model

    @model_validator(mode="after")
    def _default_name(self) -> CandidateConfig:
        if not self.name:
            pick = "" if self.shots.pick == "random" else f"-{self.shots.pick}"
            parts = [
                self.model,
                f"k{self.shots.count}{pick}" if self.shots.count else "",
                _tail(self.adapter) if self.adapter else "",
            ]
            object.__setattr__(self, "name", "-".join(part for part in parts if part))
        return self

    @property
    def provider(self) -> str:
        return self.model.partition(":")[0]

    @property
    def model_id(self) -> str:
        return self.model.partition(":")[2]


def _tail(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


class DecideConfig(Section):
    confidence: Annotated[Float, Field(gt=0.5, lt=1)] = 0.95
    queries_per_month: Annotated[Float, Field(gt=0)] | None = None
    horizon_months: Annotated[Float, Field(gt=0)] = 12.0
    max_new_rows: Annotated[Int, Field(ge=0)] | None = None
    undecided: Literal["stop", "tune"] = "stop"
    min_chance: Annotated[Float, Field(ge=0, le=1)] = 0.5
    error_cost_usd: Annotated[Float, Field(ge=0)] | None = None
    ladder: list[Text] | None = None
    pilot: bool | None = None
    sequential: bool = False


class JudgeConfig(Section):
    """Who judges answers (one candidate spec or several), by what and on what scale, and people's scores to hold them to."""

    model: Annotated[list[CandidateConfig], Field(min_length=1)]
    rubric: Text | None = None
    scale: Annotated[list[Int], Field(min_length=2, max_length=2)] = [1, 10]
    human: Text | None = None

    @field_validator("model", mode="before")
    @classmethod
    def _one_or_several(cls, model: object) -> object:
        several = model if isinstance(model, list) else [model]
        return [{"model": one} if isinstance(one, str) else one for one in several]

    @field_validator("model")
    @classmethod
    def _asked_as_judges(cls, judges: list[CandidateConfig]) -> list[CandidateConfig]:
        names = [judge.name for judge in judges]
        for judge in judges:
            if names.count(judge.name) > 1:
                raise ValueError(f"{judge.name!r} is listed twice")
            for key in ("prompt", "system", "shots", "samples", "mode"):
                if getattr(judge, key) != CandidateConfig.model_fields[key].get_default(call_default_factory=True):
                    raise ValueError(f"{judge.name}: {key} means nothing to a judge; remove it")
        return judges

    @field_validator("rubric")
    @classmethod
    def _says_something(cls, rubric: str | None) -> str | None:
        if rubric is not None and not rubric.strip():
            raise ValueError("is empty; say what a good answer is")
        return rubric

    @field_validator("scale")
    @classmethod
    def _from_worst_to_best(cls, scale: list[int]) -> list[int]:
        if scale[0] >= scale[1]:
            raise ValueError(f"{scale} should be [worst, best], such as [1, 10]")
        return scale


class ExpandConfig(Section):
    teacher: Text | None = None
    methods: list[Literal["generate", "recombine", "paraphrase"]] | None = None
    target_rows: Annotated[Int, Field(ge=1)] | None = None
    embedder: Text | None = None
    near_duplicate: Float | None = None
    semantic_duplicate: Float | None = None
    seed: Int = 0


class LoraConfig(Section):
    r: Annotated[Int, Field(ge=1)] | None = None
    alpha: Float | None = None
    dropout: Float | None = None
    targets: list[Text] | None = None


class TuneConfig(Section):
    base: Text | None = None
    methods: list[Literal["sft", "dpo"]] | None = None
    rounds: Annotated[Int, Field(ge=1)] = 1
    lora: LoraConfig | None = None
    epochs: Annotated[Float, Field(gt=0)] | None = None
    learning_rate: Annotated[Float, Field(gt=0, le=1)] | None = None
    batch_size: Annotated[Int, Field(ge=1)] | None = None
    max_length: Annotated[Int, Field(ge=1)] | None = None
    precision: Text | None = None
    quantization: Text | None = None
    replay: Float | None = None
    guard: Text | None = None
    cross_fit: Int | None = None
    processes: Int | None = None
    strategy: Text | None = None
    tracking: Text | None = None
    seed: Int = 0


class GateConfig(Section):
    margin: Annotated[Float, Field(ge=0)] = 0.0
    tolerance: Annotated[Float, Field(ge=0)] | None = None
    cost_margin: Annotated[Float, Field(ge=0)] | None = None
    """By what share of the baseline's cost per query the run's may be more; None: it is shown, not judged."""
    latency_margin: Annotated[Float, Field(ge=0)] | None = None
    """The same of its latency, p50 and p95."""
    undecided: Literal["pass", "fail"] = "pass"


class LimitsConfig(Section):
    max_cost_usd: Annotated[Float, Field(ge=0)] = 5.0
    max_gpu_hours: Annotated[Float, Field(gt=0)] | None = None
    timeout_s: Annotated[Float, Field(gt=0)] = 60.0
    concurrency: Annotated[Int, Field(ge=1)] = 64
    max_tries: Annotated[Int, Field(ge=1)] = 8
    min_coverage: Annotated[Float, Field(ge=0, le=1)] = 0.95


class PricesConfig(Section):
    gpu_hour_usd: Annotated[Float, Field(ge=0)] = 2.50
    cpu_hour_usd: Annotated[Float, Field(ge=0)] = 0.10


class ReportConfig(Section):
    examples: Literal["none", "failures", "all"] = "all"
    also: list[Text] = []
    """Reporters of installed packages, package:name, beside report.html and report.md."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What the user requires: `metric` on the side `op` of `bound` (USD for cost_per_query, s for latency)."""

    metric: str
    op: Literal[">=", "<="]
    bound: float

    @property
    def require(self) -> str:
        return f"{self.op} {self.bound:.12g}"


def parse_threshold(metric: str, text: str) -> Threshold:
    found = re.fullmatch(r"\s*(>=|<=)\s*([0-9.eE+-]+)\s*", text)
    if not found:
        raise ValueError('write it as ">= 0.9" or "<= 0.01"')
    try:
        bound = float(found[2])
    except ValueError:
        raise ValueError(f"{found[2]!r} is not a number") from None
    return Threshold(metric, ">=" if found[1] == ">=" else "<=", bound)


def _as_threshold(text: str) -> str:
    parse_threshold("", text)
    return text


class Config(Section):
    task: TaskConfig
    providers: dict[str, ProviderConfig] = {}
    candidates: list[CandidateConfig] = []
    thresholds: dict[str, Annotated[Text, AfterValidator(_as_threshold)]] = {}
    decide: DecideConfig = DecideConfig()
    judge: JudgeConfig | None = None
    expand: ExpandConfig = ExpandConfig()
    tune: TuneConfig = TuneConfig()
    gate: GateConfig = GateConfig()
    limits: LimitsConfig = LimitsConfig()
    prices: PricesConfig = PricesConfig()
    report: ReportConfig = ReportConfig()
    engine: Literal["local", "ray"] = "local"

    @property
    def parsed_thresholds(self) -> tuple[Threshold, ...]:
        return tuple(parse_threshold(metric, text) for metric, text in self.thresholds.items())


# ---------------------------------------------------------------- resolved form, digest


def shown_spec(spec: str) -> str:
    """A model spec as a person would write it: a folder below the working folder relative to it, another one whole."""
    kind, _, rest = spec.partition(":")
    path = Path(os.path.normpath(rest))
    if kind not in ("hf", "file") or not path.is_absolute():
        return spec
    return f"{kind}:{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"


def as_data(config: Config) -> dict[str, Any]:
    """The config as plain JSON-able data, keys that hold nothing left out."""
    data: dict[str, Any] = json.loads(config.model_dump_json(exclude_none=True))
    for key in ("providers", "thresholds", "decide", "expand", "tune", "gate", "report"):
        if not data.get(key):
            data.pop(key, None)
    if data["task"].get("metrics"):
        data["task"]["metrics"] = [
            {spec["name"]: spec["options"]} if spec["options"] else spec["name"] for spec in data["task"]["metrics"]
        ]
    return data


def dump(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def digest(parts: Mapping[str, Any]) -> str:
    """sha256 (hex) of canonical JSON: equal content, equal digest, whatever the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
