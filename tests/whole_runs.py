"""A task small enough to be run whole in seconds: rows, an endpoint that knows the answers, a tiny base, training.

The task: "red message 217 says refund" -> "refund". The endpoint is a parser; the base has random weights.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from evalft import cli, config
from evalft.progress import Progress
from evalft.recipes import command
from evalft.reporting import view

WORDS = ("card", "refund")
COLOURS = ("red", "green", "blue")
PRICE_USD = (10 * 1.0 + 5 * 2.0) / 1e6
"""Of any answer of the endpoint: `api_server` counts 10 and 5 tokens for each."""
SYSTEM = "Answer with one word."
Row = dict[str, Any]


METRICS = {"generation": "exact_match", "classification": "accuracy", "multilabel": "jaccard"}


def rows(start: int, count: int, kind: str = "generation") -> list[Row]:
    made = []
    for i in range(start, start + count):
        word = WORDS[i % 2]
        target = [word] if kind == "multilabel" else word
        made.append({"id": f"r{i}", "text": text(i, COLOURS[i // 2 % 3], word), "word": target})
    return made


def text(number: int, colour: str, word: str) -> str:
    return f"{colour} message {number} says {word}"


def write(file: Path, made: Sequence[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in made))


def asked(body: Mapping[str, Any]) -> str:
    """The last message."""
    return str(body["messages"][-1]["content"])


def is_writing(body: Mapping[str, Any]) -> bool:
    """Whether the teacher is asked for new inputs, rather than for an answer."""
    return "new inputs of the same kind" in asked(body)


def written(body: Mapping[str, Any]) -> list[str]:
    """Ten new inputs, the same ones for the same question."""
    draw = random.Random(asked(body))
    return [text(draw.randrange(500, 1000), draw.choice(COLOURS), draw.choice(WORDS)) for _ in range(10)]


def knows(body: Mapping[str, Any], number: int = 0) -> str:
    """What the endpoint says: right answers, and new inputs where those are asked for."""
    return json.dumps(written(body)) if is_writing(body) else asked(body).split(" says ")[1].split()[0]


def configured(
    folder: Path, base: Path | None = None, base_url: str = "", kind: str = "generation", **sections: Any
) -> config.Config:
    """24 test, 10 dev and 20 train rows; the endpoint costs too much and the base knows nothing, so that the verdict is
    to tune where there is a base. `sections` are put into those of the config, None leaves one out."""
    write(folder / "test.jsonl", rows(400, 24, kind))
    write(folder / "dev.jsonl", rows(100, 10, kind))
    write(folder / "train.jsonl", rows(200, 20, kind))
    data: dict[str, Any] = {
        "task": {
            "name": "words",
            "type": kind,
            "test": "test.jsonl",
            "dev": "dev.jsonl",
            "train": "train.jsonl",
            "input": "text",
            "target": "word",
            "id": "id",
            "system": SYSTEM,
        },
        "thresholds": {METRICS[kind]: ">= 0.3", "cost_per_query": "<= 0.00001"},
        "expand": {"teacher": "mock:m", "target_rows": 28} if base_url else {"target_rows": 28},
        "tune": {"epochs": 12, "learning_rate": 0.01, "batch_size": 28},
        "prices": {"cpu_hour_usd": 0.001},  # so that a busy machine is no dear one
        "limits": {"min_coverage": 0.0},  # the base rambles
        "candidates": [],
    }
    if base_url:
        data["providers"] = {"mock": {"base_url": base_url}}
        data["candidates"].append({"name": "endpoint", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}})
    if base:
        data["candidates"].append({"name": "tiny", "model": f"hf:{base}", "max_tokens": 6})
    for name, section in sections.items():
        data[name] = data.get(name, {}) | section if isinstance(section, dict) else section
    data = {name: section for name, section in data.items() if section is not None}
    return config.build(data, source="test", folder=folder)


def as_file(made: config.Config, file: Path) -> Path:
    """The config as a user writes it, for a command."""
    file.write_text(yaml.safe_dump(json.loads(json.dumps(config.as_data(made)))))
    return file


def training_here(line: Sequence[str], log: Path, progress: Path, notify: Callable[[Mapping[str, Any]], None]) -> int:
    """In place of `training._run`: the same recipe in this process, which has imported torch and trl once."""
    import torch

    from evalft.errors import UserError
    from evalft.recipes import dpo, lora, sft

    torch.set_num_threads(1)
    method = line[2].rpartition(".")[2]
    options = command.parser(method).parse_args(list(line[3:]))
    try:
        with log.open("w") as file, redirect_stdout(file):
            if method == "sft":
                lora.train("sft", options, sft.make_trainer)
            else:
                lora.train("dpo", options, lambda ready: dpo.make_trainer(ready, options.beta), dpo.check_reference)
    except UserError as error:
        log.write_text("".join(f"error: {fault}\n" for fault in error.faults))
        return error.status
    for line_of_progress in progress.read_text().splitlines():
        notify(json.loads(line_of_progress))
    return 0


class Heard(Progress):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__(Console(stderr=True), quiet=True)
        self.lines: list[str] = []

    def say(self, lines: Any) -> None:
        self.lines += lines


def evalft(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """The exit status of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["evalft", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def read(run: Path, name: str) -> Any:
    """A file of a run folder: JSON, or the list of its lines."""
    found = (run / name).read_text()
    return [json.loads(line) for line in found.splitlines()] if name.endswith(".jsonl") else json.loads(found)


def keeps_to_the_schema(summary: Mapping[str, Any]) -> None:
    jsonschema.validate(dict(summary), json.loads((Path(view.__file__).parent / "summary.schema.json").read_text()))
