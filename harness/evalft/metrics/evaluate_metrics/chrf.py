"""Sentence chrF2 (Popovic 2015) by sacrebleu: an F-score of character n-grams, at home in every language."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics import CHRF

_TEXTS = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Chrf(evaluate.Metric):  # type: ignore[misc]  # untyped package
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="https://aclanthology.org/W15-3049",
            inputs_description="predictions, references: lists of texts",
            features=_TEXTS,
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        chrf = CHRF()
        pairs = zip(predictions, references, strict=True)
        scores = [chrf.sentence_score(said, [wanted]).score / 100 for said, wanted in pairs]
        return {"chrf": sum(scores) / len(scores), "scores": scores}


METRIC = Chrf
