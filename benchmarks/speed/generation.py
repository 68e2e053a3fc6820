"""How fast a local model generates, beside lm-eval's `generate_until` on the same model and prompts (greedy, plain text).

    python benchmarks/speed/generation.py --model FOLDER --data FILE [--input COLUMN] [--peer-python PATH]

FILE is JSON Lines. A model with a chat template is asked through it, and lm-eval is given the rendered text; without one
both stop at a newline. Without --peer-python only evalft runs.
"""

from __future__ import annotations

import argparse
import json
import statistics

import pairing
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--input", default="text")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--peer-python", help="a Python that can import lm_eval")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with open(options.data, encoding="utf-8") as file:
        texts = [json.loads(line)[options.input] for line in file]
    texts = texts[:: max(len(texts) // options.rows, 1)][: options.rows]
    generate, prompts, chat = evalft(options.model, texts, options.max_tokens)
    _, ours = pairing.timed(generate)
    tokens = sum(outcome.usage.output_tokens for outcome in ours)
    print(f"{tokens:,} tokens generated, {sum(outcome.near_tie for outcome in ours)} rows with a near tie")
    if options.peer_python:
        peer = pairing.Peer(options.peer_python, options.model, options.threads, add_bos=not chat)
        settings = {"until": [] if chat else ["\n"], "max_gen_toks": options.max_tokens, "do_sample": False}
        asked = [(prompt, settings) for prompt in prompts]
        size = peer.best_batch_size("generate_until", asked)
        _, theirs = peer.run("generate_until", asked, size)
        same = sum((one.text or "").strip() == other.strip() for one, other in zip(ours, theirs, strict=True))
        print(f"the same text in {same} of {len(ours)} rows")
        mine, peers = pairing.paired(
            lambda: pairing.timed(generate)[0], lambda: peer.run("generate_until", asked, size)[0], options.rounds
        )
        print(f"lm-eval at batch size {size}")
    else:
        mine, peers = [pairing.timed(generate)[0] for _ in range(options.rounds)], []
    pairing.show("rows", len(texts), mine, peers)
    print(pairing.machine())


def evalft(model: str, texts: list[str], max_tokens: int):
    """A function that answers every text, what the model reads for each, and whether that is a chat template's."""
    from evalft.candidates.local import LocalCandidate
    from evalft.config import CandidateConfig, TaskConfig
    from evalft.prices import HourPrice
    from evalft.prompts import Request

    requests = [Request(str(i), i, 0, ({"role": "user", "content": text},)) for i, text in enumerate(texts)]
    candidate = LocalCandidate(
        CandidateConfig(model=f"hf:{model}", device="cpu"),
        TaskConfig(type="generation"),
        price=HourPrice(0.0, 0.0, "none"),
        max_tokens=max_tokens,
        want_probs=False,
    )
    for choice in candidate.start():
        print("evalft:", choice)
    rows = candidate._rows(requests)
    lengths = [len(row.tokens) for row in rows]
    print(f"{len(rows)} prompts of {min(lengths)} to {max(lengths)} tokens, median {statistics.median(lengths):g}")

    def run() -> list:
        found = {outcome.index: outcome for batch in candidate.batches(requests) for outcome in candidate.answer(batch)}
        return [found[i] for i in range(len(requests))]

    return run, [row.text for row in rows], candidate._prompts.chat


if __name__ == "__main__":
    main()
