"""Sentence BLEU (Papineni et al. 2002; sacrebleu, Post 2018), its n-grams no longer than the texts have."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics import BLEU

_TEXTS = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Bleu(evaluate.Metric):  # type: ignore[misc]  # untyped package
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="https://aclanthology.org/W18-6319",
            inputs_description="predictions, references: lists of texts",
            features=_TEXTS,
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        bleu = BLEU(effective_order=True)
        pairs = zip(predictions, references, strict=True)
        scores = [bleu.sentence_score(said, [wanted]).score / 100 for said, wanted in pairs]
        return {"bleu": sum(scores) / len(scores), "scores": scores}


METRIC = Bleu
