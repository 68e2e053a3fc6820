"""ROUGE-L F1 (Lin 2004) by rouge_score, over words of any script (its own tokenizer drops all but a-z and 0-9)."""

import re
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from rouge_score import rouge_scorer

_TEXTS = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


class Rouge(evaluate.Metric):  # type: ignore[misc]  # untyped package
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="https://aclanthology.org/W04-1013",
            inputs_description="predictions, references: lists of texts",
            features=_TEXTS,
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
        pairs = zip(predictions, references, strict=True)
        scores = [scorer.score(wanted, said)["rougeL"].fmeasure for said, wanted in pairs]
        return {"rouge": sum(scores) / len(scores), "scores": scores}


METRIC = Rouge
