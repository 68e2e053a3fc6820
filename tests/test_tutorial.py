"""docs/tutorial.md, every line of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("evalft", "-m evalft.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    script = ["set -euo pipefail"]
    for language, block in re.findall(r"```(sh|python|yaml)\n(.*?)```", PAGE, flags=re.DOTALL):
        if language == "sh":
            script.append(block)
        else:
            name = block.splitlines()[0].removeprefix("# ")
            script.append(f"cat > {name} <<'END_OF_FILE'\n{block}END_OF_FILE")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    assert (tmp_path / "urgent-tickets" / "first" / "report.html").is_file()
