"""One candidate of one run folder: which is meant, and its scored rows. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalft import config, scored_rows
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.scored_rows import ScoredRows
from evalft.store import RunFolder


def parse(name: str, usual: str | None = None) -> tuple[RunFolder, str]:
    """The run and the candidate that "RUN" or "RUN:CANDIDATE" names; colons may stand in both.

    Without a candidate: `usual` where the run has it, else the tuned one, else the only one, else the verdict's. Raises UserError where there is no such
    run or candidate, or several to choose from.
    """
    folder, candidate = locate(name)
    summary = folder.read_summary()
    entries: dict[str, Any] = {entry["name"]: entry for entry in summary["candidates"]}
    if candidate is not None:
        if candidate in entries:
            return folder, candidate
        near = get_close_matches(candidate, entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(entries)}"
        raise UserError(f"{folder.path}: has no candidate {candidate!r}; {hint}")
    tuned = [name for name, entry in entries.items() if entry["role"] == "tuned"]
    chosen = (summary["verdict"] or {}).get("candidate")
    for names in ([usual] if usual in entries else [], tuned, list(entries), [chosen] if chosen in entries else []):
        if len(names) == 1:
            return folder, names[0]
    raise UserError(
        f"{folder.path}: has {len(entries)} candidates; name one of them as {folder.path}:CANDIDATE: {', '.join(entries)}"
    )


@dataclass(frozen=True, slots=True)
class Side:
    """One candidate of one run."""

    folder: RunFolder
    candidate: str
    summary: Mapping[str, Any]
    entry: Mapping[str, Any]
    """The candidate's, in the summary."""
    task: TaskConfig
    rows: ScoredRows
    slow: str | None
    """Why its rows had to be read from the JSONL files, if so."""

    @property
    def name(self) -> str:
        return f"{self.folder.path}:{self.candidate}"


def locate(name: str) -> tuple[RunFolder, str | None]:
    """The longest part of `name` before a colon (or all of it) that is a run folder, and what follows. Raises UserError
    where there is none."""
    colons = [i for i, character in enumerate(name) if character == ":"]
    for end in (len(name), *reversed(colons)):
        folder = RunFolder(Path(name[:end]))
        if end and folder.exists():
            return folder, name[end + 1 :] or None
    raise UserError(
        f"{name}: is neither RUN nor RUN:CANDIDATE with RUN a run folder (one with a manifest.json); "
        "`evalft assess` makes one below reports/"
    )


def read(folder: RunFolder, candidate: str) -> Side:
    summary = folder.read_summary()
    path = folder.scores_file(candidate)
    for file in (path, folder.file("test")):
        if not file.is_file():
            raise UserError(f"{file}: no such file; `evalft assess {folder.path}` writes it again")
    task = config.load(folder.file("config")).task
    rows, slow = scored_rows.read(folder, candidate, task)
    return Side(
        folder=folder,
        candidate=candidate,
        summary=summary,
        entry=next(entry for entry in summary["candidates"] if entry["name"] == candidate),
        task=task,
        rows=rows,
        slow=slow,
    )
