"""Getting started: write an evalft.yaml, copy a bundled benchmark, run the demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from evalft import config, pipeline, testset
from evalft.concluding import Assessment
from evalft.errors import EvalftError, UserError
from evalft.progress import Progress
from evalft.store import write_atomically

DEMO = "english-to-latex"

BLANK = """\
# What is measured, on whom, and what is required. Every key: README.md, "Config".
task:
  test: test.jsonl            # JSONL, JSON, CSV, TSV or Parquet
  input: input                # the column that is asked
  target: target              # the column that is expected
  # type: classification      # or multilabel, generation; inferred where it is left out
  # group: customer           # a column: rows with the same value belong together, and intervals are wider for it
  # train: train.jsonl        # rows for shots and training; never scored
candidates:
  - model: openai:gpt-5-mini  # key from OPENAI_API_KEY
  # - model: hf:Qwen/Qwen3-0.6B                      # an open model: hub id or folder
  # - {model: "NAME:model", price: {input: 0.20, output: 0.60}}  # NAME stands under providers
# providers: {NAME: {base_url: "https://...", api_key_env: NAME_API_KEY}}
thresholds:
  accuracy: ">= 0.9"          # of the metric, of cost_per_query (USD), latency_p50 and latency_p95 (s)
decide:
  queries_per_month: 10000
limits:
  max_cost_usd: 5
"""


def blank(folder: Path) -> list[str]:
    """A commented evalft.yaml to fill in."""
    target = _new_config(folder)
    write_atomically(target, BLANK)
    return [f"wrote {target}; fill it in, then: evalft check {target}"]


def from_data(
    data: Path,
    folder: Path,
    *,
    split: float | None,
    input_column: str | None,
    target_column: str | None,
    task_type: str | None,
) -> list[str]:
    """evalft.yaml for a data file: type, columns and labels inferred and said. `split` cuts a lone file in two."""
    target = _new_config(folder)
    where = str(data) if str(data).startswith("hf:") else str(data.absolute())
    given = {"test": where, "input": input_column, "target": target_column, "type": task_type}
    asked = config.build(
        {"task": {name: value for name, value in given.items() if value}}, source="init", folder=Path.cwd()
    )
    where = asked.task.test or where  # hf: of a folder here has its whole path now
    loaded = testset.load(asked.task)
    task = loaded.task.model_copy(update={"test": where})
    said = [*loaded.assumed, *loaded.warnings]
    lines: dict[str, object] = {"name": task.name, "type": task.type, "test": _relative(where, folder)}
    if split is not None:
        test, train = testset.split(asked.task, split)
        for name, rows in (("test", test), ("train", train)):
            path = folder / f"{name}.jsonl"
            if path.exists():
                raise UserError(f"{path}: exists already and is not overwritten; move it away first")
            write_atomically(path, (json.dumps(dict(row), ensure_ascii=False, default=str) + "\n" for row in rows))
        lines |= {"test": "test.jsonl", "train": "train.jsonl"}
        said.append(f"split: {len(test)} rows stay test, {len(train)} became train rows (by a hash of the content)")
    lines |= {"input": task.input, "target": task.target}
    lines |= {"id": task.id} if task.id else {}
    lines |= {"labels": task.labels} if task.type != "generation" else {}
    document = {
        "task": lines,
        "candidates": [{"model": "openai:gpt-5-mini"}],
        "thresholds": {_first_metric(task.type): ">= 0.9"},
    }
    comments = "".join(f"# {' '.join(line.split())}\n" for line in said)
    write_atomically(target, f"# Assumed from {data.name}:\n{comments}{config.dump(document)}")
    return [*said, f"wrote {target}; set candidates and thresholds, then: evalft check {target}"]


def _first_metric(task_type: str | None) -> str:
    return {"classification": "accuracy", "multilabel": "jaccard"}.get(task_type or "", "exact_match")


def _relative(path: str, folder: Path) -> str:
    if path.startswith("hf:/"):  # a folder, not a name on the hub
        name, colon, split = path[3:].partition(":")
        return f"hf:{os.path.relpath(name, folder.absolute())}{colon}{split}"
    return path if path.startswith("hf:") else os.path.relpath(path, folder.absolute())


def copy_example(name: str, folder: Path) -> list[str]:
    """A bundled benchmark, copied so that it can be changed."""
    names = sorted(path.parent.name for path in benchmarks().glob("*/evalft.yaml"))
    if name not in names:
        raise UserError(f"--example {name}: there is no such benchmark; there are: {', '.join(names)}")
    target = folder / name
    if target.exists():
        raise UserError(f"{target}: exists already and is not overwritten; name another folder")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(benchmarks() / name, target, ignore=ignored)
    for lent in _models_of_others(target / "evalft.yaml", name):
        shutil.copytree(benchmarks() / lent, folder / lent, ignore=ignored, dirs_exist_ok=True)
    lent_too = [f"its model is in {folder / lent}" for lent in _models_of_others(target / "evalft.yaml", name)]
    return [*lent_too, f"copied to {target}; read {target / 'README.md'}, then: evalft check {target / 'evalft.yaml'}"]


def _models_of_others(config_file: Path, name: str) -> list[str]:
    """The model folders of other bundled benchmarks that this one names as hf:../OTHER/FOLDER."""
    found = re.findall(r"hf:\.\./([\w.-]+/[\w.-]+)", config_file.read_text(encoding="utf-8"))
    return sorted({lent for lent in found if not lent.startswith(name) and (benchmarks() / lent).is_dir()})


def benchmarks() -> Path:
    """The bundled benchmarks: inside the installed package, or beside harness/ in a clone."""
    package = Path(__file__).parent
    inside = package / "benchmarks"
    return inside if inside.is_dir() else package.parents[1] / "benchmarks"


def _new_config(folder: Path) -> Path:
    target = folder / "evalft.yaml"
    if target.exists():
        raise UserError(f"{target}: exists already and is not overwritten; name another folder")
    return target


# ---------------------------------------------------------------- the demo


def demo(out: Path | None, console: Console) -> Assessment:
    """The bundled benchmark through `run`, measured anew: its endpoint is a process of its own, asked over HTTP."""
    folder = benchmarks() / DEMO
    progress = Progress(console)
    progress.say([f"benchmark {DEMO}: {folder / 'README.md'} says how it was made and what to expect"])
    with _endpoint(folder / "server.py", _address(folder)) as base_url:
        loaded = config.load(folder / "evalft.yaml", extra={"providers.rules.base_url": base_url})
        progress.say([f"its endpoint, a stand-in for a closed API, listens on {base_url}"])
        return pipeline.run(loaded, out=out, fresh=True, train_here=True, progress=progress)


def _address(folder: Path) -> int:
    url = config.load(folder / "evalft.yaml").providers["rules"].base_url
    return int(url.rpartition(":")[2].partition("/")[0])


@contextmanager
def _endpoint(script: Path, port: int) -> Iterator[str]:
    """The benchmark's server on the loopback; on another port where the usual one is taken. It ends with this process."""
    for number in (port, 0):
        process = subprocess.Popen(
            [sys.executable, str(script), "--port", str(number), "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        line = process.stdout.readline()
        if line.startswith("listening on "):
            break
        _stop(process)
    else:
        raise EvalftError(f"{script}: the demo's endpoint does not start")
    try:
        yield line.removeprefix("listening on ").strip()
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    process.terminate()
    process.wait(timeout=10)
