"""The command line of sft.py and dpo.py: its options, its one-line errors, and what a training is known by.

Light: what is heavy (torch, transformers, trl) is imported once the options are read and the environment is set.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalft import config
from evalft.candidates.model_files import find_adapter, find_model
from evalft.errors import UserError
from evalft.hyperparameters import PRECISIONS

REPORT = "training.json"
PROGRESS = "progress.jsonl"
NO_EXTRA = "training needs trl and peft; pip install 'evalft[train]'"
WHERE = ("out", "data", "base", "revision", "adapter", "until_stdin_closes")
"""Options that say where things are: what is found there counts, by content."""


def parser(method: str) -> argparse.ArgumentParser:
    dpo = method == "dpo"
    rows = '"chosen": text, "rejected": text' if dpo else '"completion": text'
    made = argparse.ArgumentParser(
        prog=f"python -m evalft.recipes.{method}", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument(
        "--base", required=True, help="model to train: a folder as save_pretrained writes it, or a hub id"
    )
    made.add_argument("--revision", help="of a hub id: branch, tag or commit")
    if dpo:
        made.add_argument("--adapter", help="LoRA adapter of the base to go on from, which is the reference then too")
    made.add_argument("--data", type=Path, required=True, help=f'JSON lines, {{"messages": [...], {rows}}} each')
    made.add_argument("--out", type=Path, required=True, help="folder to write the adapter to")
    made.add_argument("--epochs", type=_positive, default=1 if dpo else 3, help="passes over the rows")
    made.add_argument("--learning-rate", type=_positive, default=5e-6 if dpo else 2e-4, help="peak; a cosine to 0")
    made.add_argument("--batch-size", type=_count, default=16, help="rows of one step, over all processes")
    made.add_argument("--lora-r", type=_count, default=16, help="rank")
    made.add_argument("--lora-alpha", type=float, default=32, help="scale, divided by the rank")
    made.add_argument("--lora-dropout", type=float, default=0.0, help="none in DPO, whatever this says")
    made.add_argument("--lora-targets", nargs="+", default=["all-linear"], help="names of linear layers")
    made.add_argument("--max-length", type=int, default=0, help="most tokens of a row; 0: as the data and model allow")
    made.add_argument("--precision", choices=PRECISIONS, default="auto")
    if dpo:
        made.add_argument("--beta", type=float, default=0.1, help="how dear it is to leave the reference")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--template-options",
        type=_json_object,
        default='{"enable_thinking": false}',
        help="JSON object for the chat template, as the model will be asked with",
    )
    made.add_argument("--until-stdin-closes", action="store_true", help="end at once with the process that holds stdin")
    return made


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _json_object(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(text)
    return data


def run(method: str, train: Callable[[argparse.Namespace], None]) -> None:
    """Read the options, train, and turn a UserError into `error: ...` lines and status 2."""
    options = parser(method).parse_args()
    if options.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if "WORLD_SIZE" not in os.environ:
        # a lone process uses one GPU: the trainer has no use for several without torchrun
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    try:
        if missing_extra():
            raise UserError(NO_EXTRA)
        train(options)
    except UserError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr, flush=True)
        raise SystemExit(error.status) from None


def _end_with_stdin() -> None:
    # os.read holds no lock of Python's own, which a thread killed at exit would keep.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


def missing_extra() -> bool:
    return any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft", "trl"))


def digest(options: argparse.Namespace) -> str:
    """Of everything that decides the adapter: settings, and data, base and adapter by content. Raises UserError."""
    settings = {name: value for name, value in vars(options).items() if name not in WHERE}
    base = find_model(options.base, options.revision, "tune.base")
    adapter = None
    if getattr(options, "adapter", None):  # not of its training.json, which says how long it took
        files = find_adapter(options.adapter, "--adapter")
        settled = {name: sorted(value) if isinstance(value, list) else value for name, value in files.config.items()}
        adapter = [settled, _sha256(files.folder / "adapter_model.safetensors")]  # peft lists its targets in any order
    try:
        data = _sha256(options.data)
    except OSError as error:
        raise UserError(f"{options.data}: cannot be read: {error.strerror}") from None
    return config.digest({"settings": settings, "base": base.digest, "adapter": adapter, "data": data})


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def finished(out: Path, digest: str) -> Mapping[str, Any] | None:
    """training.json of a training that was done to its end with just this; else None."""
    try:
        report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = (out / "adapter_model.safetensors").is_file() and (out / "adapter_config.json").is_file()
    return report if whole and isinstance(report, dict) and report.get("digest") == digest else None


def arguments(options: Mapping[str, Any]) -> Sequence[str]:
    """Options as words of a command line: {"batch_size": 8} -> ["--batch-size", "8"]; what is None is left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, dict):
            words.append(json.dumps(value))
        elif isinstance(value, list | tuple):
            words += map(str, value)
        elif value is not True:
            words.append(str(value))
    return words
