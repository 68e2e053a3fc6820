"""BLEU, chrF and ROUGE as `evaluate.Metric`s over sacrebleu and rouge_score, each usable by itself.

`compute(predictions=[...], references=[...])` gives {"<name>": mean, "scores": [one per row]}, all in 0..1. They need the
extra `metrics`; importing `evaluate` takes seconds, so they are imported only when asked for.
"""

from __future__ import annotations

import importlib
from typing import Any


def load(name: str) -> Any:
    """The metric `name` (bleu, chrf or rouge), ready to compute. ImportError: the extra is not installed."""
    module = importlib.import_module(f"{__name__}.{name}")
    return module.METRIC(keep_in_memory=True)
