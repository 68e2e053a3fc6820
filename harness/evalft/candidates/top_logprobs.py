"""Label probabilities from the top_logprobs of an API's answer.

The answer's tokens are walked from the first. At each step every listed alternative that singles out one label gives it
the probability of the path so far times its own; the chosen token extends the path until it singles out one label too.
What no label accounts for (alternatives cut off the list, other words) is the unseen mass, stored beside the figures.

In a structured answer the label stands behind `{"label": "`. Those tokens are the form's and not the model's choice,
and some servers give them the probability they would have had without it: they count as given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_TOKENS = 32
_HEAD = re.compile(r'\s*\{\s*"label"\s*:\s*"')


def label_probabilities(
    content: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> tuple[dict[str, float] | None, float | None]:
    """`content` is choice.logprobs.content of the chat API. Returns probabilities over `labels` that sum to 1 (None where
    no label was seen) and the unseen mass before that normalisation, 0..1."""
    mass = dict.fromkeys(labels, 0.0)
    path, path_probability, ended = "", 1.0, False
    for step in content[:MAX_TOKENS]:
        chosen = str(step.get("token", ""))
        if not _label_in(path + chosen):
            path += chosen
            continue
        listed = step.get("top_logprobs")
        for alternative in listed if isinstance(listed, list) else ():
            token = str(alternative.get("token", "")) if isinstance(alternative, dict) else chosen
            if token != chosen:
                only = _only_label(_label_in(path + token), labels)
                if only is not None:
                    mass[only] += path_probability * _probability(alternative)
        path += chosen
        path_probability *= _probability(step)
        only = _only_label(_label_in(path), labels)
        if only is not None:
            mass[only] += path_probability
            ended = True
            break
        if not _could_become(_label_in(path), labels):
            ended = True
            break
    if not ended:
        exact = _exact(_label_in(path), labels)
        if exact is not None:
            mass[exact] += path_probability
    seen = math.fsum(mass.values())
    if seen <= 0:
        return None, None
    return {label: value / seen for label, value in mass.items()}, max(0.0, 1.0 - seen)


def _probability(entry: Mapping[str, Any]) -> float:
    logprob = entry.get("logprob")
    if not isinstance(logprob, int | float) or isinstance(logprob, bool) or not logprob > -1000:
        return 0.0  # none, nan, or so little that no float holds it
    return math.exp(min(0.0, logprob))


def _label_in(path: str) -> str:
    """What of an answer's beginning is of the label: in JSON what follows the head, nothing within it."""
    if not path.lstrip().startswith("{"):
        return path
    head = _HEAD.match(path)
    return path[head.end() :] if head else ""


def _clean(text: str) -> str:
    return text.lstrip(" \n\t\"'*`").casefold()


def _could_become(text: str, labels: Sequence[str]) -> bool:
    start = _clean(text)
    return any(label.casefold().startswith(start) for label in labels)


def _only_label(text: str, labels: Sequence[str]) -> str | None:
    """The one label that `text` begins, or continues past, if there is exactly one."""
    start = _clean(text)
    if not start:
        return None
    fits = [label for label in labels if label.casefold().startswith(start)]
    if not fits:  # the label and what follows it in the same token, e.g. "spam."
        fits = [
            label
            for label in labels
            if start.startswith(label.casefold()) and not start[len(label.casefold())].isalnum()
        ]
        fits = [label for label in fits if len(label) == max(map(len, fits))]
    return fits[0] if len(fits) == 1 else None


def _exact(text: str, labels: Sequence[str]) -> str | None:
    return next((label for label in labels if label.casefold() == _clean(text).rstrip(" .\n\"'*`")), None)
