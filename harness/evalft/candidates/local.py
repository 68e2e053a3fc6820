"""`hf:MODEL`: an open model in this process, through transformers.

Three kinds of answer, by what the model and the task are:

- causal model, classification: nothing is generated. The answer is the label of largest log-likelihood given the prompt,
  softmax over the labels is `probs` (multiple choice as in Brown et al. 2020, section 2.4, without length
  normalisation). What texts share is computed once (`causal_model`, `log_likelihood`).
- causal model, generation and multi-label: text is generated and read by `answers`. Multi-label rows can also be asked
  for P(yes) per label behind the same prompt, which ranks labels (AUC) and never decides an answer.
- sequence classifier: softmax or sigmoid of its logits on the user's text alone.

Answers do not depend on the batch a row is in, save where the two largest logits are closer than rounding (`near_tie`).
Latency of a row is its batch's wall time, cost is that time x the hourly price / rows; loading is in neither.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from evalft import answers
from evalft.candidates import Attempt
from evalft.candidates.causal_model import CausalModel
from evalft.candidates.log_likelihood import log_likelihoods
from evalft.candidates.model_decoding import Decoding
from evalft.candidates.model_files import (
    ModelFiles,
    available_memory_bytes,
    check_architecture,
    find_adapter,
    find_model,
)
from evalft.candidates.model_loading import first_line, is_out_of_memory, load_model, load_tokenizer, merge_adapter
from evalft.candidates.model_prompts import ModelPrompts, Row
from evalft.candidates.sequence_classifier import SequenceClassifier
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import CannotStart
from evalft.prices import HourPrice
from evalft.prompts import Request
from evalft.records import Failure, FailureKind, Outcome, Prediction, ProbsMethod, Usage

MAX_ROWS = {"cpu": 128, "gpu": 256}
MAX_TOKENS = {"cpu": 16_384, "gpu": 262_144}
NOT_FINITE = "the model's numbers are not finite; try dtype: float32"
NO_MEMORY = "this row alone does not fit in memory; shorten it, or choose a smaller model"

Item = TypeVar("Item")
Result = TypeVar("Result")


class LocalCandidate:
    """One open model. Cheap to make: torch is imported by `start` (and by `identity`, which names the device)."""

    remote = False

    def __init__(
        self,
        config: CandidateConfig,
        task: TaskConfig,
        *,
        price: HourPrice,
        max_tokens: int,
        want_probs: bool,
        dev: Sequence[tuple[Request, Collection[str]]] = (),
    ) -> None:
        """`dev` rows with their true labels choose the cut-offs of a multi-label sequence classifier; else 0.5."""
        self.name = config.name
        self.max_tokens = max_tokens
        self._config, self._task, self._price, self._dev = config, task, price, dev
        self._labels = tuple(task.labels or ())
        self._want_probs = want_probs
        self._where = f"candidate {config.name}"
        self._found: tuple[ModelFiles, ModelFiles | None] | None = None
        self._model: Any = None

    # ------------------------------------------------------------ what it is

    @property
    def files(self) -> tuple[ModelFiles, ModelFiles | None]:
        """The model's files and the adapter's, fetched from the hub where they are not here. Raises CannotStart."""
        if self._found is None:
            config = self._config
            model = find_model(config.model_id, config.revision, self._where)
            self._found = model, find_adapter(config.adapter, self._where) if config.adapter else None
        return self._found

    def identity(self) -> dict[str, object]:
        """By content: the same model in another folder gives the same answers. May be called before `start`."""
        model, adapter = self.files
        device, dtype = self._device_and_dtype()
        config = self._config
        dev = [([dict(turn) for turn in request.messages], sorted(labels)) for request, labels in self._dev]
        return {
            "kind": "local",
            "model": model.digest,
            "adapter": adapter.digest if adapter else None,
            "device": device.partition(":")[0],
            "dtype": dtype,
            "decoding": {
                "max_tokens": self.max_tokens,
                "temperature": config.temperature,
                "top_p": config.top_p,
                "num_beams": config.num_beams,
                "stop": config.stop,
                "seed": config.seed,
                "template": self._template_options,
            },
            "task": [self._task.type, list(self._labels)],
            "want_probs": self._want_probs,
            "dev": hashlib.sha256(repr(dev).encode()).hexdigest() if dev else None,
        }

    def worst_case_usd(self, request: Request) -> float:
        """0: a local model's cost is time of a machine that is there already; nothing new is billed."""
        return 0.0

    @property
    def _template_options(self) -> dict[str, object]:
        """For the chat template: thinking needs more tokens than labels and short answers are given, so it is off."""
        given = (self._config.extra_body or {}).get("chat_template_kwargs") or {}
        return {"enable_thinking": False, **given}

    # ------------------------------------------------------------ making ready

    def start(self) -> list[str]:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        files, adapter = self.files
        device, dtype = self._device_and_dtype()
        check_architecture(files.config, self._config.model_id, self._where)
        self._check_memory(files, device, dtype)
        import torch
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self._model = load_model(files, self._config.model_id, device, dtype, self._where)
        if adapter:
            self._model = merge_adapter(self._model, adapter, str(self._config.adapter), self._where)
        self._tokenizer = load_tokenizer(files, adapter, self._where)
        self._settle_limits(device)
        threads = f" ({torch.get_num_threads()} threads)" if device == "cpu" else ""
        choices = [
            f"{files.parameters:,} parameters of {files.hub or files.folder}, {dtype} on {device}{threads}",
            f"{self._price.per_hour(device):g} USD per hour ({self._price.source}); loading is not counted",
        ]
        if adapter:
            choices.append(f"adapter {adapter.hub or adapter.folder} merged into the weights")
        self._prompts = ModelPrompts(self._tokenizer, self._labels, self._template_options)
        # either passes a few tokens, so that the first batch is not charged for initialisation
        if files.is_classifier:
            return choices + self._settle_classifier()
        with torch.inference_mode():
            self._causal = CausalModel(self._model, self._pad_token)
        choices += self._prompting_choices()
        if self._task.type == "classification":
            return [*choices, "nothing is generated: the answer is the label of largest log-likelihood"]
        self._decoding = Decoding(self._config, self._prompts, self._end_tokens, self._pad_token)
        return choices + self._decoding_choices()

    def check_room(self, requests: Sequence[Request]) -> None:
        """Raises CannotStart where no prompt fits the model's context: nothing could be answered."""
        rows = self._rows(requests)
        if rows and all(self._room(row) < 1 for row in rows):
            shortest = min(len(row.tokens) for row in rows)
            raise CannotStart(
                f"{self._where}: every prompt is too long for the model's context of {self._context:,} tokens (the shortest "
                f"has {shortest:,}); shorten the prompt (task.prompt), or choose a model with a longer context"
            )

    async def close(self) -> None:
        if self._model is not None:
            self._model = None
            _free_memory()

    def _device_and_dtype(self) -> tuple[str, str]:
        try:
            import torch
        except ImportError:
            raise CannotStart(
                f"{self._where}: an hf: model needs torch and transformers; pip install 'evalft[local]'"
            ) from None
        device = self._config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind = device.partition(":")[0]
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(kind):
            have = ", ".join(name for name, is_there in there.items() if is_there)
            raise CannotStart(f"{self._where}: device {device} is not there; remove `device:` or choose one of: {have}")
        if self._config.dtype:
            return device, self._config.dtype
        if kind == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return device, "bfloat16" if native else "float16"
        return device, "float32"  # 16-bit arithmetic is several times slower on most CPUs

    def _check_memory(self, files: ModelFiles, device: str, dtype: str) -> None:
        needed = files.parameters * (4 if dtype == "float32" else 2)
        available = _available_bytes(device)
        if available is not None and needed > available:
            raise CannotStart(
                f"{self._where}: the weights need {needed / 2**30:.1f} GiB in {dtype}, {available / 2**30:.1f} GiB are "
                f"free on {device}; choose a smaller model, another device, or dtype: bfloat16"
            )

    def _settle_limits(self, device: str) -> None:
        """The context's length, the tokens that end an answer, and how many tokens a batch may hold (by free memory)."""
        config = self._model.config.get_text_config()
        self._context: int | float = getattr(config, "max_position_embeddings", None) or math.inf
        if self.files[0].is_classifier:  # some encoders count positions from 2: their tokenizer knows the usable length
            self._context = min(self._context, self._tokenizer.model_max_length)
        generation = getattr(self._model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        self._end_tokens = list(dict.fromkeys([self._tokenizer.eos_token_id, *ends]))
        self._end_tokens = [token for token in self._end_tokens if token is not None]
        pads = (self._tokenizer.pad_token_id, *self._end_tokens, 0)
        self._pad_token: int = next(token for token in pads if token is not None)
        layers, width = getattr(config, "num_hidden_layers", 32), getattr(config, "hidden_size", 4096)
        bytes_per_token = (2 * layers + 16) * width * self._model.dtype.itemsize
        place = "cpu" if device == "cpu" else "gpu"
        available = _available_bytes(device)
        fits = MAX_TOKENS[place] if available is None else int(0.3 * available / bytes_per_token)
        self._budget_tokens = max(min(fits, MAX_TOKENS[place]), 256)
        self._max_rows = MAX_ROWS[place]

    def _prompting_choices(self) -> list[str]:
        if not self._prompts.chat:
            return ["no chat template: plain text prompt"]
        choices = ["asked through its chat template"]
        if self._prompts.folds_system:
            choices.append("its chat template has no system role: a system text stands before the first user turn")
        if self._prompts.can_think and not self._template_options["enable_thinking"]:
            choices.append(
                "thinking is off; extra_body: {chat_template_kwargs: {enable_thinking: true}} with a larger max_tokens "
                "turns it on"
            )
        return choices

    def _decoding_choices(self) -> list[str]:
        own = self._model.generation_config.to_diff_dict()
        ignored = {key: own[key] for key in ("temperature", "top_p", "top_k", "repetition_penalty") if own.get(key)}
        warm = self._config.temperature > 0
        how = f"sampled at temperature {self._config.temperature:g}" if warm else "greedy"
        stops = "" if self._prompts.chat else ", stops at a newline"
        choices = [f"decoding {how}, at most {self.max_tokens} new tokens{stops}"]
        if ignored:
            choices.append(f"the model's own decoding defaults are not used: {ignored}")
        if self._asks_p_yes:
            choices.append("P(yes) per label is asked behind the same prompt, for AUC only, in no cost or latency")
        return choices

    def _settle_classifier(self) -> list[str]:
        several = self._task.type == "multilabel"
        classifier = SequenceClassifier(
            self._model, self._labels, several=several, pad_token=self._pad_token, where=self._where
        )
        self._classifier = classifier
        classifier.probs([[self._pad_token] * 2])
        choices = classifier.choices()
        if several:
            if self._dev:
                classifier.choose_cut_offs(self._dev_probs())
            where = f"of largest F1 on {len(self._dev)} dev rows" if self._dev else "0.5"
            choices.append(f"a label is given from a cut-off on: {where}")
        return choices

    def _dev_probs(self) -> list[tuple[Collection[str], Mapping[str, float]]]:
        truth = {(request.index, request.repeat): labels for request, labels in self._dev}
        return [
            (truth[outcome.index, outcome.repeat], outcome.probs)
            for batch in self.batches([request for request, _ in self._dev])
            for outcome in self.answer(batch)
            if isinstance(outcome, Prediction) and outcome.probs is not None
        ]

    # ------------------------------------------------------------ asking

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        """Longest prompts first, so that what does not fit shows at once; rows of like length share a batch."""
        new = 0 if self._scores_labels else self.max_tokens
        rows = self._rows(requests)
        lengths = [min(len(row.tokens), self._context) + new for row in rows]
        if not self.files[0].is_classifier and len(rows) > 1:
            self._causal.share(os.path.commonprefix([row.tokens for row in rows if not row.fault]))
        order = sorted(range(len(requests)), key=lambda i: (-lengths[i], requests[i].index, requests[i].repeat))
        while order:  # the bounds may shrink while batches are answered
            size = max(1, min(self._max_rows, int(self._budget_tokens // max(lengths[order[0]], 1))))
            yield tuple(requests[i] for i in order[:size])
            order = order[size:]

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        try:
            return [Attempt(outcome) for outcome in await asyncio.to_thread(self.answer, batch)]
        except (RuntimeError, ValueError, IndexError) as error:  # what models raise: one bad batch ends no run
            message = f"the model raised {type(error).__name__}: {first_line(error)}"
            return [Attempt(Failure(row.id, row.index, row.repeat, "api_error", message)) for row in batch]

    def answer(self, batch: Sequence[Request]) -> list[Outcome]:
        """One outcome per request, in order; what does not fit in memory is halved until it does."""
        import torch

        outcomes: dict[int, Outcome] = {}
        groups: dict[int, list[tuple[int, Row]]] = {}
        for place, row in enumerate(self._rows(batch)):
            room = self._room(row)
            if row.fault:
                outcomes[place] = _failed(row, "api_error", row.fault)
            elif room < 1:
                outcomes[place] = self._too_long(row)
            else:  # a prompt near the end of the context has less room to answer in, whatever batch it is in
                groups.setdefault(room, []).append((place, row))
        with torch.inference_mode():
            for room, members in groups.items():
                done = self._outcomes([row for _, row in members], room)
                outcomes |= {place: outcome for (place, _), outcome in zip(members, done, strict=True)}
        return [outcomes[place] for place in range(len(batch))]

    def _rows(self, requests: Sequence[Request]) -> list[Row]:
        return self._prompts.raw_rows(requests) if self.files[0].is_classifier else self._prompts.rows(requests)

    @property
    def _scores_labels(self) -> bool:
        return self._task.type == "classification" or self.files[0].is_classifier

    @property
    def _asks_p_yes(self) -> bool:
        return self._want_probs and self._task.type == "multilabel" and not self.files[0].is_classifier

    def _room(self, row: Row) -> int:
        """How many tokens may be generated behind the prompt; 1 or 0 where labels are scored: they fit or do not."""
        room = self._context - len(row.tokens)
        if self.files[0].is_classifier:
            return int(room >= 0)
        if self._scores_labels:
            return int(room >= self._prompts.longest_label)
        return int(min(room, self.max_tokens))

    def _too_long(self, row: Row) -> Failure:
        message = (
            f"a prompt of {len(row.tokens):,} tokens leaves no room for an answer in the model's {self._context:,}; "
            "shorten it, or choose a model with a longer context"
        )
        return _failed(row, "api_error", message)

    def _outcomes(self, rows: list[Row], room: int) -> list[Outcome]:
        def timed(part: list[Row]) -> list[Outcome]:
            start = time.perf_counter()
            given = self._answers(part, room)
            latency_s = time.perf_counter() - start
            return [_timed(outcome, latency_s, batch=part[0].request.index) for outcome in given]

        start = time.perf_counter()
        done = self._halving(timed, rows)
        hours = (time.perf_counter() - start) / 3600
        cost_usd = hours * self._price.per_hour(self._model.device.type) / len(rows)
        outcomes = [
            replace(outcome or _failed(row, "out_of_memory", NO_MEMORY), cost_usd=cost_usd)
            for row, outcome in zip(rows, done, strict=True)
        ]
        return self._with_p_yes(rows, outcomes) if self._asks_p_yes else outcomes

    def _with_p_yes(self, rows: list[Row], outcomes: list[Outcome]) -> list[Outcome]:
        answered = [row for row, outcome in zip(rows, outcomes, strict=True) if isinstance(outcome, Prediction)]
        probs = iter(self._halving(self._p_yes, answered))
        return [
            replace(outcome, probs=found, probs_method="p_yes")
            if isinstance(outcome, Prediction) and (found := next(probs))
            else outcome
            for outcome in outcomes
        ]

    def _halving(self, run: Callable[[list[Item]], list[Result]], rows: list[Item]) -> list[Result | None]:
        """run(rows), in halves where memory does not suffice; None for a row that does not fit alone."""
        if not rows:
            return []
        try:
            return list(run(rows))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        _free_memory()  # out here, where the exception no longer holds the tensors
        if len(rows) == 1:
            return [None]
        half = (len(rows) + 1) // 2
        self._max_rows = min(self._max_rows, half)
        return [*self._halving(run, rows[:half]), *self._halving(run, rows[half:])]

    def _answers(self, rows: list[Row], room: int) -> list[Outcome]:
        if self.files[0].is_classifier:
            return self._classify(rows)
        return self._score_labels(rows) if self._scores_labels else self._generate(rows, room)

    # ------------------------------------------------------------ three kinds of answer

    def _classify(self, rows: list[Row]) -> list[Outcome]:
        method: ProbsMethod = "sigmoid" if self._task.type == "multilabel" else "softmax"
        outcomes: list[Outcome] = []
        for row, probs in zip(rows, self._classifier.probs([row.tokens for row in rows]), strict=True):
            if all(map(math.isfinite, probs.values())):
                labels = self._classifier.labels(probs)
                outcomes.append(_predicted(row, labels=labels, probs=probs, probs_method=method))
            else:
                outcomes.append(_failed(row, "bad_response", NOT_FINITE))
        return outcomes

    def _score_labels(self, rows: list[Row]) -> list[Outcome]:
        asked = self._prompts.label_branches(rows, end=next(iter(self._end_tokens), None))
        outcomes: list[Outcome] = []
        for row, scores in zip(rows, log_likelihoods(self._causal, asked, self._budget_tokens), strict=True):
            if not np.isfinite(scores).all():
                outcomes.append(_failed(row, "bad_response", NOT_FINITE))
                continue
            shares = np.exp(scores - scores.max())
            probs = dict(zip(self._labels, (shares / shares.sum()).tolist(), strict=True))
            best = self._labels[int(np.argmax(scores))]
            outcomes.append(_predicted(row, labels=(best,), probs=probs, probs_method="log_likelihood"))
        return outcomes

    def _generate(self, rows: list[Row], room: int) -> list[Outcome]:
        import torch

        if self._config.temperature > 0:
            torch.manual_seed(self._batch_seed(rows))
        outcomes: list[Outcome] = []
        generated = self._decoding.generate(self._causal, [row.tokens for row in rows], room)
        for row, made in zip(rows, generated, strict=True):
            text, finish_reason, count = self._decoding.read(made.tokens)
            usage = Usage(len(row.tokens), count)
            reading = answers.read(text, finish_reason, self._task.type or "generation", self._labels)
            given = {"text": text, "finish_reason": finish_reason, "usage": usage, "near_tie": made.near_tie}
            if reading.failure:
                outcomes.append(_failed(row, reading.failure, reading.message, **given))
            else:
                outcomes.append(_predicted(row, labels=reading.labels, rescued=reading.rescued, **given))
        return outcomes

    def _batch_seed(self, rows: list[Row]) -> int:
        """By the seed and the rows asked, so that no two batches draw the same numbers and a repeat draws its own."""
        asked = [(row.request.index, row.request.repeat) for row in rows]
        return int.from_bytes(hashlib.sha256(repr((self._config.seed or 0, asked)).encode()).digest()[:7], "little")

    def _p_yes(self, rows: list[Row]) -> list[dict[str, float] | None]:
        """P(yes) against P(no) per label; None for a row whose questions exceed the context or whose numbers overflow."""
        asked = {place: self._prompts.probe_branches(row) for place, row in enumerate(rows)}
        fits = [
            place
            for place, (prompt, branches) in asked.items()
            if len(prompt) + max(len(branch.tokens) for branch in branches) <= self._context
        ]
        given: list[dict[str, float] | None] = [None] * len(rows)
        scored = log_likelihoods(self._causal, [asked[place] for place in fits], self._budget_tokens)
        for place, scores in zip(fits, scored, strict=True):
            if np.isfinite(scores).all():
                p_yes = 1 / (1 + np.exp(np.clip(scores[1::2] - scores[0::2], -700, 700)))
                given[place] = dict(zip(self._labels, p_yes.tolist(), strict=True))
        return given


# ---------------------------------------------------------------- helpers


def _predicted(row: Row, **given: Any) -> Prediction:
    request = row.request
    usage = given.pop("usage", None) or Usage(len(row.tokens), 0)
    return Prediction(request.id, request.index, request.repeat, given.pop("text", None), usage=usage, **given)


def _timed(outcome: Outcome, latency_s: float, *, batch: int) -> Outcome:
    if isinstance(outcome, Failure):
        return replace(outcome, latency_s=latency_s)
    return replace(outcome, latency_s=latency_s, batch=batch)


def _failed(row: Row, kind: FailureKind, message: str, **given: Any) -> Failure:
    return Failure(row.request.id, row.request.index, row.request.repeat, kind, message, **given)


def _available_bytes(device: str) -> int | None:
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return available_memory_bytes()


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
