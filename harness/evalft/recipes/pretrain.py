"""Pre-train a small Llama from random weights on a text corpus: next-token prediction over fixed blocks, on a CPU or a GPU.

    PYTHONPATH=harness python -m evalft.recipes.pretrain --corpus corpus.jsonl --out base --threads 2

The corpus is JSON lines, one document {"text": ...} each. A byte-level BPE tokenizer of --vocab entries is trained on its
first documents; documents are joined by the end-of-text token and cut into blocks. A run that was killed goes on from
its last checkpoint with the same command. The folder then holds the weights (fp16 safetensors), the tokenizer, with
--chat-template in its config, the configs of model and generation, and pretraining.json with what was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, PAD = "<|end|>", "<|pad|>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help='JSON lines with a "text" each')
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--chat-template", type=Path, help="a Jinja file to store in the tokenizer")
    parser.add_argument("--special-tokens", nargs="*", default=[], help="marks in the corpus that are one token each")
    parser.add_argument("--vocab", type=int, default=2048, help="tokenizer entries")
    parser.add_argument("--tokenizer-documents", type=int, default=40_000, help="documents the tokenizer is trained on")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--intermediate", type=int, default=512)
    parser.add_argument("--max-positions", type=int, default=1024, help="context length in the config, in tokens")
    parser.add_argument("--block-tokens", type=int, default=128, help="tokens of a block, the longest context seen")
    parser.add_argument("--batch-blocks", type=int, default=32, help="blocks of one step")
    parser.add_argument("--steps", type=int, default=0, help="0: one pass over the corpus")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak; cosine to a tenth of it")
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--checkpoint-every-steps", type=int, default=250, help="a kill loses at most these")
    parser.add_argument("--log-every-steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)

    tokenizer = train_tokenizer(args.corpus, args.tokenizer_documents, args.vocab, args.special_tokens)
    blocks = tokenize(args.corpus, tokenizer, args.block_tokens)
    steps = args.steps or max(1, len(blocks) // args.batch_blocks)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=args.vocab,
            hidden_size=args.hidden,
            num_hidden_layers=args.layers,
            num_attention_heads=args.heads,
            num_key_value_heads=args.heads,
            intermediate_size=args.intermediate,
            max_position_embeddings=args.max_positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id(END),
            pad_token_id=tokenizer.token_to_id(PAD),
        )
    ).to(device)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters, {blocks.size:,} tokens, {steps} steps of {args.batch_blocks} blocks, {device}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    checkpoint, first, seconds, losses = args.out / "checkpoint.pt", 0, 0.0, []
    free = ("threads", "log_every_steps", "checkpoint_every_steps", "corpus", "out", "chat_template")
    settings = {name: value for name, value in vars(args).items() if name not in free} | {"tokens": int(blocks.size)}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["settings"] != settings:
            raise SystemExit(f"{checkpoint} was made with {state['settings']}, not {settings}: take another --out")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds, losses = state["step"], state["seconds"], state["losses"]
        print(f"goes on from step {first} of {checkpoint}")

    model.train()
    started = time.perf_counter() - seconds
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, args.warmup_steps, args.learning_rate)
        batch = torch.from_numpy(pick(blocks, step, args.batch_blocks, args.seed)).to(device).long()
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"the loss is {losses[-1]} at step {step}: lower --learning-rate")
        seconds = time.perf_counter() - started
        if (step + 1) % args.log_every_steps == 0 or step + 1 == steps:
            recent = losses[-args.log_every_steps :]
            rate = (step + 1) * batch.numel() / seconds
            print(f"step {step + 1}/{steps}  loss {sum(recent) / len(recent):.4f}  {rate:,.0f} tokens/s", flush=True)
        if (step + 1) % args.checkpoint_every_steps == 0:
            state = {"settings": settings, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            # Written beside and renamed, so that a kill while writing leaves the one before.
            torch.save(state | {"step": step + 1, "seconds": seconds, "losses": losses}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)

    # Trained in fp32, stored in half the bytes: load it with dtype=torch.float32 on a CPU, where fp16 is slow.
    model.to(torch.float16)
    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id, do_sample=False
    )
    model.save_pretrained(args.out)
    template = args.chat_template.read_text(encoding="utf-8") if args.chat_template else None
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=args.max_positions,
        clean_up_tokenization_spaces=False,
        chat_template=template,
    ).save_pretrained(args.out, save_jinja_files=False)
    last = losses[-100:]
    measured = {
        "parameters": parameters,
        "corpus_tokens": int(blocks.size),
        "tokens_seen": steps * args.batch_blocks * args.block_tokens,
        "steps": steps,
        "seconds": round(seconds),
        "loss_mean_of_last_100_steps": round(sum(last) / len(last), 4),
        "torch": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
        "seed": args.seed,
    }
    (args.out / "pretraining.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    print(json.dumps(measured))


def read(corpus: Path) -> Iterator[str]:
    """The texts of the corpus, streamed."""
    with corpus.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def train_tokenizer(corpus: Path, documents: int, vocab: int, special_tokens: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer; no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    # Each punctuation mark is a piece of its own: formulas and code are then built from few, well-known pieces.
    marks = pre_tokenizers.Split(Regex(r" ?[^\s\p{L}\p{N}]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([marks, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END, PAD, *special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts: Iterator[str] = islice(read(corpus), documents)
    if special_tokens:
        separators = re.compile("|".join(map(re.escape, special_tokens)))
        texts = (piece for text in texts for piece in separators.split(text))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenize(corpus: Path, tokenizer: Tokenizer, block_tokens: int) -> np.ndarray:
    """Every document, each followed by the end token, cut into rows of equal length; the rest is dropped."""
    end, pieces, texts = tokenizer.token_to_id(END), [], read(corpus)
    while batch := list(islice(texts, 10_000)):
        for encoding in tokenizer.encode_batch(batch):
            pieces.append(np.array([*encoding.ids, end], dtype=np.int32))
    tokens = np.concatenate(pieces)
    rows = len(tokens) // block_tokens
    if rows == 0:
        raise SystemExit(f"{corpus} holds {len(tokens)} tokens, fewer than one block of {block_tokens}")
    return tokens[: rows * block_tokens].reshape(rows, block_tokens)


def pick(blocks: np.ndarray, step: int, batch_blocks: int, seed: int) -> np.ndarray:
    """The blocks of one step: a seeded order per pass, known from the step alone, so that a resumed run sees the same."""
    per_pass = max(1, len(blocks) // batch_blocks)
    order = np.random.default_rng([seed, step // per_pass]).permutation(len(blocks))
    start = step % per_pass * batch_blocks
    return blocks[order[start : start + batch_blocks]]


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


if __name__ == "__main__":
    main()
