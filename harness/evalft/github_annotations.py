"""A Gate as workflow commands of GitHub Actions: a mark on the line of the config that asked for what is not met.

The runner reads commands from a step's output, wherever a line begins with `::`. So what others wrote (names of slices and
models) is escaped in a command, and beside one it is printed while commands are stopped.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evalft import errors, gate_words, yaml_data
from evalft.gating import Gate

MOST = 10
"""Of one kind in one step: GitHub shows no more."""
_PLACE = re.compile(r"(?P<file>[^\n:]+):(?P<line>\d+): ")


def of_gate(gate: Gate, config: Path | None) -> list[str]:
    """One command per metric or slice that is not passed; an error where it fails the gate, else a warning."""
    found = []
    if gate.status == errors.COVERAGE:
        found.append(_command("error", gate_words.sentence(gate), config, _line(config, ("limits", "min_coverage"))))
    for one in (*gate.metrics, *gate.slices):
        if one.verdict != "pass":
            fails = one.verdict == "regression" or gate.status == errors.UNDECIDED
            place = ("task", "slices") if one in gate.slices else ("thresholds", one.name)
            found.append(
                _command(
                    "error" if fails else "warning",
                    gate_words.finding(gate, one),
                    config,
                    _line(config, place, ("gate",), ("thresholds",), ("task", "metrics"), ("task",)),
                    title=f"evalft gate: {one.verdict} in {one.name}",
                )
            )
    return _first(found)


def of_faults(faults: Sequence[str]) -> list[str]:
    """Of what could not be compared; `file:line: ` at the beginning of a fault is where it is marked."""
    found = []
    for fault in faults:
        place = _PLACE.match(fault)
        at = Path(place["file"]) if place and Path(place["file"]).is_file() else None
        line = int(place["line"]) if place and at else None
        found.append(_command("error", fault, at, line, title="evalft gate: not comparable"))
    return _first(found)


@contextmanager
def stopped(say: Callable[[str], None]) -> Iterator[None]:
    """What is printed inside is no command, whatever it says."""
    token = secrets.token_hex(16)
    say(f"::stop-commands::{token}")
    try:
        yield
    finally:
        say(f"::{token}::")


def _first(commands: list[str]) -> list[str]:
    return sorted(commands, key=lambda command: command.startswith("::warning"))[:MOST]


def _command(kind: str, message: str, file: Path | None, line: int | None, title: str = "evalft gate") -> str:
    properties = {"title": title}
    if file is not None:
        properties = {"file": _from_the_top(file), "line": str(line or 1)} | properties
    listed = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{kind} {listed}::{_escaped(message)}"


def _escaped(text: str, more: str = "") -> str:
    """As @actions/core escapes data, and `:` and `,` in properties; % first, so that nothing is unescaped twice."""
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _from_the_top(file: Path) -> str:
    """Relative to the repository, as annotations name files."""
    top = os.environ.get("GITHUB_WORKSPACE")
    whole = file.absolute()
    return whole.relative_to(top).as_posix() if top and whole.is_relative_to(top) else file.as_posix()


def _line(config: Path | None, *places: tuple[str, ...]) -> int | None:
    """Of the first of `places` that stands in the config."""
    if config is None:
        return None
    lines = yaml_data.parse(config.read_text(encoding="utf-8-sig"), str(config))[1]
    return next((lines[place] for place in places if place in lines), None)
