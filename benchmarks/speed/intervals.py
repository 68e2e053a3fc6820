"""CPU seconds of the intervals that take longest: a mean of many distinct scores, ROC-AUC over many labels and many rows.

python benchmarks/speed/intervals.py                  medians of 3 rounds
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from measuring import machine

from evalft.stats import bootstrap, ranking


def auc(rows: int, labels: int) -> Callable[[], object]:
    draw = np.random.default_rng(0)
    member = draw.integers(0, labels, rows)[:, None] == np.arange(labels)
    scores = draw.random((rows, labels)) + 0.3 * member
    return lambda: ranking.averaged(scores, member, "roc_auc", "macro")


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    scores = np.random.default_rng(0).integers(0, 1_000, 10_000) / 999
    works = {
        "mean of 10,000 rows with 1,000 distinct scores": lambda: bootstrap.mean(scores, bounds=(0.0, 1.0)),
        "ROC-AUC, 400 rows, 77 labels": auc(400, 77),
        "ROC-AUC, 10,000 rows, 3 labels": auc(10_000, 3),
        "ROC-AUC, 1,000,000 rows, 4 labels": auc(1_000_000, 4),
    }
    print(f"{machine()}\n\n| interval | CPU s |\n|---|---|")
    for name, work in works.items():
        print(f"| {name} | {statistics.median(cpu_s(work) for _ in range(given.rounds)):.2f} |", flush=True)


if __name__ == "__main__":
    main()
