"""How far do single words get on this benchmark? TF-IDF and logistic regression, trained on train and dev.

    python benchmarks/urgent-tickets/baseline.py

prints the ROC-AUC on the test rows of that classifier, and of the bare length of a message, each with its 95 % interval
(DeLong, as `evalft` computes it). Seconds on one core; no network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from evalft.records import Estimate
from evalft.stats.auc import auc

FOLDER = Path(__file__).resolve().parent
Row = dict[str, str]


def rows(split: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def by_words(known: Sequence[Row], asked: Sequence[Row]) -> list[float]:
    """P(urgent) of each asked row, by a bag of words fitted to the known rows."""
    # Balanced weights, since the classes are not: the ranking is what ROC-AUC looks at, not the cut-off.
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit([row["text"] for row in known], [row["label"] == "urgent" for row in known])
    return [float(p) for p in model.predict_proba([row["text"] for row in asked])[:, 1]]


def by_length(asked: Sequence[Row]) -> list[float]:
    return [float(len(row["text"].split())) for row in asked]


def roc_auc(scores: Sequence[float], asked: Sequence[Row]) -> Estimate:
    return auc(scores, [row["label"] == "urgent" for row in asked]).estimate(0.95)


def main() -> None:
    known, test = rows("train") + rows("dev"), rows("test")
    print(f"{len(known)} rows to learn from, {len(test)} to score")
    for name, scores in (("words", by_words(known, test)), ("length", by_length(test))):
        found = roc_auc(scores, test)
        print(f"{name}: roc_auc {found.value:.2f} (95 % interval {found.low:.2f} to {found.high:.2f})")


if __name__ == "__main__":
    main()
