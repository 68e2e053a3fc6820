"""Rows -> the data that report.js draws them from, in the page itself. What is empty is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evalft.reporting import text
from evalft.reporting.candidates import STAND_IN
from evalft.reporting.examples import Answer, Examples, ShownRow
from evalft.reporting.word_diff import Pieces

if TYPE_CHECKING:
    from markupsafe import Markup


def block(found: Examples) -> Markup:
    """The JSON of a script element of type application/json: no text in it can end the element."""
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(_data(found), dumps=json.dumps, ensure_ascii=False, separators=(",", ":"))


def _data(found: Examples) -> dict[str, Any]:
    answers = found.rows[0].answers if found.rows else ()
    return {
        "candidates": [
            _without_empty(
                {"name": one.candidate, "stand_in": STAND_IN if one.stand_in else "", "side": one.side.capitalize()}
            )
            for one in answers
        ],
        "labels": _visible(found.labels),
        "tags": _visible(found.tags),
        "rows": [_row(row) for row in found.rows],
    }


def _row(row: ShownRow) -> dict[str, Any]:
    return _without_empty(
        {
            "number": row.number,
            "input": [_visible(message) for message in row.input],
            "labels": _visible(row.labels),
            "tags": _visible(row.tags),
            "group": row.group,
            "source": row.source,
            "change": row.change,
            "answers": [_answer(one) for one in row.answers],
        }
    ) | {"id": text.visible(row.id), "target": _marked(row.target, row.target_pieces)}


def _answer(one: Answer) -> dict[str, Any]:
    texts = [_marked(words, () if i else one.pieces) for i, words in enumerate(one.texts)]
    return _without_empty(
        {
            "texts": texts,
            "mark": one.mark,
            "score": one.score,
            "failure": one.failure,
            "labels": one.labels,
            "rescued": one.rescued,
            "message": one.message,
        }
    )


def _marked(words: str, pieces: Pieces) -> str | list[str]:
    """The text, or where something is marked its pieces that are not marked and that are in turn, from one that is not."""
    if not any(differs for _, differs in pieces):
        return text.visible(words)
    found = [""] if pieces[0][1] else []
    return found + [
        text.visible("".join(part for part, _ in run)) for _, run in groupby(pieces, lambda piece: piece[1])
    ]


def _visible(texts: Sequence[str]) -> list[str]:
    return [text.visible(one) for one in texts]


def _without_empty(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: text.visible(value) if isinstance(value, str) else value for key, value in data.items() if value}
