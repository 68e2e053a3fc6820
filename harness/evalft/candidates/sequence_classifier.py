"""A sequence classifier: softmax (one label) or sigmoid (several) of its logits on the user's text alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from evalft.candidates.causal_model import padded
from evalft.errors import CannotStart


class SequenceClassifier:
    """`cut_offs`: with several labels a row has those whose sigmoid reaches the label's own cut-off; 0.5 until chosen."""

    def __init__(self, model: Any, labels: Sequence[str], *, several: bool, pad_token: int, where: str) -> None:
        self.names = [str(name) for _, name in sorted(model.config.id2label.items())]
        if not labels or any(label not in self.names for label in labels):
            raise CannotStart(
                f"{where}: the model is a sequence classifier with the labels {_listed(self.names)}; the task has "
                f"{_listed(labels)}; make id2label in its config.json the task's labels"
            )
        model.config.get_text_config().pad_token_id = pad_token
        self._model, self._several, self._pad_token = model, several, pad_token
        self.extra_names = [name for name in self.names if name not in labels]
        self.cut_offs = dict.fromkeys(self.names, 0.5)

    def choices(self) -> list[str]:
        said = ["sequence classifier: reads the user's text alone"]
        if self.extra_names:
            extra = _listed(self.extra_names)
            said.append(f"it knows labels that the task does not have, wrong answers all: {extra}")
        return said

    def probs(self, texts: Sequence[list[int]]) -> list[dict[str, float]]:
        """Per text, as tokens, each label's probability."""
        import torch

        tokens, mask = padded(texts, self._pad_token, self._model.device, left=False)
        with torch.inference_mode():
            logits = self._model(input_ids=tokens, attention_mask=mask).logits.float()
        rows = (logits.sigmoid() if self._several else logits.softmax(-1)).tolist()
        return [dict(zip(self.names, row, strict=True)) for row in rows]

    def labels(self, probs: Mapping[str, float]) -> tuple[str, ...]:
        if self._several:
            return tuple(name for name in self.names if probs[name] >= self.cut_offs[name])
        return (max(probs, key=probs.__getitem__),)

    def choose_cut_offs(self, given: Sequence[tuple[Collection[str], Mapping[str, float]]]) -> None:
        """Per label the cut-off of largest F1 on rows of (true labels, probs); labels without a positive keep theirs."""
        from sklearn.metrics import precision_recall_curve

        for name in self.names:
            positive = np.array([name in labels for labels, _ in given])
            if positive.any():
                precision, recall, cuts = precision_recall_curve(positive, [probs[name] for _, probs in given])
                f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
                self.cut_offs[name] = float(cuts[int(np.argmax(f1[:-1]))])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 10 else shown or "none"
