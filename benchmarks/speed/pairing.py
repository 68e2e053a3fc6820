"""Two programs on one machine, by turns: paired rounds, medians of the ratios, and what machine it was."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "harness"))

BATCH_SIZES = (16, 64, 256)


@dataclass(frozen=True)
class Taken:
    """What one round took: by the clock, and of all cores together (which other programs on the machine disturb less)."""

    seconds: float
    cpu_seconds: float


class Peer:
    """lm-eval in a process of its own, which sleeps while it is not asked."""

    def __init__(self, python: str, model: str, threads: int, *, add_bos: bool) -> None:
        worker = Path(__file__).with_name("lm_eval_worker.py")
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [python, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment,
        )  # fmt: skip
        self.ready_s = self._ask({"model": model, "threads": threads, "add_bos": add_bos})["ready_s"]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the peer's process ended; run lm_eval_worker.py with its Python by hand to see why")
        return dict(json.loads(line))

    def run(self, kind: str, requests: Sequence[Any], batch_size: int) -> tuple[Taken, list[Any]]:
        given = self._ask({"kind": kind, "requests": requests, "batch_size": batch_size})
        return Taken(given["seconds"], given["cpu_seconds"]), given["results"]

    def best_batch_size(self, kind: str, requests: Sequence[Any]) -> int:
        """Of BATCH_SIZES the one that takes the least time of the processor; `requests` may be a part of them."""
        self.run(kind, requests[:64], 16)
        taken = {size: self.run(kind, requests, size)[0].cpu_seconds for size in BATCH_SIZES}
        print("lm-eval, CPU seconds by batch size:", ", ".join(f"{size}: {took:.2f}" for size, took in taken.items()))
        return min(taken, key=taken.__getitem__)


def timed(run: Callable[[], Any]) -> tuple[Taken, Any]:
    start, start_cpu = time.perf_counter(), time.process_time()
    result = run()
    return Taken(time.perf_counter() - start, time.process_time() - start_cpu), result


def paired(ours: Callable[[], Taken], peers: Callable[[], Taken], rounds: int) -> tuple[list[Taken], list[Taken]]:
    """What each took in alternating rounds; who begins alternates, too."""
    mine, theirs = [], []
    for number in range(rounds):
        if number % 2:
            theirs.append(peers())
            mine.append(ours())
        else:
            mine.append(ours())
            theirs.append(peers())
    return mine, theirs


def show(unit: str, count: int, mine: Sequence[Taken], theirs: Sequence[Taken] = ()) -> None:
    """Medians of each program, then of the ratio of the two in one round, with its range."""
    for clock in ("seconds", "cpu_seconds"):
        print(clock.replace("_", " "))
        for name, rounds in (("evalft", mine), ("lm-eval", theirs)):
            if rounds:
                median = statistics.median(getattr(took, clock) for took in rounds)
                print(f"  {name:8} {median:8.2f} s   {count / median:10,.1f} {unit}/s   ({len(rounds)} rounds)")
        ratios = sorted(getattr(their, clock) / getattr(my, clock) for my, their in zip(mine, theirs, strict=False))
        if ratios:
            print(f"  ratio    {statistics.median(ratios):8.2f}     ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


def machine() -> str:
    import torch
    import transformers

    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {gigabytes:.0f} GB, {'a' if torch.cuda.is_available() else 'no'} "
        f"GPU; torch {torch.__version__}, transformers {transformers.__version__}"
    )
