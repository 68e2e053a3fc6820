"""Run folders on disk -> what a list of them says. A folder that is under way or broken is listed with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from evalft.errors import UserError
from evalft.reporting import view
from evalft.reporting.candidates import Candidate
from evalft.store import RunFolder, slug


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    """Stands for the folder in addresses: a path from there is never followed."""
    path: Path
    state: str
    """Why there is no result to show, or that it may not be the last; empty for a finished run."""
    shown: view.View | None
    """Without rows; None where there is no result that can be read."""

    @property
    def words(self) -> str:
        """What a search looks at, in small letters."""
        if self.shown is None:
            return f"{self.path} {self.state}".lower()
        models = " ".join(f"{one.name} {one.model}" for one in self.shown.candidates)
        return f"{self.path} {self.shown.title} {self.shown.verdict.sentence} {models} {self.shown.created}".lower()

    @property
    def said(self) -> tuple[str, ...]:
        """What has to be known before its numbers are believed."""
        return (*filter(None, [self.state]), *(self.shown.banner if self.shown else ()))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.shown.candidates if self.shown else ()


def require(places: Sequence[Path]) -> None:
    """Raises UserError where a place is neither a run folder nor a folder of some."""
    for place in places:
        if next(_folders([place]), None) is None:
            raise UserError(
                f"{place}: is no run folder and holds none (each has a manifest.json); `evalft assess` makes one below reports/"
            )


class Runs:
    """The run folders at some places, looked for again whenever they are listed; a summary is read once."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._read: dict[Path, tuple[object, Run]] = {}

    def listed(self) -> list[Run]:
        """The last one first."""
        return sorted(
            map(self._run, _folders(self._places)),
            key=lambda run: run.shown.created if run.shown else "9",
            reverse=True,
        )

    def find(self, run_id: str) -> Run:
        """Raises UserError where there is no such run (any more)."""
        for path in _folders(self._places):
            if _id(path) == run_id:
                return self._run(path)
        raise UserError(f"{run_id}: no such run; it may have been moved")

    def _run(self, path: Path) -> Run:
        folder = RunFolder(path)
        stamp = tuple(stamp_of(folder.file(name)) for name in ("summary", "manifest"))
        if path not in self._read or self._read[path][0] != stamp:
            self._read[path] = stamp, _read(path)
        return self._read[path][1]


def stamp_of(path: Path) -> tuple[int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def why(error: Exception) -> str:
    """What to say of files that are not as evalft writes them."""
    return str(error) if isinstance(error, UserError) else f"cannot be read: {type(error).__name__}: {error}"


def _read(path: Path) -> Run:
    folder = RunFolder(path)
    try:
        stages = [
            f"{stage}: {state}" for stage, state in (folder.manifest().get("stages") or {}).items() if state != "done"
        ]
        unfinished = f"not finished ({', '.join(stages)})" if stages else ""
        if not folder.file("summary").is_file():
            return Run(_id(path), path, unfinished or "no result yet", None)
        return Run(_id(path), path, unfinished, view.read(path, rows=False))
    except Exception as error:  # whatever is wrong with one folder, the others are listed
        return Run(_id(path), path, why(error), None)


def _folders(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if RunFolder(place).exists():
            yield place
        elif place.is_dir():
            yield from (path for path in sorted(place.iterdir()) if RunFolder(path).exists())


def _id(path: Path) -> str:
    return f"{slug(path.resolve().name)}-{sha256(str(path.resolve()).encode(errors='surrogateescape')).hexdigest()[:8]}"
