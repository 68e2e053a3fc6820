"""What the scripts of this folder share: a process timed from outside, ratios over paired rounds, the machine in words."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """One process from start to end, its children included."""

    wall_s: float
    cpu_s: float
    """User and system."""
    peak_mb: float
    """Largest resident set of the process, MB."""


def timed(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end. Raises CalledProcessError with its output where it fails."""
    # as installed: pip compiles what it installs, and a checkout is compiled by its first run
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    with subprocess.Popen(
        command, env={**around, **(env or {})}, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), output)
    mb = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, mb)


def rounds(runs: Mapping[str, Callable[[], Cost]], count: int) -> dict[str, list[Cost]]:
    """Every run in every round, one after another, so that a slow minute of the machine slows all of them."""
    found: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(count):
        for name, run in runs.items():
            found[name].append(run())
            last = found[name][-1]
            figures = f"{last.cpu_s:.2f} s CPU, {last.wall_s:.2f} s, {last.peak_mb:.0f} MB"
            print(f"round {number + 1}: {name}: {figures}", flush=True)
    return found


def table(found: Mapping[str, Sequence[Cost]], beside: str) -> str:
    """Medians, and the median over rounds of CPU seconds as a ratio to `beside` in the same round."""
    lines = ["| | CPU s | wall s | peak MB | CPU beside " + beside + " |", "|---|---|---|---|---|"]
    for name, costs in found.items():
        ratio = statistics.median(one.cpu_s / other.cpu_s for one, other in zip(costs, found[beside], strict=True))
        middle = [statistics.median(getattr(cost, field) for cost in costs) for field in ("cpu_s", "wall_s", "peak_mb")]
        lines.append(f"| {name} | {middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.0f} | {ratio:.2f} x |")
    return "\n".join(lines)


def machine() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.system()}, Python {platform.python_version()}"
