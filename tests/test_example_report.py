"""reports/example is what its script makes of this code; when a report changes, so does the example."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE, SCRIPT = ROOT / "reports" / "example", ROOT / "benchmarks" / "example" / "make.py"
AGAIN = f"it is not what this code makes; run: python {SCRIPT.relative_to(ROOT)}"
pytestmark = [pytest.mark.slow, pytest.mark.drawn]


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "example"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALFT_CACHE", str(folder.parent / "cache"))
        runpy.run_path(str(SCRIPT))["make"](folder)
    return folder


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_example_has_the_files_that_are_made_and_is_small(remade: Path) -> None:
    assert _names(remade) == _names(EXAMPLE), AGAIN
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_reports_say_the_same(remade: Path, name: str) -> None:
    for made, kept in zip(_said(remade / name), _said(EXAMPLE / name), strict=True):
        assert made == kept, AGAIN


def _said(path: Path) -> list[str]:
    """Lines without times; of a picture its texts, since where they stand depends on the fonts of a machine."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<svg.*?</svg>", lambda svg: " ".join(re.findall(r">([^<]+)<", svg[0])), text, flags=re.DOTALL)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\+00:00| UTC)", "TIME", text)
    text = re.sub(r"(<dt>digest</dt><dd>|^- digest: )\w+", r"\1", text, flags=re.MULTILINE)
    return text.splitlines()


def test_the_summary_and_the_figures_of_the_charts_are_the_same(remade: Path) -> None:
    made, kept = (json.loads((folder / "summary.json").read_text()) for folder in (remade, EXAMPLE))
    for summary in (made, kept):
        for changing in ("created", "scorer", "evalft"):
            del summary[changing]
    assert _numbers(made) == pytest.approx(_numbers(kept), rel=1e-9), AGAIN
    assert _shape(made) == _shape(kept), AGAIN
    for path in (EXAMPLE / "charts").iterdir():
        header, *rows = (remade / "charts" / path.name).read_text().splitlines()
        assert [header, len(rows)] == [path.read_text().splitlines()[0], len(path.read_text().splitlines()) - 1], AGAIN


def _numbers(data: Any) -> list[float]:
    if isinstance(data, dict | list):
        return [number for value in (data.values() if isinstance(data, dict) else data) for number in _numbers(value)]
    return [data] if isinstance(data, int | float) else []


def _shape(data: Any) -> Any:
    """The same with 0 for each number."""
    if isinstance(data, dict):
        return {key: _shape(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_shape(value) for value in data]
    return 0 if isinstance(data, float) else data
