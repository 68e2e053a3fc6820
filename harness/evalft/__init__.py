"""evalft measures first and trains second: from a test set to a verdict on candidates, with intervals and costs.

The functions do what the commands of their names do and return records; docs/python.md shows them at work."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalft.calls import Rescoring, Run, assess, baseline, decide, diff, gate, rescore, run
    from evalft.diffing import Diff
    from evalft.errors import UserError
    from evalft.gating import Gate
    from evalft.records import Estimate, Example, Failure, Pair, Prediction, Score, Verdict

__all__ = [
    "Diff",
    "Estimate",
    "Example",
    "Failure",
    "Gate",
    "Pair",
    "Prediction",
    "Rescoring",
    "Run",
    "Score",
    "UserError",
    "Verdict",
    "assess",
    "baseline",
    "decide",
    "diff",
    "gate",
    "rescore",
    "run",
]

_HOME = {
    **dict.fromkeys("Rescoring Run assess baseline decide diff gate rescore run".split(), "evalft.calls"),
    "Diff": "evalft.diffing",
    "Gate": "evalft.gating",
    "UserError": "evalft.errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'evalft' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "evalft.records")), name)
