"""Fits the weights of `evalft.token_counts` to a real encoding, and prints how far its predictions are off per set of texts.

    pip install tiktoken
    python benchmarks/tokens/fit.py SET.jsonl ... [--encoding o200k_base | --ranks FILE.tiktoken]

Each file is a set: one {"text": ...} a line. Weights are fitted (non-negative least squares of relative errors) to one
half of a set's texts, drawn by seed, ten at a time; errors are of the other half, of the weights in use and of those just
fitted.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import tiktoken
from scipy.optimize import nnls

from evalft.token_counts import WEIGHTS, features

TEXTS_PER_SET = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--encoding", default="o200k_base")
    parser.add_argument("--ranks", type=Path, help="A .tiktoken file of o200k_base, where it cannot be downloaded.")
    options = parser.parse_args()
    encoding = _from_file(options.ranks) if options.ranks else tiktoken.get_encoding(options.encoding)
    rows, wanted, held = [], [], []
    for file in options.files:
        texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
        random.Random(0).shuffle(texts)
        texts = texts[:TEXTS_PER_SET]
        counted = np.array([len(encoding.encode_ordinary(text)) for text in texts], dtype=float)
        found = np.array([list(features(text).values()) for text in texts])
        half = len(texts) // 2
        for start in range(0, half, 10):
            some = slice(start, min(start + 10, half))
            if counted[some].sum():
                rows.append(found[some].sum(axis=0) / counted[some].sum() / np.sqrt(half))
                wanted.append(1 / np.sqrt(half))
        size = sum(len(text.encode()) for text in texts[half:])
        held.append((file.stem, found[half:].sum(axis=0), counted[half:].sum(), size))
    fitted, _ = nnls(np.array(rows), np.array(wanted))
    in_use = np.array(list(WEIGHTS.values()))
    print(f"{'set':24}{'tokens':>9}{'in use':>9}{'fitted':>9}{'4 bytes':>9}   (predicted / counted)")
    for name, found, tokens, size in held:
        ratios = found @ in_use / tokens, found @ fitted / tokens, size / 4 / tokens
        print(f"{name:24}{tokens:9.0f}" + "".join(f"{ratio:9.2f}" for ratio in ratios))
    print({name: round(float(weight), 3) for name, weight in zip(WEIGHTS, fitted, strict=True)})


def _from_file(ranks: Path) -> tiktoken.Encoding:
    from base64 import b64decode

    lines = (line.split() for line in ranks.read_bytes().splitlines() if line)
    case = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    pattern = "|".join(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{case}",
            rf"[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{case}",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    )
    merges = {b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding("o200k", pat_str=pattern, mergeable_ranks=merges, special_tokens={})


if __name__ == "__main__":
    main()
