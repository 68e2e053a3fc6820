"""evalft.yaml -> Config: config is data, every fault is reported at once with its line, nothing is guessed.

The reader is YAML 1.2 in spirit: only `true` and `false` are booleans, `012` and `1_000` stay text, a key given twice is
an error. Text fields keep what the file says (`labels: [1.10, yes, 012]` are three strings). Keys (secrets) never stand
in a config: only the name of the environment variable does.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from evalft import yaml_data
from evalft.errors import UserError
from evalft.records import TaskType
from evalft.yaml_data import Number, Place, WrittenInt, dotted

PROVIDER_KINDS = ("openai", "hf", "file", "fake")


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
        raise ValueError(f'{metric}: {text!r} is not of the form ">= 0.9" or "<= 0.01"')
    try:
        bound = float(found[2])
    except ValueError:
        raise ValueError(f"{metric}: {found[2]!r} is not a number") from None
    return Threshold(metric, ">=" if found[1] == ">=" else "<=", bound)


class Config(Section):
    task: TaskConfig
    providers: dict[str, ProviderConfig] = {}
    candidates: list[CandidateConfig] = []
    thresholds: dict[str, Text] = {}
    decide: DecideConfig = DecideConfig()
    judge: JudgeConfig | None = None
    expand: ExpandConfig = ExpandConfig()
    tune: TuneConfig = TuneConfig()
    gate: GateConfig = GateConfig()
    limits: LimitsConfig = LimitsConfig()
    prices: PricesConfig = PricesConfig()
    report: ReportConfig = ReportConfig()
    engine: Literal["local", "ray"] = "local"

    @field_validator("thresholds")
    @classmethod
    def _thresholds_parse(cls, thresholds: dict[str, str]) -> dict[str, str]:
        for metric, text in thresholds.items():
            parse_threshold(metric, text)
        return thresholds

    @property
    def parsed_thresholds(self) -> tuple[Threshold, ...]:
        return tuple(parse_threshold(metric, text) for metric, text in self.thresholds.items())


# ---------------------------------------------------------------- loading


def load(path: Path, overrides: Sequence[str] = (), extra: Mapping[str, Any] | None = None) -> Config:
    """Read evalft.yaml. `overrides` are `dotted.key=YAML value`; `extra` replaces or adds whole values by dotted key
    (what other command-line options said). Raises UserError with every fault, each with its line and nearest key."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `evalft init` writes one") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the evalft.yaml in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    data, lines = yaml_data.parse(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a mapping of sections such as `task:`; `evalft init` writes an example")
    return build(data, source=str(path), folder=path.parent, lines=lines, overrides=overrides, extra=extra)


def build(
    data: dict[str, Any],
    *,
    source: str,
    folder: Path,
    lines: Mapping[Place, int] | None = None,
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Config:
    """A Config from plain data; paths in it are resolved against `folder`."""
    said = dict(lines or {})
    for key, value in (extra or {}).items():
        _put(data, key.split("."), value, f"option {key}")
    for override in overrides:
        _apply_override(data, override, said)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise UserError(*_faults(error, data, source, said)) from None
    faults = _cross_checks(config, source, said)
    if faults:
        raise UserError(*faults)
    return _with_absolute_paths(config, folder)


def _apply_override(data: dict[str, Any], override: str, said: dict[Place, int]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: write --set key=value, for example --set limits.timeout_s=30")
    template = text.lstrip().startswith(("{{", "{%"))  # a prompt, which YAML would read as a mapping in a mapping
    value = text if template else yaml_data.parse(text, f"--set {key}")[0]
    parts = key.strip().split(".")
    _put(data, parts, value, f"--set {key}")
    place = tuple(int(part) if part.isdigit() else part for part in parts)
    for end in range(1, len(place)):
        said.setdefault(place[:end], 0)  # a section that no line of the file opens
    for known in [known for known in said if known[: len(place)] == place]:
        del said[known]
    said[place] = 0  # line 0: named on the command line


def _put(data: Any, parts: Sequence[str], value: Any, said_by: str) -> None:
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(data, list):
            if not part.isdigit() or int(part) >= len(data):
                names = f"an index from 0 to {len(data) - 1}" if data else "nothing: the list is empty"
                raise UserError(f"{said_by}: {dotted(parts[:depth])} is a list; {part!r} should be {names}")
            if last:
                data[int(part)] = value
            else:
                data = data[int(part)]
        elif isinstance(data, dict):
            if last:
                data[part] = value
            else:
                if data.get(part) is None:
                    data[part] = {}
                data = data[part]
        else:
            raise UserError(f"{said_by}: {dotted(parts[:depth])} is a value, not a section")


def _faults(error: ValidationError, data: object, source: str, lines: Mapping[Place, int]) -> list[str]:
    return [_fault(dict(fault), data, source, lines) for fault in error.errors(include_url=False)]


def _fault(fault: dict[str, Any], data: object, source: str, lines: Mapping[Place, int]) -> str:
    place: Place = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "literal[")))
    where = _where(place, source, lines)
    key = dotted(place)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys_at(place[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(_keys_at(place[:-1]))}"
        return f"{where}: unknown key {key!r}; {hint}"
    if fault["type"] == "missing":
        return f"{where}: key {key!r} is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = _shown(fault.get("input"))
    return f"{where}: {key}: {message}{given}" if key else f"{where}: {message}{given}"


def _shown(value: object) -> str:
    if isinstance(value, str) and holds_password(value):
        return ""
    if value is None or isinstance(value, dict | list):
        return ""
    return f" (it is {str(value)[:60]!r})"


def _where(place: Place, source: str, lines: Mapping[Place, int]) -> str:
    for end in range(len(place), -1, -1):
        line = lines.get(place[:end])
        if line == 0:
            return "--set"
        if line is not None:
            return f"{source}:{line}"
    return source


def _keys_at(place: Place) -> list[str]:
    """The keys that the section at `place` knows, read from the models."""
    model: Any = Config
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            continue
        model = next((found for found in _models_in(field.annotation)), None)
    return list(model.model_fields) if model is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _cross_checks(config: Config, source: str, lines: Mapping[Place, int]) -> list[str]:
    faults = []
    known = [*PROVIDER_KINDS, *config.providers]
    for name in config.providers:
        if name in PROVIDER_KINDS:
            faults.append(
                f"{_where(('providers', name), source, lines)}: provider name {name!r} is taken; choose another"
            )
    seen: dict[str, int] = {}
    for i, candidate in enumerate(config.candidates):
        where = _where(("candidates", i), source, lines)
        if candidate.provider not in known:
            near = difflib.get_close_matches(candidate.provider, known, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"add it under `providers:` (known: {', '.join(k for k in known if k != 'fake')})"
            )
            faults.append(f"{where}: candidates.{i}.model: provider {candidate.provider!r} is not known; {hint}")
        if candidate.name in seen:
            faults.append(
                f"{where}: candidates.{i}: the name {candidate.name!r} is taken by candidates.{seen[candidate.name]}; "
                "give one of them a `name:`"
            )
        seen.setdefault(candidate.name, i)
        for key in _without_effect(candidate):
            if candidate.provider == "file":
                why = "a file of answers is not asked anything"
            else:
                why = f"only {'a model that is asked over an API' if candidate.provider == 'hf' else 'an hf: model'} takes it"
            faults.append(f"{where}: candidates.{i}.{key}: {why}; remove it")
        if not isinstance((candidate.extra_body or {}).get("chat_template_kwargs", {}), dict):
            faults.append(f"{where}: candidates.{i}.extra_body.chat_template_kwargs: is a mapping of options")
        for key, instead in _overridden(candidate):
            faults.append(f"{where}: candidates.{i}.extra_body.{key}: evalft sends it itself; {instead}")
        if candidate.mode == "batch":
            if candidate.provider in ("hf", "fake"):
                faults.append(
                    f"{where}: candidates.{i}.mode: only a model that is asked over an API takes batch; remove it"
                )
            for metric in config.thresholds:
                if metric.startswith("latency_"):
                    faults.append(
                        f"{_where(('thresholds', metric), source, lines)}: thresholds.{metric}: {candidate.name} is asked in "
                        "batches (mode: batch), which say nothing of its latency; ask it live, or remove the threshold"
                    )
        if candidate.samples > 1 and candidate.temperature == 0:
            faults.append(
                f"{where}: candidates.{i}: samples: {candidate.samples} at temperature 0 asks the same question again; "
                "set temperature"
            )
    if config.engine == "ray":
        faults.append(f"{_where(('engine',), source, lines)}: engine: ray is not available in this version; use local")
    faults += _judge_faults(config, known, source, lines)
    if config.tune.base and not config.tune.base.startswith("hf:"):
        faults.append(
            f"{_where(('tune', 'base'), source, lines)}: tune.base: {config.tune.base!r} cannot be trained; only an open "
            "model can: hf:ID or hf:FOLDER"
        )
    if (config.expand.teacher or "").startswith("file:"):
        faults.append(
            f"{_where(('expand', 'teacher'), source, lines)}: expand.teacher: a file of answers cannot be asked; name a model"
        )
    if "generate" in (config.expand.methods or ()) and not config.expand.teacher:
        faults.append(
            f"{_where(('expand', 'methods'), source, lines)}: expand.methods: generate needs a model that writes: "
            "expand.teacher"
        )
    for key in ("quantization", "replay", "guard", "cross_fit", "strategy", "tracking"):
        if getattr(config.tune, key) is not None:
            faults.append(
                f"{_where(('tune', key), source, lines)}: tune.{key}: not available in this version; remove it"
            )
    for key in ("error_cost_usd", "ladder", "pilot", "sequential"):
        if getattr(config.decide, key):
            faults.append(
                f"{_where(('decide', key), source, lines)}: decide.{key}: not available in this version; remove it"
            )
    return faults


SENT_FIELDS = {
    **{key: key for key in ("model", "max_tokens", "temperature", "top_p", "stop", "seed", "reasoning_effort")},
    "max_completion_tokens": "max_tokens",
    "n": "samples",
}
"""Fields of a request by the setting that decides them. In extra_body they would win over it, and over what is
reserved for an answer under the dollar cap."""


def _overridden(candidate: CandidateConfig) -> list[tuple[str, str]]:
    """(key of extra_body that would override what evalft sends, what to do instead)."""
    found = []
    for key in candidate.extra_body or {}:
        if key in SENT_FIELDS:
            found.append((key, f"set the candidate's {SENT_FIELDS[key]}"))
        elif key in ("messages", "stream", "logprobs", "top_logprobs"):
            found.append((key, "remove it"))
    return found


def _without_effect(candidate: CandidateConfig) -> list[str]:
    """Settings that would be read by nothing: an answer would seem to be asked for with them."""
    given = candidate.model_dump(exclude_defaults=True)
    if candidate.provider == "file":
        return [key for key in given if key not in ("name", "model", "price")]
    if candidate.provider == "hf":
        return [key for key in ("reasoning_effort",) if key in given]
    return [key for key in ("adapter", "revision", "num_beams", "dtype", "device") if key in given]


def _judge_faults(config: Config, known: Sequence[str], source: str, lines: Mapping[Place, int]) -> list[str]:
    """The section and the metric belong together."""
    measured = "judge" in config.thresholds or any(spec.name == "judge" for spec in config.task.metrics or ())
    if config.judge is None:
        where = _where(("thresholds", "judge") if "judge" in config.thresholds else ("task", "metrics"), source, lines)
        return [f"{where}: judge: needs to know who judges: judge.model, such as openai:gpt-5"] if measured else []
    where = _where(("judge",), source, lines)
    faults = [
        f"{where}: judge.model: provider {judge.provider!r} is not known; add it under `providers:`"
        for judge in config.judge.model
        if judge.provider not in known
    ]
    faults += [
        f"{where}: judge.model: {judge.model}: a file of answers cannot be asked; name a model"
        for judge in config.judge.model
        if judge.provider == "file"
    ]
    if not measured:
        faults.append(f"{where}: judge: nothing is judged; add `judge` to task.metrics, or remove the section")
    return faults


# ---------------------------------------------------------------- paths, resolved form, digest


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    def data_path(path: str | None) -> str | None:
        if path is not None and path.startswith("hf:"):  # a hub id, unless there is such a folder beside the config
            name, colon, split = path[3:].partition(":")
            return f"hf:{(folder / name).absolute()}{colon}{split}" if name and (folder / name).is_dir() else path
        return None if path is None else str((folder / Path(path).expanduser()).absolute())

    def model_spec(spec: str | None) -> str | None:
        """`hf:base` is the folder `base` beside the config where there is one, else a hub id; `file:` is a file."""
        if spec is not None and spec.startswith("file:"):
            return f"file:{os.path.abspath(folder / Path(spec[5:]).expanduser())}"
        if spec is None or not spec.startswith("hf:"):
            return spec
        path = folder / Path(spec[3:]).expanduser()
        return f"hf:{path.absolute()}" if path.is_dir() or spec[3:].startswith((".", "/", "~")) else spec

    task = config.task
    paths = {name: data_path(getattr(task, name)) or getattr(task, name) for name in ("test", "train", "dev")}

    def absolute(candidate: CandidateConfig) -> CandidateConfig:
        return candidate.model_copy(
            update={
                "model": model_spec(candidate.model),
                "adapter": (model_spec(f"hf:{candidate.adapter}") or "")[3:] if candidate.adapter else None,
            }
        )

    judge = config.judge
    if judge is not None:
        judges = [absolute(one) for one in judge.model]
        judge = judge.model_copy(update={"model": judges, "human": data_path(judge.human)})
    return config.model_copy(
        update={
            "task": task.model_copy(update=paths),
            "candidates": [absolute(candidate) for candidate in config.candidates],
            "judge": judge,
            "tune": config.tune.model_copy(update={"base": model_spec(config.tune.base)}),
            "expand": config.expand.model_copy(
                update={
                    "teacher": model_spec(config.expand.teacher),
                    "embedder": model_spec(config.expand.embedder),
                }
            ),
        }
    )


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
