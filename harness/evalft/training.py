"""A recipe and its data -> a subprocess -> an adapter folder.

Training runs in a process of its own: what it leaks, crashes or leaves on the GPU ends with it, and it ends with its
parent. The folder's log.txt holds what it printed.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalft.errors import EvalftError, UserError
from evalft.hyperparameters import Settings
from evalft.recipes import command
from evalft.records import Message, Pair
from evalft.store import write_atomically

POLL_S = 0.2


def write_sft_rows(path: Path, rows: Iterable[tuple[Sequence[Message], str]]) -> None:
    """(messages, answer) each, as recipes/sft.py reads them."""
    write_atomically(path, (_line({"messages": messages, "completion": answer}) for messages, answer in rows))


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """As recipes/dpo.py reads them, scores and origin included."""
    write_atomically(path, (_line(asdict(pair)) for pair in pairs))


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, default=dict) + "\n"


def train(
    settings: Settings,
    *,
    base: str,
    revision: str | None,
    data: Path,
    out: Path,
    adapter: Path | None = None,
    processes: int = 1,
    template_options: Mapping[str, object],
    notify: Callable[[Mapping[str, Any]], None],
) -> Mapping[str, Any]:
    """Train into `out` and return its training.json; a folder that is finished with the same is returned at once, one
    that was stopped is gone on with. `base` is a folder or hub id, `adapter` (DPO) where to start from. `notify` gets
    every line of progress.jsonl. Raises UserError for what the recipe refuses, EvalftError where it died."""
    if command.missing_extra():
        raise UserError(command.NO_EXTRA)
    given = {
        "base": str(Path(base).expanduser().absolute()) if Path(base).expanduser().is_dir() else base,
        "revision": revision,
        "data": data.absolute(),
        "out": out.absolute(),
        "adapter": adapter.absolute() if adapter else None,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "lora_r": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.lora_dropout,
        "lora_targets": settings.lora_targets,
        "max_length": settings.max_length,
        "precision": settings.precision,
        "seed": settings.seed,
        "beta": settings.beta,
        "template_options": dict(template_options),
        "until_stdin_closes": True,
    }
    words = command.arguments(given)
    options = command.parser(settings.method).parse_args(words)
    digest = command.digest(options)
    if done := command.finished(out, digest):
        return done
    recipe = ["-m", f"evalft.recipes.{settings.method}", *words]
    if processes > 1:
        recipe = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *recipe]
    out.mkdir(parents=True, exist_ok=True)
    (out / command.PROGRESS).unlink(missing_ok=True)  # the recipe writes what still holds of it again
    log = out / "log.txt"
    status = _run([sys.executable, *recipe], log, out / command.PROGRESS, notify)
    if done := command.finished(out, digest):
        return done
    errors = _errors(log)
    if errors:
        raise UserError(*errors)
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    raise EvalftError(f"training {ended}; its output is in {log}; the same command goes on with it")


def _run(command_line: Sequence[str], log: Path, progress: Path, notify: Callable[[Mapping[str, Any]], None]) -> int:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command_line, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=_environment()
        )
        lines = _new_lines(progress)
        try:
            while True:
                try:
                    status = process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    status = None
                for line in next(lines):
                    notify(line)
                if status is not None:
                    return status
        finally:  # a Ctrl-C too: the recipe ends when its stdin does
            assert process.stdin is not None
            process.stdin.close()
            process.terminate()
            process.wait()


def _new_lines(path: Path) -> Iterator[list[Mapping[str, Any]]]:
    """Whenever asked, the whole lines that were added to a file since."""
    place = 0
    while True:
        added = b""
        if path.is_file():
            with path.open("rb") as file:
                file.seek(place)
                added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        place += len(whole)
        yield [json.loads(line) for line in whole.splitlines()]


def _environment() -> dict[str, str]:
    """What training needs of ours: no keys, and the package itself where it is not installed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "HF_TOKEN" or not name.upper().endswith(("_KEY", "_TOKEN"))
    }
    package = str(Path(__file__).parents[1])
    if package not in site.getsitepackages():  # which on this path would stand before the standard library
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
    return kept | {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


def _errors(log: Path) -> list[str]:
    """The lines that a recipe says what is wrong with; with several processes each says it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return list(dict.fromkeys(line.removeprefix("error: ") for line in lines if line.startswith("error: ")))
