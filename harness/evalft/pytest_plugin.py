"""The pytest plug-in: `def test_model(evalft_gate): evalft_gate("reports/now")` fails where the run is worse than its baseline.

pytest imports this at every start, of any project: so nothing is imported here but pytest."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from evalft.gating import Gate

Check = Callable[..., "Gate"]


class EvalftUndecided(UserWarning):
    """The rows neither show a regression nor rule one out, and gate.undecided is pass."""


@pytest.fixture
def evalft_gate(request: pytest.FixtureRequest) -> Check:
    """A function (run, baseline="baseline.jsonl", config=None) that fails the test unless the gate passes, and returns the
    Gate. Paths are relative to pytest's rootdir; an undecided gate that counts as a pass warns."""
    top = request.config.rootpath

    def check(run: str, baseline: str | Path = "baseline.jsonl", config: str | Path | None = None) -> Gate:
        from evalft import gate_words, gating
        from evalft.errors import UserError

        try:
            found = gating.gate(top / baseline, str(top / run), None if config is None else top / config)
        except UserError as error:
            pytest.fail(f"evalft gate: {error}", pytrace=False)
        judged = [one for one in (*found.metrics, *found.slices) if one.verdict != "pass"]
        lines = [gate_words.sentence(found), *(gate_words.finding(found, one) for one in judged)]
        if found.status:
            pytest.fail("\n".join(lines), pytrace=False)
        if found.verdict == "undecided":
            warnings.warn("\n".join(lines), EvalftUndecided, stacklevel=2)
        return found

    return check
