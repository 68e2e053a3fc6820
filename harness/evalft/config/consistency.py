"""What sections say of each other: each may be right and the whole still not be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence

from evalft.config.sections import PROVIDER_KINDS, CandidateConfig, Config

Where = Callable[..., str]
"""The parts of a key -> file:line where it stands."""


def faults(config: Config, where: Where) -> list[str]:
    """Every fault, each `file:line: key: what is wrong; what to do`."""
    known = [*PROVIDER_KINDS, *config.providers]
    return [
        *(
            f"{where('providers', name)}: provider name {name!r} is taken; choose another"
            for name in config.providers
            if name in PROVIDER_KINDS
        ),
        *(line for i in range(len(config.candidates)) for line in _candidate_faults(config, i, known, where)),
        *_judge_faults(config, known, where),
        *_training_faults(config, where),
        *_not_available(config, where),
    ]


def _candidate_faults(config: Config, i: int, known: Sequence[str], where: Where) -> Iterator[str]:
    candidate, key = config.candidates[i], f"{where('candidates', i)}: candidates.{i}"
    if candidate.provider not in known:
        near = difflib.get_close_matches(candidate.provider, known, n=1)
        listed = ", ".join(name for name in known if name != "fake")
        hint = f"did you mean {near[0]!r}?" if near else f"add it under `providers:` (known: {listed})"
        yield f"{key}.model: provider {candidate.provider!r} is not known; {hint}"
    first = [one.name for one in config.candidates].index(candidate.name)
    if first < i:
        yield f"{key}: the name {candidate.name!r} is taken by candidates.{first}; give one of them a `name:`"
    for setting in _without_effect(candidate):
        who = "a model that is asked over an API" if candidate.provider == "hf" else "an hf: model"
        why = "a file of answers is not asked anything" if candidate.provider == "file" else f"only {who} takes it"
        why = "a plug-in does not take it" if candidate.provider == "plugin" else why
        yield f"{key}.{setting}: {why}; remove it"
    if not isinstance((candidate.extra_body or {}).get("chat_template_kwargs", {}), dict):
        yield f"{key}.extra_body.chat_template_kwargs: is a mapping of options"
    for field, instead in _overridden(candidate):
        yield f"{key}.extra_body.{field}: evalft sends it itself; {instead}"
    if candidate.mode == "batch" and candidate.provider in ("hf", "fake", "plugin"):
        yield f"{key}.mode: only a model that is asked over an API takes batch; remove it"
    for metric in config.thresholds:
        if candidate.mode == "batch" and metric.startswith("latency_"):
            yield (
                f"{where('thresholds', metric)}: thresholds.{metric}: {candidate.name} is asked in batches (mode: batch), "
                "which say nothing of its latency; ask it live, or remove the threshold"
            )
    if candidate.samples > 1 and candidate.temperature == 0:
        yield f"{key}: samples: {candidate.samples} at temperature 0 asks the same question again; set temperature"


def _training_faults(config: Config, where: Where) -> Iterator[str]:
    if config.tune.base and not config.tune.base.startswith("hf:"):
        yield (
            f"{where('tune', 'base')}: tune.base: {config.tune.base!r} cannot be trained; only an open model can: hf:ID or "
            "hf:FOLDER"
        )
    if (config.expand.teacher or "").startswith("plugin:"):
        yield f"{where('expand', 'teacher')}: expand.teacher: a plug-in is a candidate only; name a model"
    if (config.expand.teacher or "").startswith("file:"):
        yield f"{where('expand', 'teacher')}: expand.teacher: a file of answers cannot be asked; name a model"
    if "generate" in (config.expand.methods or ()) and not config.expand.teacher:
        yield f"{where('expand', 'methods')}: expand.methods: generate needs a model that writes: expand.teacher"


def _not_available(config: Config, where: Where) -> Iterator[str]:
    if config.engine == "ray":
        yield f"{where('engine')}: engine: ray is not available in this version; use local"
    for key in ("quantization", "replay", "guard", "cross_fit", "strategy", "tracking"):
        if getattr(config.tune, key) is not None:
            yield f"{where('tune', key)}: tune.{key}: not available in this version; remove it"
    for key in ("error_cost_usd", "ladder", "pilot", "sequential"):
        if getattr(config.decide, key):
            yield f"{where('decide', key)}: decide.{key}: not available in this version; remove it"


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
    if candidate.provider == "plugin":
        untaken = ("adapter", "revision", "num_beams", "dtype", "device", "reasoning_effort", "price")
        return [key for key in untaken if key in given]
    return [key for key in ("adapter", "revision", "num_beams", "dtype", "device") if key in given]


def _judge_faults(config: Config, known: Sequence[str], where: Where) -> list[str]:
    """The section and the metric belong together."""
    measured = "judge" in config.thresholds or any(spec.name == "judge" for spec in config.task.metrics or ())
    if config.judge is None:
        at = where("thresholds", "judge") if "judge" in config.thresholds else where("task", "metrics")
        return [f"{at}: judge: needs to know who judges: judge.model, such as openai:gpt-5"] if measured else []
    at = where("judge")
    faults = [
        f"{at}: judge.model: provider {judge.provider!r} is not known; add it under `providers:`"
        for judge in config.judge.model
        if judge.provider not in known
    ]
    faults += [
        f"{at}: judge.model: {judge.model}: a file of answers cannot be asked; name a model"
        for judge in config.judge.model
        if judge.provider == "file"
    ]
    faults += [
        f"{at}: judge.model: {judge.model}: a plug-in is a candidate only; name a model"
        for judge in config.judge.model
        if judge.provider == "plugin"
    ]
    if not measured:
        faults.append(f"{at}: judge: nothing is judged; add `judge` to task.metrics, or remove the section")
    return faults
