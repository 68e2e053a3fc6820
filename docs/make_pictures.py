"""Writes docs/pictures/ from a run folder, with Chromium: `python docs/make_pictures.py RUN`.

RUN is what `make demo` wrote. The report is made again from a copy of it, so that the pictures show the report as it is now.
Where Pillow is installed the pictures get a palette, which makes them about a third as large.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from evalft import concluding

HERE = Path(__file__).parent / "pictures"
LIGHT = "--blink-settings=preferredColorScheme=1"
FLAGS = (
    f"--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --disable-background-networking {LIGHT}"
)
CHART_WIDTH = 880


def main(run: Path) -> None:
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        copy = Path(work) / "run"
        shutil.copytree(run, copy)
        concluding.render(copy)
        _picture(copy / "report.html", HERE / "report.png", 1280, 800)
        chart = _quality_and_cost(copy / "report.html")
        _picture(chart, HERE / "quality-and-cost.png", CHART_WIDTH, _height(chart))


def _quality_and_cost(report: Path) -> Path:
    """A page with nothing but the report's first chart, in the report's own style."""
    text = report.read_text(encoding="utf-8")
    style, figure = (re.search(pattern, text, re.DOTALL) for pattern in ("<style>.*?</style>", "<figure>.*?</figure>"))
    assert style and figure, "a report has a style, and the demo's has charts"
    drawn = re.sub(r"<details>.*</details>", "", figure[0], flags=re.DOTALL)
    room = "<style>body { padding: 1.25rem } figure { margin: 0 }</style>"
    measure = "<script>document.title = Math.ceil(document.body.getBoundingClientRect().height)</script>"
    page = report.with_name("chart.html")
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title></title>{style[0]}{room}{drawn}{measure}'
    )
    return page


def _height(page: Path) -> int:
    found = re.search(r"<title>(\d+)</title>", _chromium(page, f"--window-size={CHART_WIDTH},800", "--dump-dom"))
    assert found, "the page measures itself"
    return int(found[1])


def _picture(page: Path, file: Path, width: int, height: int) -> None:
    _chromium(page, f"--window-size={width},{height}", f"--screenshot={file.absolute()}")
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(200, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def _chromium(page: Path, *options: str) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("chromium is not installed; apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS.split(), f"--user-data-dir={profile}", *options, page.absolute().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_pictures.py RUN, the folder that `make demo` wrote")
    main(Path(sys.argv[1]))
