"""One candidate of one run folder: which is meant, its rows, their scores and answers. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalft import config
from evalft.config import TaskConfig
from evalft.errors import UserError
from evalft.records import Example, Outcome, Score
from evalft.store import RunFolder, read_lines, read_outcome


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
    examples: Sequence[Example]
    """Those with a score, in the order of the test set."""
    scores: Mapping[str, Score]
    """By example id."""

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
    scores = {line["id"]: Score(**line) for line in read_lines(path)}
    return Side(
        folder=folder,
        candidate=candidate,
        summary=summary,
        entry=next(entry for entry in summary["candidates"] if entry["name"] == candidate),
        task=config.load(folder.file("config")).task,
        examples=[example for example in folder.read_examples("test") if example.id in scores],
        scores=scores,
    )


def outcomes_of(side: Side) -> list[Outcome]:
    """The answers on disk, the last of each example and repeat; a torn last line is left alone and out."""
    path = side.folder.predictions_file(side.candidate)
    try:
        with path.open(encoding="utf-8") as file:
            read = [read_outcome(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return list({(outcome.id, outcome.repeat): outcome for outcome in read}.values())
