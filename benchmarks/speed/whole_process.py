"""How long a whole evaluation of a local model takes, start-up included: `evalft assess` beside `lm_eval run`.

    python benchmarks/speed/whole_process.py --model FOLDER --data FILE --peer-python PATH [--labels 77] [--rows 100]

The rows and the prompt are those of label_scoring.py, as a config for the one and a task file for the other. Each
starts without a cache of answers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pairing
import yaml
from label_scoring import QUESTION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-batch-size", default="64")
    parser.add_argument("--labels", type=int, default=77)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = str(Path(options.model).resolve())

    with open(options.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    labels = sorted({row["label"] for row in rows})[: options.labels]
    rows = [row | {"answer": labels.index(row["label"])} for row in rows if row["label"] in labels]
    rows = rows[:: max(len(rows) // options.rows, 1)][: options.rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {
            "task": "labels",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}" + QUESTION,
            "doc_to_choice": labels,
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc"}],
        }
        (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
        config = {
            "task": {"test": "test.jsonl", "type": "classification", "labels": labels, "input": "text", "target": "label",
                     "prompt": "{{ text }}" + QUESTION, "metrics": ["accuracy"]},
            "candidates": [{"name": "model", "model": f"hf:{model}", "device": "cpu"}],
        }  # fmt: skip
        (folder / "evalft.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(folder / "datasets"),
            "OMP_NUM_THREADS": str(options.threads),
        }
        arguments = f"pretrained={model},dtype=float32,add_bos_token=True"
        theirs = [
            *(
                options.peer_python,
                "-m",
                "lm_eval",
                "run",
                "--model",
                "hf",
                "--model_args",
                arguments,
                "--device",
                "cpu",
            ),
            *("--tasks", "labels", "--include_path", name, "--batch_size", options.peer_batch_size),
        ]

        def assess() -> pairing.Taken:
            own = Path(tempfile.mkdtemp(dir=folder))
            cli = Path(__file__).resolve().parents[2] / "cli.py"
            command = [sys.executable, str(cli), "assess", str(folder / "evalft.yaml"), "--out", str(own / "run")]
            return run(command, environment | {"EVALFT_CACHE": str(own / "cache")})

        def peer() -> pairing.Taken:
            return run(theirs, {key: value for key, value in environment.items() if key != "PYTHONPATH"})

        mine, peers = pairing.paired(assess, peer, options.rounds)
    print(f"{len(rows)} rows, {len(labels)} labels, the whole process")
    pairing.show("rows", len(rows), mine, peers)
    print(pairing.machine())


def run(command: list[str], environment: dict[str, str]) -> pairing.Taken:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return pairing.Taken(time.perf_counter() - start, cpu_seconds)


if __name__ == "__main__":
    main()
