"""Every test has a cache of its own, no key, and a working folder of its own to write runs into.

Charts are drawn only in tests marked `drawn`: drawing takes seconds of each run, and says nothing of what is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from evalft.reporting import charts

hypothesis.settings.register_profile("no-times", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("no-times")


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALFT_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("drawn"):
        monkeypatch.setattr(charts, "of", lambda summary: charts.Charts())
