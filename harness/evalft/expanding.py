"""Train rows -> more train rows: drafts of new inputs, filtered, answered by the teacher, checked, written down.

An input is filtered before the teacher is paid for it. Drafts come in a fixed order and answers are on disk as they
arrive, so the same command goes on after a kill to the same rows. Test and dev rows are never read from, only kept away
from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from evalft import planning, scoring, token_counts
from evalft.asking import Job, ask
from evalft.config import CandidateConfig, Config, MetricSpec, ShotsConfig, TaskConfig
from evalft.errors import UserError
from evalft.expansion import (
    contamination,
    data_card,
    deduplication,
    embedding,
    paraphrase,
    recombine,
    self_instruct,
    validation,
)
from evalft.expansion.drafts import Draft, Removed, can_expand, example_of
from evalft.expansion.validation import Target
from evalft.preparing import Prepared, requests_for
from evalft.prices import TokenPrice, hour_price, token_price
from evalft.progress import Progress
from evalft.prompts import Request
from evalft.records import Example, Failure, Outcome, Prediction, Usage
from evalft.testset import TestSet

CHECKED_ROWS = 50
"""Train rows that the teacher is tried on first."""
LEAST_AGREEMENT = 0.5
DRAFTS_PER_ROW = 20
"""How many drafts are looked at for each row that is wanted, before what was found has to do."""
INPUTS_PER_REQUEST = 10


def expand(prepared: Prepared, progress: Progress) -> list[Example]:
    """The rows to train on: the run's train rows without those that test or dev hold, and the generated ones. Raises
    UserError, Unfinished."""
    folder, config = prepared.folder, prepared.own_config
    if not folder.file("expansion").is_file():
        folder.stage("expand", "running")
        _Expansion(prepared, progress).run()
    folder.stage("expand", "done")
    facts = folder.read_json("expansion")
    gone = set(facts["train_removed_ids"])
    rows = [row for row in prepared.data.train if row.id not in gone] + folder.read_examples("expanded")
    progress.say([_said(facts, config)])
    return rows


def teacher_of(config: Config) -> CandidateConfig | None:
    """The candidate with the teacher's model, as it is scored; else the model alone. Raises UserError where its price is
    not known."""
    spec = config.expand.teacher
    if spec is None:
        return None
    same = next((one for one in config.candidates if spec in (one.model, one.name)), None)
    if same and same.provider == "file":
        raise UserError(f"expand.teacher: {same.name} is a file of answers, which cannot be asked; name a model")
    found = (same or CandidateConfig(model=spec, name=spec)).model_copy(update={"samples": 1})
    try:
        _price(found, config)
    except UserError:
        raise UserError(
            f"expand.teacher: the price of {spec} is not known; name it among the candidates with its price, "
            f"{{model: {spec}, price: {{input: 0.20, output: 0.60}}}} (USD per million tokens)"
        ) from None
    return found


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """What an expansion asks the teacher, predicted before anything is."""

    teacher: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    """None: it runs here."""


def teacher_plan(config: Config, data: TestSet) -> TeacherPlan | None:
    """Train rows to try it on, requests that write twice the inputs that are wanted (half of them are taken to be
    dropped), and an answer to each input that is kept. None without a teacher, or where no rows are wanted."""
    teacher, train = teacher_of(config), list(data.train)
    wanted = max(0, (config.expand.target_rows or planning.DEFAULT_TARGET_ROWS) - len(train))
    if teacher is None or not train or not wanted:
        return None
    checked = train[:CHECKED_ROWS]
    answering = requests_for(config, teacher, checked, train=train)
    per_answer_in = token_counts.of_requests(answering) / len(checked)
    per_answer_out = planning.predicted_output(config.task, checked) / len(checked)
    if planning.is_reasoning(teacher):
        per_answer_out += planning.max_tokens(teacher, config.task, train) / 4
    answers = len(checked) + wanted
    writing: list[Request] = []
    written = 0.0
    if "generate" in (config.expand.methods or ["generate"]):
        planned = self_instruct.plan(
            train, config.task, count=2 * wanted, per_request=INPUTS_PER_REQUEST, seed=config.expand.seed
        )
        writing = [Request("", i, 0, messages) for i, (messages, _) in enumerate(planned)]
        written = 2 * wanted * sum(token_counts.estimate(str(row.input)) for row in checked) / len(checked)
    tokens_in = round(per_answer_in * answers + token_counts.of_requests(writing))
    tokens_out = round(per_answer_out * answers + written)
    price = _price(teacher, config)
    usd = price.cost_usd(Usage(tokens_in, tokens_out)) if isinstance(price, TokenPrice) else None
    return TeacherPlan(teacher.name, answers + len(writing), tokens_in, tokens_out, usd)


def _said(facts: Mapping[str, Any], config: Config) -> str:
    made = f"{facts['train_rows']:,} train rows and {facts['generated']:,} generated ones"
    removed = ", ".join(f"{count:,} {why}" for why, count in facts["removed"].items() if count)
    return f"to train on: {made}" + (f" (drafts removed: {removed})" if removed else "")


class _Expansion:
    """One expansion: what was found so far, and the filters it went through."""

    def __init__(self, prepared: Prepared, progress: Progress) -> None:
        self.prepared, self.progress = prepared, progress
        self.folder, self.config, self.task = prepared.folder, prepared.own_config, prepared.own_config.task
        self.notes: list[str] = []
        self.removed: list[Removed] = []
        self.cost_usd = 0.0
        held = {"test": prepared.data.test, "dev": prepared.data.dev}
        self.contamination = contamination.Contamination(held)
        self.train, self.train_removed = self._clean_train()
        self.by_id = {row.id: row for row in self.train}
        self.made: list[tuple[Draft, Example]] = []
        self.asked: list[tuple[Draft, Example]] = []
        self.drafted = 0

    def run(self) -> None:
        target_rows = self.config.expand.target_rows or planning.DEFAULT_TARGET_ROWS
        wanted = max(0, target_rows - len(self.train))
        reason = can_expand(self.train) if wanted else f"expand.target_rows is {target_rows:,}, and so many there are"
        teacher = teacher_of(self.config)
        agreement = None
        if reason:
            self._note(f"no rows were generated: {reason}")
            wanted = 0
        elif teacher:
            agreement = self._agreement(teacher)
            if agreement["right"] < LEAST_AGREEMENT * agreement["rows"]:
                self._note(
                    f"the teacher {teacher.name} is not used: it agrees with only {agreement['right']:g} of "
                    f"{agreement['rows']} train rows ({agreement['metric']}); name another at expand.teacher"
                )
                wanted = 0
        name = None
        if wanted:
            name = self._fill(wanted, teacher)
            if len(self.made) < wanted:
                remedy = (
                    "give more train rows" if teacher else "name a teacher (expand.teacher), or give more train rows"
                )
                self._note(f"only {len(self.made):,} of the {wanted:,} rows wanted could be made; {remedy}")
        self._write(teacher, agreement, name)

    # ------------------------------------------------------------ steps

    def _clean_train(self) -> tuple[list[Example], list[tuple[Example, str]]]:
        kept, gone = [], []
        for row in self.prepared.data.train:
            leak = self.contamination.against(contamination.text_of(row.input))
            if leak:
                gone.append((row, f"{leak.role} row {leak.id}: {leak.detail}"))
            else:
                kept.append(row)
        if not kept:
            raise UserError("task.train: every row is also in test or dev; name other rows")
        return kept, gone

    def _agreement(self, teacher: CandidateConfig) -> dict[str, Any]:
        """The teacher on train rows: how often it says what their targets say."""
        rows = self.train[:CHECKED_ROWS]
        outcomes = self._ask(teacher, rows, "teacher-on-train", scored=True)
        scorer = scoring.row_scorer(self.task)
        right = sum(scorer(rows[outcome.index], outcome) for outcome in outcomes)
        return {"right": right, "rows": len(rows), "metric": scoring.row_metric(self.task)}

    def _fill(self, wanted: int, teacher: CandidateConfig | None) -> str:
        """Drafts through the filters, until enough of them are rows. Returns the embedder's name."""
        expand = self.config.expand
        texts = {row.id: str(row.input) for row in self.train}
        embedder = embedding.embedder(expand.embedder, list(texts.values()))
        for line in embedder.said:
            self._note(line)
        near = deduplication.NEAR if expand.near_duplicate is None else expand.near_duplicate
        filters = deduplication.Deduplicator(texts, embedder=embedder, near=near, semantic=expand.semantic_duplicate)
        drafts = islice(self._drafts(teacher, wanted), DRAFTS_PER_ROW * wanted)
        invalid = validation.checker(self.task, self.train, partial(_is_gold, self.task))
        share = 1.0
        while len(self.made) < wanted:
            needed = math.ceil((wanted - len(self.made)) / share)
            batch = self._filtered(drafts, needed, filters)
            if not batch:
                break
            self.asked += [pair for pair in batch if pair[0].target is None]
            answers = self._answers(teacher) if teacher and any(draft.target is None for draft, _ in batch) else {}
            for draft, example in batch:
                row = self._answered(draft, example, answers, invalid)
                if row is not None and len(self.made) < wanted:
                    self.made.append((draft, row))
            done = len(self.asked) or len(self.made)
            share = max(0.05, min(1.0, len(self.made) / max(1, done)))
        return embedder.name

    def _drafts(self, teacher: CandidateConfig | None, wanted: int) -> Iterator[Draft]:
        """The methods take turns, each in its own fixed order."""
        seed = self.config.expand.seed
        streams: list[Iterator[Draft]] = []
        for method in self._methods(teacher):
            if method == "generate":
                assert teacher is not None
                streams.append(self._written(teacher, wanted))
                continue
            if method == "paraphrase":
                made = paraphrase.rows(self.train, self.task, seed=seed)
            elif teacher:
                made = recombine.inputs(self.train, seed=seed)
            else:
                made = recombine.rows(self.train, self.task, seed=seed)
            for line in made.said:
                self._note(line)
            streams.append(made.drafts)
        while streams:
            for stream in list(streams):
                draft = next(stream, None)
                if draft is None:
                    streams.remove(stream)
                else:
                    yield draft

    def _methods(self, teacher: CandidateConfig | None) -> list[str]:
        given = self.config.expand.methods
        if given is not None:
            return list(given)
        return ["generate"] if teacher else ["recombine", "paraphrase"]

    def _written(self, teacher: CandidateConfig, wanted: int) -> Iterator[Draft]:
        """Inputs that the teacher writes, after examples (self-instruct)."""
        plan = self_instruct.plan(
            self.train, self.task, count=2 * wanted, per_request=INPUTS_PER_REQUEST, seed=self.config.expand.seed
        )
        requests = [Request(f"write-{i}", i, 0, messages) for i, (messages, _) in enumerate(plan)]
        longest = max(planning.estimated_tokens(str(row.input)) for row in self.train)
        writer = teacher.model_copy(
            update={
                "name": f"{teacher.name}-writing",
                "temperature": 1.0,
                "shots": ShotsConfig(),
                "system": None,
                "prompt": None,
            }
        )
        text = self.task.model_copy(
            update={"type": "generation", "labels": None, "positive": None, "metrics": [MetricSpec(name="exact_match")]}
        )
        place = self.folder.part("writing")
        most = max(planning.max_tokens(writer, text, ()), INPUTS_PER_REQUEST * (2 * longest + 16))
        for start in range(0, len(requests), 8):
            some = requests[start : start + 8]
            job = Job(writer, requests[: start + 8], None, _price(writer, self.config), most, place, text, "writing")
            answered = {outcome.index: outcome for outcome in self._ask_job(job)}
            for request in some:
                outcome = answered.get(request.index)
                self.cost_usd += (outcome.cost_usd or 0.0) if outcome else 0.0
                for written in self_instruct.read(outcome.text or "") if outcome else ():
                    yield Draft(written, None, "generate", plan[request.index][1])

    def _filtered(
        self, drafts: Iterator[Draft], needed: int, filters: deduplication.Deduplicator
    ) -> list[tuple[Draft, Example]]:
        kept: list[tuple[Draft, Example]] = []
        while len(kept) < needed:
            some = list(islice(drafts, max(32, needed - len(kept))))
            if not some:
                break
            numbered = list(enumerate(some, self.drafted + 1))
            self.drafted += len(some)
            clean = []
            for number, draft in numbered:
                leak = self.contamination.against(draft.input)
                if leak:
                    self.removed.append(Removed(draft.input, "contaminated", leak.id, f"{leak.role}: {leak.detail}"))
                else:
                    clean.append((number, draft))
            twins: dict[int, Removed | None] = {}
            for reworded in (False, True):  # a paraphrase says what its parent says: only exact twins count there
                of_kind = [(n, draft.input) for n, draft in clean if (draft.method == "paraphrase") == reworded]
                found = filters.take_batch([(f"x-{n:06d}", text) for n, text in of_kind], reworded=reworded)
                twins |= {n: twin for (n, _), twin in zip(of_kind, found, strict=True)}
            for number, draft in clean:
                if twin := twins[number]:
                    self.removed.append(twin)
                else:
                    kept.append((draft, self._example(draft, draft.target or "", number)))
        return kept

    def _example(self, draft: Draft, target: str | tuple[str, ...], number: int) -> Example:
        """The accepted answers of a parent are not those of a new input, so their column is taken out."""
        made = example_of(draft, target, self.by_id[draft.parents[0]], self.task, number)
        answers = scoring.answer_columns(self.task)
        return replace(made, row={name: value for name, value in made.row.items() if name not in answers})

    def _answers(self, teacher: CandidateConfig) -> dict[str, Outcome]:
        rows = [example for _, example in self.asked]
        return {outcome.id: outcome for outcome in self._ask(teacher, rows, "teacher", scored=False)}

    def _answered(
        self,
        draft: Draft,
        example: Example,
        answers: Mapping[str, Outcome],
        invalid: Callable[[str, Target], str | None],
    ) -> Example | None:
        """The example with its target, or None where the teacher has no usable answer for it."""
        target = draft.target
        if target is None:
            outcome = answers[example.id]
            if not isinstance(outcome, Prediction):
                self.removed.append(Removed(draft.input, "failed", "", outcome.message))
                return None
            target = _target(self.task, outcome)
        why = invalid(draft.input, target)
        if why:
            self.removed.append(Removed(draft.input, "invalid", "", why))
            return None
        return self._example(draft, target, int(example.id.rpartition("-")[2]))

    # ------------------------------------------------------------ asking and writing

    def _ask(self, teacher: CandidateConfig, rows: Sequence[Example], part: str, *, scored: bool) -> Sequence[Outcome]:
        place = self.folder.part(part)
        requests = requests_for(self.config, teacher, rows, train=self.prepared.data.train)
        title = f"{teacher.name} on train" if scored else f"{teacher.name} as teacher"
        most = planning.max_tokens(teacher, self.task, self.prepared.data.test)
        price = _price(teacher, self.config)
        return self._ask_job(Job(teacher, requests, rows if scored else None, price, most, place, self.task, title))

    def _ask_job(self, job: Job) -> Sequence[Outcome]:
        """Every outcome. A teacher that stopped (no credit left, say) is not one that fails: its rows are still owed."""
        ask([job], self.config, self.folder, fresh=self.folder.manifest()["fresh"], progress=self.progress)
        outcomes = job.folder.read_predictions(job.candidate.name)
        for outcome in outcomes:
            if isinstance(outcome, Failure) and not (outcome.tries or outcome.cached):
                raise UserError(
                    f"expand.teacher {self.config.expand.teacher} stopped: {outcome.message}; the same command goes on"
                )
        return outcomes

    def _note(self, line: str) -> None:
        self.notes.append(line)
        self.folder.log(f"expand: {line}")
        self.progress.say([line])

    def _write(
        self, teacher: CandidateConfig | None, agreement: Mapping[str, Any] | None, embedder: str | None
    ) -> None:
        """The rows and where they come from; the facts last, which say that it is done."""
        folder = self.folder
        folder.write_examples("expanded", [row for _, row in self.made])
        costs = self._teacher_costs(teacher)
        kept = [(row, draft) for draft, row in self.made]
        folder.write_lines(
            "provenance",
            (
                data_card.provenance(
                    row,
                    draft,
                    teacher=teacher.model if teacher and draft.target is None else None,
                    cost_usd=costs.get(row.id, 0.0),
                )
                for row, draft in kept
            ),
        )
        folder.write_lines(
            "removed",
            [
                *({"what": "train row", "id": row.id, "why": "contaminated", "against": why} for row, why in self.train_removed),
                *({"what": "draft", "input": one.text, "why": one.why, "against": one.against, "detail": one.detail} for one in self.removed),
            ],
        )  # fmt: skip
        counts = Counter(one.why for one in self.removed)
        for line in (f"train row {row.id} is left out: {why}" for row, why in self.train_removed):
            self._note(line)
        cost_usd = self.cost_usd + sum(costs.values())
        facts = {
            "methods": self._methods(teacher) if self.made else [],
            "teacher": teacher.name if teacher else None,
            "train_rows": len(self.train),
            "generated": len(self.made),
            "total": len(self.train) + len(self.made),
            "drafted": self.drafted,
            "asked": len(self.asked),
            "removed": {why: counts[why] for why in data_card.REASONS},
            "train_removed": len(self.train_removed),
            "train_removed_ids": [row.id for row, _ in self.train_removed],
            "embedder": embedder,
            "cost_usd": cost_usd,
            "teacher_agrees": dict(agreement) if agreement else None,
            "notes": self.notes,
            "samples": [{"input": row.input, "target": row.target} for _, row in self.made[:5]],
            "seed": self.config.expand.seed,
        }
        card = data_card.Facts(
            task=self.task.name or "task",
            train_rows=len(self.train),
            kept=kept,
            removed=self.removed,
            teacher=teacher.name if teacher else None,
            cost_usd=cost_usd,
            embedder=embedder or "nothing: no drafts were made",
            seed=self.config.expand.seed,
            said=self.notes,
        )
        folder.write_text("card", data_card.card(card))
        folder.write_json("expansion", facts)

    def _teacher_costs(self, teacher: CandidateConfig | None) -> dict[str, float]:
        """USD per row that the teacher was asked, train rows included."""
        if teacher is None:
            return {}
        parts = [self.folder.part(name) for name in ("teacher-on-train", "teacher")]
        return {one.id: one.cost_usd or 0.0 for part in parts for one in part.read_predictions(teacher.name)}


def _price(candidate: CandidateConfig, config: Config) -> Any:
    if candidate.provider == "fake":
        return None
    return hour_price(candidate, config) if candidate.provider == "hf" else token_price(candidate)


def _target(task: TaskConfig, outcome: Prediction) -> str | tuple[str, ...]:
    if task.type == "generation":
        return (outcome.text or "").strip()
    labels = outcome.labels or ()
    return labels if task.type == "multilabel" else labels[0]


def _is_gold(task: TaskConfig, target: Target) -> bool:
    """Whether a target is right by the task's own metrics (a schema, a pattern, a number to be found). What `graded`
    accepts stands in a column that a new row does not have."""
    specs = [spec for spec in task.metrics or () if spec.name != "graded"]
    if not specs:
        return True
    return not scoring.check_gold([Example("draft", "", target, {})], task.model_copy(update={"metrics": specs}))
