"""Where rows went: which left this machine, to whom and how many; for people who have to answer for personal data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from evalft.numbers import counted
from evalft.reporting.candidates import STAND_IN
from evalft.reporting.examples import lines
from evalft.store import RunFolder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def sent_to(folder: RunFolder, summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each candidate, judge and teacher."""
    return (
        *(_of_candidate(folder, entry, summary, manifest) for entry in summary["candidates"]),
        *_to_judges(summary),
        *_to_teacher(summary),
    )


def _of_candidate(
    folder: RunFolder, entry: Mapping[str, Any], summary: Mapping[str, Any], manifest: Mapping[str, Any]
) -> str:
    name, (provider, _, model) = entry["name"], str(entry["model"]).partition(":")
    missing = (summary.get("partial") or {}).get("missing", {}).get(name, 0)
    rows = entry["coverage"]["total"] - missing - _not_asked(folder, entry)
    if provider in ("hf", "fake"):
        return f"{name} → this machine: {counted(rows, 'row')}; no row was sent anywhere"
    if provider == "file":
        return f"{name} → nowhere: its answers were read from a file; evalft sent no row anywhere"
    if provider == "plugin":
        return f"{name} → the plug-in {model}: {counted(rows, 'row')}; what it did with them is not known here"
    where = (manifest.get("providers") or {}).get(provider)
    url = where.get("base_url") if isinstance(where, Mapping) else where
    cached = (entry.get("cache") or {}).get("answers", 0)
    return (
        f"{name} → {_host(str(url or ''), provider)}: {counted(rows, 'row')} (provider {provider}, model {model})"
        + (f", {cached:,} answers of them from the cache of an earlier run" if cached else "")
        + (f" — a {STAND_IN}" if entry.get("stand_in") else "")
    )


def _host(url: str, provider: str) -> str:
    """Without what else a URL may hold: a path, a user's name, a key."""
    address = urlsplit(url).netloc.rpartition("@")[2]
    return f"this machine ({address})" if urlsplit(url).hostname in LOOPBACK else address or provider


def _not_asked(folder: RunFolder, entry: Mapping[str, Any]) -> int:
    """Rows of a candidate that stopped before they were sent. They stand among its failures."""
    if "api_error" not in entry["coverage"]["failures"]:
        return 0
    found = lines(folder.predictions_file(entry["name"]))
    return len(
        {line["index"] for line in found if line.get("failure") and not line.get("tries", 1) and not line.get("cached")}
    )


def _to_judges(summary: Mapping[str, Any]) -> list[str]:
    judge = summary.get("judge") or {}
    return [
        f"{model['name']}, as a judge: inputs, targets and answers were sent to it, for {judge['answers']:,} answers"
        for model in judge.get("models", ())
        if not model["name"].startswith(("hf:", "fake:"))
    ]


def _to_teacher(summary: Mapping[str, Any]) -> list[str]:
    """What left this machine to make training rows: nothing where the teacher ran here."""
    expansion = summary.get("expansion") or {}
    teacher, asked = str(expansion.get("teacher") or ""), expansion.get("asked")
    models = {entry["name"]: str(entry["model"]) for entry in summary["candidates"]}
    if not teacher or not asked or models.get(teacher, teacher).startswith(("hf:", "fake:")):
        return []
    checked = (expansion.get("teacher_agrees") or {}).get("rows")
    and_train = f", and {checked:,} train rows to see how well it answers them" if checked else ""
    return [f"{teacher}, as the teacher: {asked:,} inputs made of train rows were sent to it{and_train}"]
