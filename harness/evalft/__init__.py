"""evalft measures first and trains second: from a test set to a verdict on candidates, with intervals and costs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalft.decision import decide
    from evalft.diffing import diff
    from evalft.pipeline import assess, run
    from evalft.records import Estimate, Example, Failure, Pair, Prediction, Score, Verdict

__all__ = [
    "Estimate",
    "Example",
    "Failure",
    "Pair",
    "Prediction",
    "Score",
    "Verdict",
    "assess",
    "decide",
    "diff",
    "run",
]

_HOME = {"assess": "evalft.pipeline", "run": "evalft.pipeline", "decide": "evalft.decision", "diff": "evalft.diffing"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'evalft' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "evalft.records")), name)
