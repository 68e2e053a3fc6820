"""evalft view in a real browser: 100,000 examples, hostile text, and nothing that the policy would have to stop."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import run_folder
from evalft.records import Example, Prediction, Score
from evalft.store import RunFolder
from test_viewing import id_of, viewing

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --enable-logging=stderr"
).split()
ROWS = 100_000


@pytest.fixture(autouse=True)
def _browser() -> None:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")


def _browse(port: int, path: str, *options: str) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            str(CHROMIUM),
            *QUIET,
            *options,
            f"--user-data-dir={profile}",
            "--dump-dom",
            f"http://127.0.0.1:{port}{path}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "<html" in done.stdout, done.stderr
    assert "Content Security Policy" not in done.stderr and "Uncaught" not in done.stderr
    return done.stdout


def _large(place: Path) -> None:
    """As a run of two candidates would have left it; the second is wrong on each tenth row."""
    summary = run_folder.write(place, rows=10, kind="generation", hostile=())
    run, entries = RunFolder(place), summary["candidates"][:2]
    run.write_examples(
        "test",
        [
            Example(f"row-{i}", f"question {i} " * 20, f"answer {i}", {}, slices={"half": str(i % 2)})
            for i in range(ROWS)
        ],
    )
    for entry, every in zip(entries, (ROWS, 10), strict=True):
        right = [i % every != every - 1 for i in range(ROWS)]
        answers = (Prediction(f"row-{i}", i, 0, f"answer {i}" if ok else "nothing", None) for i, ok in enumerate(right))
        run.write_predictions(entry["name"], answers)
        run.write_scores(
            entry["name"], (Score(f"row-{i}", i, {"exact_match": float(ok)}) for i, ok in enumerate(right))
        )
        entry["coverage"] |= {"total": ROWS, "scored": ROWS, "failures": {}}
    summary["task"]["examples"] = ROWS
    run.write_json("summary", summary | {"candidates": entries})


def _numbers(dom: str) -> list[int]:
    return [int(number) for number in re.findall(r"<span>Row (\d+)</span>", dom)]


@pytest.mark.slow
def test_a_hundred_thousand_examples_are_read_page_by_page_and_searched(tmp_path: Path) -> None:
    _large(tmp_path / "run")
    with viewing(tmp_path) as port:
        address = f"/runs/{id_of(tmp_path / 'run')}"
        assert _numbers(_browse(port, address)) == list(range(1, 51))
        last = _browse(port, f"{address}?start={ROWS - 5}")
        assert _numbers(last) == list(range(ROWS - 4, ROWS + 1)) and 'rel="next"' not in last
        wrong = _browse(port, f"{address}?show=missed&of=1&start=50000")
        assert _numbers(wrong) == list(range(50010, 50510, 10)) and "10,000 of 100,000 rows fit." in wrong
        path, found = f"{address}?search=question%2087654", list[int]()
        for _ in range(10):
            dom = _browse(port, path)
            found += _numbers(dom)
            going_on = re.search(r'<a href="([^"]*)" rel="next">', dom)
            if going_on is None:
                break
            path = html.unescape(going_on[1])
        assert found == [87655]


@pytest.mark.parametrize("scheme", [0, 1])
def test_hostile_words_are_words_on_every_page(tmp_path: Path, scheme: int) -> None:
    for kind in ("classification", "multilabel", "generation"):
        run_folder.write(tmp_path / kind, kind=kind, training="tuned")
    with viewing(tmp_path) as port:
        one = id_of(tmp_path / "classification")
        for path, title in (
            ("/", "Runs"),
            (f"/runs/{one}", "Examples of classification"),
            (f"/runs/{one}/report", "banking"),
        ):
            dom = _browse(port, path, f"--blink-settings=preferredColorScheme={scheme}")
            assert html.unescape(dom.split("<title>")[1]).startswith(title)
            assert path == "/" or run_folder.HOSTILE[0] in html.unescape(re.sub(r"<[^>]*>", "", dom))
