"""What a person sees while candidates are asked: the running score with its interval, dollars, time left, failures.

On a terminal one live line per candidate; elsewhere a plain line now and then, so that a log of CI stays readable.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from evalft.events import Emit, nobody
from evalft.records import Failure, Outcome
from evalft.stats.proportion import clopper_pearson

PLAIN_EVERY_S = 10.0
TRAINING_EVERY_S = 5.0
EVENTS_PER_CANDIDATE = 20
STALLED = 10, 5.0
"""So many usual gaps between outcomes, and seconds, without one: what comes is not known from the pace that was."""

RowScore = Callable[[Outcome], float]
"""Primary metric of one answered example, 0..1."""


@dataclass
class _Line:
    """The counts behind one candidate's line."""

    name: str
    total: int
    metric: str
    """Empty: what is answered is not scored."""
    row_score: RowScore
    done: int = 0
    cached: int = 0
    score_sum: float = 0.0
    whole: bool = True  # only 0 and 1 so far: a proportion
    failures: Counter[str] = field(default_factory=Counter)
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    """When the last outcomes came: the pace of now, not of the first request and of loading."""
    finished: bool = False
    in_batches: bool = False
    asked_again: Collection[object] = ()
    """Rows without an answer so far that are tried again; grows and shrinks as they are."""

    def take(self, outcome: Outcome) -> None:
        self.done += 1
        self.cached += outcome.cached
        if isinstance(outcome, Failure):
            self.failures[outcome.failure] += 1
        score = 0.0 if isinstance(outcome, Failure) else self.row_score(outcome)
        self.score_sum += score
        self.whole = self.whole and score in (0.0, 1.0)
        self.latest.append(time.monotonic())

    def estimate(self) -> tuple[float, float | None, float | None] | None:
        """The running primary metric, with its 95 % interval where it is a proportion."""
        if not self.done or not self.metric:
            return None
        low, high = clopper_pearson(round(self.score_sum), self.done, 0.025) if self.whole else (None, None)
        return self.score_sum / self.done, low, high

    def score(self) -> str:
        found = self.estimate()
        if found is None:
            return ""
        mean, low, high = found
        return f"{self.metric} {mean:.3f}" + (f" ({low:.3f}-{high:.3f})" if low is not None else "")

    def left(self) -> str:
        if self.finished or self.in_batches or len(self.latest) < 10:
            return ""
        now, gap = time.monotonic(), (self.latest[-1] - self.latest[0]) / (len(self.latest) - 1)
        if now - self.latest[-1] > max(STALLED[0] * gap, STALLED[1]) or self.total - self.done <= len(self.asked_again):
            return ""
        return f"{_duration((now - self.latest[0]) / (len(self.latest) - 1) * (self.total - self.done))} left"

    def troubles(self) -> tuple[str, str, str]:
        """(failures by kind, how many were not asked anew, how many are being tried again)."""
        failed = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common())
        cached = f"{self.cached} from cache" if self.cached else ""
        again = len(self.asked_again)
        return failed, cached, f"{again} {'row is' if again == 1 else 'rows are'} being asked again" if again else ""


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"


class Progress(AbstractContextManager["Progress"]):
    """Shows on `console` (standard error)."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False, emit: Emit = nobody) -> None:
        """`verbose`: each choice is said as well; `emit`: what happens goes to a program that watches, too."""
        self._console = console
        self._quiet, self._verbose = quiet, verbose
        self.emit = emit
        self._lines: list[_Line] = []
        self._money: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)
        self._live: Live | None = None
        self._last_plain = time.monotonic()

    def __enter__(self) -> Progress:
        self._lines = []
        if self._console.is_terminal and not self._quiet:
            self._live = Live(
                console=self._console, get_renderable=self._rendered, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def watch_money(self, money: Callable[[], tuple[float, float]]) -> None:
        self._money = money

    def candidate(
        self,
        name: str,
        total: int,
        metric: str,
        row_score: RowScore,
        *,
        grouped: bool = False,
        in_batches: bool = False,
    ) -> Callable[[Outcome], None]:
        """A new line; returns the function that each of its outcomes is given to. grouped: rows are not independent, so
        that no interval is shown before the result's; in_batches: what comes next comes when the provider has done it."""
        line = _Line(name, total, metric, row_score, whole=not grouped, in_batches=in_batches)
        self._lines.append(line)

        def take(outcome: Outcome) -> None:
            line.take(outcome)
            self._plain(line)
            if line.done == line.total or line.done % max(1, line.total // EVENTS_PER_CANDIDATE) == 0:
                self._emit_progress(line)

        return take

    def watch_asked_again(self, name: str, rows: Collection[object]) -> None:
        for line in self._lines:
            if line.name == name:
                line.asked_again = rows

    def trouble(self, name: str, line: str) -> None:
        """What slows a candidate down; on a terminal its line is there anyway, elsewhere it may be time for one."""
        self.choices(name, [line])
        for one in self._lines:
            if one.name == name:
                self._plain(one)

    def finished(self, name: str) -> None:
        for line in self._lines:
            if line.name == name and not line.finished:
                line.finished = True
                self._plain(line, now=True)

    def training(self, stage: str, line: Mapping[str, Any]) -> None:
        """A line that a recipe logged: step, steps, loss, seconds so far."""
        self.emit("training", stage=stage, **{key: line[key] for key in ("step", "steps", "loss", "seconds")})
        done = line["step"] >= line["steps"]
        if not done and time.monotonic() - self._last_plain < TRAINING_EVERY_S:
            return
        self._last_plain = time.monotonic()
        left = line["seconds"] / max(1, line["step"]) * (line["steps"] - line["step"])
        rest = "" if done else f", {_duration(left)} left"
        self.say([f"{stage}  step {line['step']}/{line['steps']}  loss {line['loss']:.4g}{rest}"])

    def choices(self, candidate: str | None, lines: Sequence[str]) -> None:
        """What the program chose, for a candidate or (None) for the data."""
        if lines:
            self.emit("choices", candidate=candidate, lines=list(lines))
        if self._verbose:
            self._print(f"{candidate}: {line}" if candidate else line for line in lines)

    def say(self, lines: Iterable[str]) -> None:
        lines = list(lines)
        for line in lines:
            self.emit("said", line=line)
        self._print(lines)

    def _print(self, lines: Iterable[str]) -> None:
        if not self._quiet:
            for line in lines:
                self._console.print(escape(line), highlight=False, soft_wrap=True)

    def _plain(self, line: _Line, now: bool = False) -> None:
        if self._live or self._quiet or (not now and time.monotonic() - self._last_plain < PLAIN_EVERY_S):
            return
        self._last_plain = time.monotonic()
        parts = (line.name, f"{line.done}/{line.total}", line.score(), self._spent(), line.left(), *line.troubles())
        self._print(["  ".join(part for part in parts if part)])

    def _emit_progress(self, line: _Line) -> None:
        score, low, high = line.estimate() or (None, None, None)
        self.emit(
            "progress",
            name=line.name,
            done=line.done,
            total=line.total,
            metric=line.metric or None,
            score=score,
            low=low,
            high=high,
            failures=dict(line.failures),
            cached=line.cached,
            usd_spent=self._money()[0],
        )

    def _spent(self) -> str:
        spent, left = self._money()
        return f"${spent:.4f} spent, ${max(0.0, left):.2f} left" if spent else ""

    def _rendered(self) -> Group:
        """A line per candidate, its failures and the money below: never wider than the terminal, so that nothing wraps."""
        counts = [f"{line.done}/{line.total}" for line in self._lines]
        scores = [line.score() for line in self._lines]
        widest = [max(map(len, cells), default=0) for cells in (counts, scores)]
        room = max(12, self._console.width - sum(widest) - len("  ") * 3 - len("999 min left"))
        rows = []
        for line, count, score in zip(self._lines, counts, scores, strict=True):
            name = line.name if len(line.name) <= room else f"{line.name[: room - 1]}…"
            width = min(room, max(len(other.name) for other in self._lines))
            rows.append(f"{name:{width}}  {count:>{widest[0]}}  {score:{widest[1]}}  {line.left()}".rstrip())
            if any(line.troubles()):
                rows.append("  " + ", ".join(filter(None, line.troubles())))
        if self._spent():
            rows.append(self._spent())
        return Group(*(Text(row, no_wrap=True, overflow="ellipsis") for row in rows))
