"""What the new rows are, for people (a card in Markdown) and for programs (a line of provenance per row)."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalft.expansion.drafts import Draft, Method, Removed, Why
from evalft.records import Example

SAMPLES = 5
MAX_SAMPLE_CHARS = 1_000
METHODS: Mapping[Method, str] = {
    "recombine": "pieces of train inputs put together anew",
    "paraphrase": "train inputs reworded by rules",
    "generate": "inputs written by the teacher after examples of train inputs",
}
REASONS: Mapping[Why, str] = {
    "exact": "repeats a row or an earlier draft",
    "near": "nearly repeats one",
    "semantic": "says the same as one",
    "contaminated": "repeats a test or dev row",
    "invalid": "the answer cannot be used",
    "failed": "there was no answer",
}


@dataclass(frozen=True, slots=True)
class Facts:
    task: str
    train_rows: int
    """The given ones that the new ones were made of."""
    kept: Sequence[tuple[Example, Draft]]
    removed: Sequence[Removed]
    teacher: str | None
    cost_usd: float
    embedder: str
    seed: int
    said: Sequence[str] = ()
    """What was chosen on the way, in plain sentences."""


def card(facts: Facts) -> str:
    """The data card. Texts of rows stand in code blocks, from which no Markdown or HTML in them gets out."""
    made = Counter(draft.method for _, draft in facts.kept)
    gone = Counter(removed.why for removed in facts.removed)
    answered = any(draft.target is None for _, draft in facts.kept)
    teacher = f"`{_line(facts.teacher)}`" if facts.teacher else "none"
    lines = [
        f"# Expanded training rows of {_line(facts.task)}",
        "",
        f"{len(facts.kept):,} new rows, made from {facts.train_rows:,} given train rows. No test or dev row was used to make "
        "them, and none that repeats one was kept.",
        "",
        "| made by | rows |",
        "|---|---|",
        *(f"| {METHODS[method]} | {made[method]:,} |" for method in METHODS if made[method]),
        "",
        "| not kept, since it | drafts |",
        "|---|---|",
        *(f"| {REASONS[why]} | {gone[why]:,} |" for why in REASONS if gone[why]),
        "",
        f"- teacher: {teacher}; cost: ${facts.cost_usd:.4f}",
        f"- duplicates in meaning found with: {_line(facts.embedder)}",
        f"- seed: {facts.seed}",
        *(f"- {_line(said)}" for said in facts.said),
        "",
        "## Licence and limits",
        "",
        "The new rows derive from the given train rows: their licence and whatever they say of persons holds here too.",
    ]
    if facts.teacher and (answered or made["generate"]):
        lines.append(
            "They hold answers of the teacher: the terms of its provider or the licence of its weights say what they may be "
            "used for, training other models included. They are as right as the teacher was; nobody has reviewed them."
        )
    else:
        lines.append("Their targets were kept or changed by rules; nobody has reviewed them.")
    shown = random.Random(facts.seed).sample(range(len(facts.kept)), min(SAMPLES, len(facts.kept)))
    if shown:
        lines += ["", "## Samples", ""]
    for index in sorted(shown):
        example, draft = facts.kept[index]
        target = example.target if isinstance(example.target, str) else json.dumps(example.target, ensure_ascii=False)
        text = f"input:  {_shown(str(example.input))}\ntarget: {_shown(target)}"
        fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 3)
        lines += [f"{example.id}, {draft.method}:", "", fence + "text", text, fence, ""]
    return "\n".join(lines).rstrip() + "\n"


def provenance(example: Example, draft: Draft, *, teacher: str | None, cost_usd: float) -> Mapping[str, object]:
    """One line of the provenance file: where a new row comes from. `teacher` is None where a rule gave the target."""
    return {
        "id": example.id,
        "method": draft.method,
        "parents": list(draft.parents),
        "teacher": teacher,
        "cost_usd": cost_usd,
        "input_sha256": hashlib.sha256(str(example.input).encode("utf-8", "surrogatepass")).hexdigest(),
    }


def _shown(text: str) -> str:
    visible = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
    return visible if len(visible) <= MAX_SAMPLE_CHARS else visible[:MAX_SAMPLE_CHARS] + " ..."


def _line(text: str) -> str:
    """Text outside a code block: one line, of which Markdown makes nothing."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(_shown(text).split()))
