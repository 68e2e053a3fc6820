"""What needs no language model: the commonest genres for every row, and TF-IDF with logistic regression.

    python benchmarks/anime-genres/baseline.py

prints both as rows of a table: jaccard and f1 over rows, f1_macro, roc_auc (macro) and accuracy, as evalft defines them.
Both rank the genres of a row and answer the first `count` of them. They learn from train.jsonl; what is left to choose
(`count`, and how much the regression is regularised) is chosen by jaccard on dev.jsonl; test.jsonl is only scored.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

Table = NDArray[np.float64]
"""(rows, genres)"""

COUNTS = (1, 2, 3, 4)
INVERSE_REGULARISATION = (0.1, 1.0, 10.0, 100.0)


def rows(split: str) -> list[dict]:
    path = Path(__file__).parent / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(ranked: Table, count: int) -> Table:
    """1 for the `count` highest of each row of `ranked`, the first of equals, else 0."""
    given = np.zeros_like(ranked)
    np.put_along_axis(given, np.argsort(-ranked, axis=1, kind="stable")[:, :count], 1, axis=1)
    return given


def jaccard(target: Table, given: Table) -> float:
    return jaccard_score(target, given, average="samples", zero_division=0)


def scores(target: Table, ranked: Table, count: int) -> dict[str, float]:
    given = answers(ranked, count)
    return {
        "jaccard": jaccard(target, given),
        "f1": f1_score(target, given, average="samples", zero_division=0),
        "f1_macro": f1_score(target, given, average="macro", zero_division=0),
        "roc_auc": roc_auc_score(target, ranked, average="macro"),
        "accuracy": accuracy_score(target, given),
    }


def measure() -> dict[str, dict[str, float]]:
    train, dev, test = rows("train"), rows("dev"), rows("test")
    genres = MultiLabelBinarizer().fit([row["genres"] for row in train])
    train_target, dev_target, test_target = (
        genres.transform([row["genres"] for row in split]).astype(np.float64) for split in (train, dev, test)
    )
    words = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit([row["synopsis"] for row in train])
    train_words, dev_words, test_words = (
        words.transform([row["synopsis"] for row in split]) for split in (train, dev, test)
    )

    common = train_target.mean(axis=0, keepdims=True)
    ranked = [(common.repeat(len(dev), axis=0), common.repeat(len(test), axis=0))]
    constant = _best(ranked, dev_target, test_target)

    ranked = []
    for inverse in INVERSE_REGULARISATION:
        one_genre = LogisticRegression(C=inverse, class_weight="balanced", solver="liblinear", random_state=0)
        model = OneVsRestClassifier(one_genre).fit(train_words, train_target)
        ranked.append((model.predict_proba(dev_words), model.predict_proba(test_words)))
    return {
        "the commonest genres for every row": constant,
        "TF-IDF, logistic regression": _best(ranked, dev_target, test_target),
    }


def _best(ranked: list[tuple[Table, Table]], dev_target: Table, test_target: Table) -> dict[str, float]:
    """The scores on test of what is best on dev: `ranked` holds (dev, test) of each setting."""
    choices = [(setting, count) for setting in range(len(ranked)) for count in COUNTS]
    setting, count = max(choices, key=lambda choice: jaccard(dev_target, answers(ranked[choice[0]][0], choice[1])))
    return scores(test_target, ranked[setting][1], count)


if __name__ == "__main__":
    for name, measured in measure().items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in measured.values()) + " |")
