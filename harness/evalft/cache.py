"""The response cache: an answer that was paid for once is not paid for again, in this run or another.

One SQLite file in `EVALFT_CACHE`, else in the user's cache folder. The key covers whatever identifies an answer: what
the candidate says of itself (base URL, model, revision, adapter, every generation field), the messages, the repeat.
Values are JSON lines as in predictions/*.jsonl. Errors are not kept: only what a model really answered.

A server can serve another model under the same name and address tomorrow, which no key can know: so every cached answer
carries the day it was given, which the report shows, and a fresh run overwrites what it does not read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from evalft.errors import UserError
from evalft.prompts import Request
from evalft.records import Outcome, Prediction
from evalft.store import prediction_line, read_outcome

FORMAT = 1
FILE = "responses.sqlite"
ANSWERED = ("refused", "filtered", "truncated", "unparsable", "wrong_schema")
"""Failures that are answers: asking again at the same settings would be paid for again."""


def folder() -> Path:
    if given := os.environ.get("EVALFT_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "evalft"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "evalft" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalft"


def exists() -> bool:
    return (folder() / FILE).is_file()


def key(identity: dict[str, object], request: Request) -> str:
    """Of one answer: what the candidate says of itself, the messages, the repeat; not the row's id or place."""
    return _key(_canonical([FORMAT, identity]), request)


def _key(identity: str, request: Request) -> str:
    asked = _canonical([list(map(dict, request.messages)), request.repeat])
    return sha256(f"{identity}\n{asked}".encode()).hexdigest()


class Cache:
    """get and put outcomes by request; `identity` is the candidate's, see `candidates.Candidate.identity`. A `fresh`
    one finds nothing and keeps all."""

    def __init__(self, path: Path, identity: dict[str, object], *, fresh: bool = False) -> None:
        self.identify(identity)
        self._path, self._fresh = path, fresh
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path / FILE, timeout=30, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.execute(
                "create table if not exists responses (key text primary key, outcome text not null, made real not null)"
                " without rowid"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def identify(self, identity: dict[str, object]) -> None:
        self._identity = _canonical([FORMAT, identity])

    def settled(self) -> dict[str, object] | None:
        """What an earlier preflight found out about the endpoint for the candidate as configured."""
        found = self._read(_settled_key(self._identity))
        return json.loads(found[0]) if found else None

    def put_settled(self, identity: dict[str, object], found: dict[str, object]) -> None:
        self._write(_settled_key(_canonical([FORMAT, identity])), json.dumps(found))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is read and written within costs one transaction. A process that dies within has written nothing."""
        try:
            self._db.execute("begin")
            yield
            self._db.execute("commit")
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def get(self, request: Request) -> Outcome | None:
        """The stored outcome as this request's own, marked cached with the day it was given (UTC); its cost and latency
        are the original's."""
        found = self._read(_key(self._identity, request))
        if found is None:
            return None
        text, made = found
        day = datetime.fromtimestamp(made, UTC).date().isoformat()
        place = {"id": request.id, "index": request.index, "repeat": request.repeat}
        return read_outcome(text, **place, cached=True, made=day)

    def holds(self, request: Request) -> bool:
        return self._read(_key(self._identity, request)) is not None

    def put(self, request: Request, outcome: Outcome) -> None:
        if isinstance(outcome, Prediction) or outcome.failure in ANSWERED:
            self._write(_key(self._identity, request), prediction_line(outcome))

    def _read(self, key: str) -> tuple[str, float] | None:
        """The stored text and when it was stored (Unix time, s)."""
        if self._fresh:
            return None
        try:
            row = self._db.execute("select outcome, made from responses where key = ?", [key]).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return (row[0], row[1]) if row else None

    def _write(self, key: str, text: str) -> None:
        try:
            self._db.execute("insert or replace into responses values (?, ?, ?)", [key, text, time.time()])
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"{self._path}: the response cache cannot be used: {error}; make room, or name another folder with EVALFT_CACHE, "
            "then run the same command again"
        )

    def close(self) -> None:
        self._db.close()


def _settled_key(identity: str) -> str:
    return "settled:" + sha256(identity.encode()).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
