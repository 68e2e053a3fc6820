"""How fast labels are scored with a local model, beside lm-eval's `loglikelihood` on the same model, rows and labels.

    python benchmarks/speed/label_scoring.py --model FOLDER --data FILE [--labels 77] [--peer-python PATH]

FILE is JSON Lines of `text` and `label`; a row is "the message, a question, the label" as plain text, so a model with a
chat template is asked without it. Without --peer-python only evalft runs.
"""

from __future__ import annotations

import argparse
import json
import statistics

import pairing
import torch

QUESTION = "\nWhat does the person who wrote this message want? Answer with one label.\nLabel:"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--labels", type=int, default=77, help="so many of the file's labels, and the rows that have one"
    )
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--shots", type=int, default=0, help="so many rows with their labels stand before every row")
    parser.add_argument("--peer-python", help="a Python that can import lm_eval")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with open(options.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    labels = sorted({row["label"] for row in rows})[: options.labels]
    rows = [row for row in rows if row["label"] in labels]
    step = max(len(rows) // (options.rows + options.shots), 1)
    rows = rows[::step][: options.rows + options.shots]
    shots, rows = rows[: options.shots], rows[options.shots :]
    begin = "".join(f"{row['text']}{QUESTION} {row['label']}\n\n" for row in shots)
    prompts = [f"{begin}{row['text']}{QUESTION}" for row in rows]
    score = evalft(options.model, prompts, labels)

    _, ours = pairing.timed(score)
    if options.peer_python:
        peer = pairing.Peer(options.peer_python, options.model, options.threads, add_bos=True)
        asked = [(prompt, f" {label}") for prompt in prompts for label in labels]
        size = peer.best_batch_size("loglikelihood", asked[: len(asked) // 4])
        _, theirs = peer.run("loglikelihood", asked, size)
        compare(ours, [value for value, _ in theirs])
        mine, peers = pairing.paired(
            lambda: pairing.timed(score)[0], lambda: peer.run("loglikelihood", asked, size)[0], options.rounds
        )
        print(f"lm-eval at batch size {size}")
    else:
        mine, peers = [pairing.timed(score)[0] for _ in range(options.rounds)], []
    pairing.show("rows", len(prompts), mine, peers)
    print(pairing.machine())


def evalft(model: str, prompts: list[str], labels: list[str]):
    """A function that scores every label of every prompt; it gives (prompt, label) log-likelihoods, flat."""
    from evalft.candidates.local import LocalCandidate
    from evalft.candidates.log_likelihood import log_likelihoods
    from evalft.config import CandidateConfig, TaskConfig
    from evalft.prices import HourPrice
    from evalft.prompts import Request

    requests = [Request(str(i), i, 0, ({"role": "user", "content": prompt},)) for i, prompt in enumerate(prompts)]
    candidate = LocalCandidate(
        CandidateConfig(model=f"hf:{model}", device="cpu"),
        TaskConfig(type="classification", labels=labels),
        price=HourPrice(0.0, 0.0, "none"),
        max_tokens=1,
        want_probs=False,
    )
    for choice in candidate.start():
        print("evalft:", choice)
    candidate._prompts.chat = False
    lengths = [len(row.tokens) for row in candidate._rows(requests)]
    print(f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, median {statistics.median(lengths):g}; "
          f"{len(labels)} labels")  # fmt: skip

    def run() -> list[float]:
        found: dict[int, list[float]] = {}
        for batch in candidate.batches(requests):
            with torch.inference_mode():
                asked = candidate._prompts.label_branches(candidate._rows(batch), end=None)
                scored = log_likelihoods(candidate._causal, asked, candidate._budget_tokens)
            found |= {request.index: sums.tolist() for request, sums in zip(batch, scored, strict=True)}
        return [value for i in range(len(requests)) for value in found[i]]

    return run


def compare(ours: list[float], theirs: list[float]) -> None:
    differences = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
    print(f"log-likelihoods: largest difference {max(differences):.1e} over {len(ours):,}")


if __name__ == "__main__":
    main()
