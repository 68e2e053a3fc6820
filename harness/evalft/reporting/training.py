"""What `evalft run` did between two verdicts: the rows it made, the stages it trained, the training that still waits.

From summary.json and manifest.json; what is not in them is not said and not drawn. Numbers become text here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalft import numbers
from evalft.reporting import text
from evalft.reporting.candidates import Measure, tagged

MAX_CHARACTERS = 1000
"""Of one side of a sample row."""
METHODS = {"none": "untuned base", "sft": "supervised fine-tuning (LoRA)", "dpo": "preference optimisation (LoRA, DPO)"}
REMOVED = {
    "exact": "the same text as another row",
    "near": "nearly the same words as another row",
    "semantic": "the same meaning as another row, by the embedder",
    "contaminated": "too close to a row of test or dev",
    "invalid": "the answer did not pass the checks of this task",
    "failed": "the teacher gave no answer",
}


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    method: str
    chosen: bool
    dev: tuple[Measure | None, ...]
    """One per metric of `Stages.metrics`; None where it was not measured."""
    trained_on: str
    settings: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stages:
    metrics: tuple[str, ...]
    rows: tuple[Stage, ...]
    dev_rows: str
    """ "60 dev rows", or "dev" where their number is not known."""
    choice: str
    """Which stage was chosen and what that means; empty where none is chosen yet."""
    notes: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Expansion:
    counts: tuple[tuple[str, str, str], ...]
    """What, how many rows, what it means: from the drafts to the rows trained on."""
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    samples: tuple[tuple[str, str], ...]
    samples_note: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Training that this machine was not asked to do."""

    sentence: str
    commands: tuple[str, ...]


def waiting(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> Waiting | None:
    if (manifest.get("stages") or {}).get("tune") != "waiting":
        return None
    found = summary.get("waiting") or {}
    why = f": {found['why']}" if found.get("why") else "."
    return Waiting(f"Training has not been done{why}", tuple(str(command) for command in found.get("commands") or ()))


# ---------------------------------------------------------------- stages


def stages(summary: Mapping[str, Any]) -> Stages | None:
    found: list[Mapping[str, Any]] = summary.get("stages") or []
    if not found:
        return None
    metrics = tuple(dict.fromkeys(metric for stage in found for metric in stage["dev"]))
    n = next((range_["n"] for stage in found for range_ in stage["dev"].values() if range_.get("n")), None)
    dev_rows = _rows(n, "dev row") if n else "dev"
    choice = _choice(found)
    return Stages(
        metrics=metrics,
        rows=tuple(_stage(stage, metrics) for stage in found),
        dev_rows=dev_rows,
        choice=choice,
        notes=tuple(str(note) for note in summary.get("stage_notes") or ()),
        sentence=" ".join(part for part in (_trained(found), _on_dev(found, metrics, dev_rows), choice) if part),
    )


def trained(summary: Mapping[str, Any]) -> bool:
    """Whether something was trained, whatever came of it."""
    return any(stage["method"] != "none" for stage in summary.get("stages") or ())


def _stage(stage: Mapping[str, Any], metrics: Sequence[str]) -> Stage:
    training: Mapping[str, Any] = stage.get("training") or {}
    return Stage(
        name=str(stage["name"]),
        method=METHODS.get(stage["method"], str(stage["method"])),
        chosen=bool(stage["chosen"]),
        dev=tuple(_measure(metric, stage["dev"].get(metric)) for metric in metrics),
        trained_on=_trained_on(stage),
        settings=_settings(training),
        choices=tuple(str(choice) for choice in training.get("choices") or ()),
    )


def _measure(metric: str, found: Mapping[str, Any] | None) -> Measure | None:
    if not found or found["value"] is None:
        return None
    unit = numbers.unit_of(metric)
    return Measure(
        name=metric,
        value=numbers.number(found["value"], unit),
        interval=numbers.interval(found["value"], found["low"], found["high"], unit),
        method=str(found.get("method") or "").replace("_", " "),
    )


def _trained_on(stage: Mapping[str, Any]) -> str:
    """ "300 rows, 5 epochs"; what is not known is left out."""
    training = stage.get("training") or {}
    pairs = training.get("pairs", training.get("rows") if stage["method"] == "dpo" else None)
    parts = []
    if pairs is not None:
        parts.append(_rows(pairs, "pair"))
    elif training.get("rows") is not None:
        parts.append(_rows(training["rows"], "row"))
    if training.get("epochs") is not None:
        epochs = training["epochs"]
        parts.append(f"{numbers.count(epochs)} epoch{'' if epochs == 1 else 's'}")
    return ", ".join(parts)


def _settings(training: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    lora = training.get("lora") or {}
    targets = lora.get("targets")
    shown: dict[str, Any] = {
        "left out (too long, or empty)": training.get("left_out"),
        "steps": training.get("steps"),
        "learning rate": training.get("learning_rate"),
        "batch size": training.get("batch_size"),
        "longest row, tokens": training.get("max_length"),
        "LoRA rank r": lora.get("r"),
        "LoRA alpha": lora.get("alpha"),
        "LoRA dropout": lora.get("dropout"),
        "LoRA targets": ", ".join(map(str, targets)) if isinstance(targets, list | tuple) else targets,
        "trainable parameters": training.get("trainable_parameters"),
        "precision": training.get("precision"),
        "device": training.get("device"),
        "processes": training.get("processes"),
        "seed": training.get("seed"),
    }
    facts = [(name, _plain(value)) for name, value in shown.items() if value is not None]
    if training.get("seconds") is not None:
        facts.append(("time", numbers.seconds(training["seconds"])))
    facts += [
        (name, numbers.number(training[key], "score"))
        for key, name in {"loss_first": "first loss", "loss_last": "last loss"}.items()
        if training.get(key) is not None
    ]
    if training.get("reference_gap") is not None:
        gap = numbers.count(training["reference_gap"])
        facts.append(("largest gap of log-probabilities to the reference before the first step", gap))
    return tuple(facts)


def _trained(found: Sequence[Mapping[str, Any]]) -> str:
    tuned = [stage for stage in found if stage["method"] != "none"]
    if not tuned:
        return ""
    named = [f"{stage['name']} ({on})" if (on := _trained_on(stage)) else str(stage["name"]) for stage in tuned]
    return f"{', then '.join(named)}."


def _on_dev(found: Sequence[Mapping[str, Any]], metrics: Sequence[str], dev_rows: str) -> str:
    if not metrics:
        return ""
    measures = {str(stage["name"]): _measure(metrics[0], stage["dev"].get(metrics[0])) for stage in found}
    values = [f"{name} {measure.value}" for name, measure in measures.items() if measure]
    return f"On {dev_rows}, {metrics[0]}: {', '.join(values)}." if values else ""


def _choice(found: Sequence[Mapping[str, Any]]) -> str:
    chosen = next((stage for stage in found if stage["chosen"]), None)
    if chosen is None:
        return ""
    if chosen["method"] != "none":
        return f"Chosen on dev: {chosen['name']}; the test rows were not used to choose."
    if len(found) == 1:
        return ""
    return "Training did not help on dev: the untuned base was chosen, and nothing tuned was scored on the test rows."


# ---------------------------------------------------------------- expansion


def expansion(summary: Mapping[str, Any], tags: Mapping[str, tuple[str, ...]]) -> Expansion | None:
    """tags: what has to be known of each candidate, by name."""
    found: Mapping[str, Any] = summary.get("expansion") or {}
    if not found:
        return None
    hidden = summary.get("report_examples") == "none" and bool(found.get("samples"))
    samples = () if hidden else found.get("samples") or ()
    return Expansion(
        counts=_counts(found),
        facts=_facts(found, tags),
        notes=tuple(str(note) for note in found.get("notes") or ()),
        samples=tuple((_sample(sample["input"]), _sample(sample["target"])) for sample in samples),
        samples_note="Samples are not shown: report.examples is none." if hidden else "",
        sentence=_made(found, tags),
    )


def _made(found: Mapping[str, Any], tags: Mapping[str, tuple[str, ...]]) -> str:
    """How the training rows came about, in one sentence."""
    parts = []
    generated, given, teacher = found.get("generated"), found.get("train_rows"), found.get("teacher")
    if generated is not None:
        methods = f" by {', '.join(map(str, found['methods']))}" if found.get("methods") else ""
        source = f" from {_rows(given, 'train row')}" if given is not None else ""
        made = f"{_rows(generated, 'new row')} made{methods}{source}"
        by = f", answered by {tagged(str(teacher), tags.get(str(teacher), ()))}" if teacher else ""
        parts.append(made + (by or (", without a teacher" if "teacher" in found else "")))
    if found.get("total") is not None:
        parts.append(f"{_rows(found['total'], 'row')} to train on")
    return "; ".join(parts) + "." if parts else ""


def _counts(found: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    removed = found.get("removed") or {}
    rows = [
        ("train rows removed", found.get("train_removed"), REMOVED["contaminated"]),
        ("train rows", found.get("train_rows"), "those that are left"),
        ("inputs drafted", found.get("drafted"), "new inputs, before any check"),
        ("answers asked of the teacher", found.get("asked"), ""),
        *((f"removed: {why}", count, REMOVED.get(why, "")) for why, count in removed.items()),
        ("new rows", found.get("generated"), "drafts that were kept"),
        ("rows to train on", found.get("total"), "train rows and new rows"),
    ]
    return tuple((name, f"{count:,}", meaning) for name, count, meaning in rows if count is not None)


def _facts(found: Mapping[str, Any], tags: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    teacher, agrees = found.get("teacher"), found.get("teacher_agrees") or {}
    facts = []
    if found.get("methods"):
        facts.append(("methods", ", ".join(map(str, found["methods"]))))
    if "teacher" in found:
        facts.append(("teacher", tagged(str(teacher), tags.get(str(teacher), ())) if teacher else "none"))
    if agrees.get("rows"):
        share = numbers.percent(agrees["right"], agrees["rows"])
        by = f" by {agrees['metric']}" if agrees.get("metric") else ""
        facts.append(
            ("teacher on the train rows", f"{agrees['right']:,} of {_rows(agrees['rows'], 'row')} right{by} ({share})")
        )
    if found.get("embedder"):
        facts.append(("embedder", str(found["embedder"])))
    if found.get("cost_usd") is not None:
        facts.append(("cost", numbers.usd(found["cost_usd"])))
    return tuple(facts)


def _sample(given: Any) -> str:
    """A text, a list of labels, or the messages of a chat."""
    if isinstance(given, list):
        chat = any(isinstance(item, Mapping) for item in given)
        given = "\n".join(f"{m['role']}: {m['content']}" for m in given) if chat else ", ".join(map(str, given))
    return text.shortened(str(given), MAX_CHARACTERS)


# ---------------------------------------------------------------- words


def _rows(count: float, unit: str) -> str:
    return f"{numbers.count(count)} {unit}{'' if count == 1 else 's'}"


def _plain(value: object) -> str:
    return numbers.count(value) if isinstance(value, int | float) else str(value)
