"""The routes of an endpoint that takes batches: files up, a batch made of one, its state, files down.

As OpenAI documents /files and /batches, through the openai SDK's client. Bodies are read as JSON here, because compatible
servers leave out what the SDK's types promise, write their states in capitals and their errors as text. Each method is one
try: what goes wrong is a RouteError, and who calls decides whether to try again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

BATCH_ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
"""The only one that OpenAI takes."""
MAX_ROWS, MAX_BYTES = 50_000, 200_000_000
"""Of one file, as OpenAI documents it."""
ENDS = ("completed", "failed", "expired", "cancelled")
UPLOAD_TIMEOUT_S = 600.0
PER_PAGE = 100
RETRIED_STATUS = (408, 409, 425, 429)


class RouteError(Exception):
    """One try failed. `status` None: no whole answer came, or none that can be read, so it is not known what the server
    did."""

    def __init__(self, message: str, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code

    @property
    def retry(self) -> bool:
        return self.status is None or self.status in RETRIED_STATUS or self.status >= 500

    @property
    def certain(self) -> bool:
        """The server said no: nothing was made."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (408, 409)


@dataclass(frozen=True, slots=True)
class BatchState:
    """What the provider says of one batch."""

    id: str
    status: str
    """validating, in_progress, finalizing, cancelling, or one of ENDS."""
    done: int
    """Rows answered or failed."""
    output_file: str | None
    error_file: str | None
    code: str
    """Of the first error of the whole batch, such as token_limit_exceeded."""
    message: str


class BatchRoutes:
    """One endpoint's batches. `safe` makes one line of the server's words, without what must not be stored."""

    def __init__(self, client: Any, headers: Mapping[str, Any], safe: Callable[[str], str]) -> None:
        self._client, self._headers, self._safe = client, dict(headers), safe

    async def upload(self, path: Path) -> str:
        """The id of the file, which is read from disk as it is sent."""
        with path.open("rb") as file, self._one_try():
            made = await self._client.files.create(
                file=(path.name, file, "application/jsonl"),
                purpose="batch",
                extra_headers=self._headers,
                timeout=UPLOAD_TIMEOUT_S,
            )
        return self._id(getattr(made, "id", None), "the file")

    async def create(self, file_id: str, metadata: Mapping[str, str]) -> BatchState:
        body = {
            "input_file_id": file_id,
            "endpoint": BATCH_ENDPOINT,
            "completion_window": WINDOW,
            "metadata": dict(metadata),
        }
        with self._one_try():
            data = await self._client.post("/batches", cast_to=object, body=body, options={"headers": self._headers})
        return self._state(data)

    async def retrieve(self, batch_id: str) -> BatchState:
        return self._state(await self._get(f"/batches/{quote(batch_id, safe='')}"))

    async def find(self, file_id: str) -> BatchState | None:
        """The batch that was made of this file; None where the whole list of batches holds none."""
        after: str | None = None
        while True:
            batches, more = await self._page(PER_PAGE, after)
            for one in batches:
                if one.get("input_file_id") == file_id:
                    return self._state(one)
            last = batches[-1].get("id") if batches else None
            if not more or last in (None, after):
                return None
            after = str(last)

    async def check(self) -> None:
        """Raises RouteError where there are no such routes."""
        await self._page(1)

    async def _page(self, limit: int, after: str | None = None) -> tuple[list[Mapping[str, Any]], bool]:
        """Batches, and whether there are more. What is no list is an error: taken for an empty one, a batch would be
        made twice."""
        page = await self._get("/batches", {"limit": limit} | ({"after": after} if after else {}))
        found = page.get("data")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise RouteError("the answer is no list of batches", 200)
        return found, bool(page.get("has_more", len(found) >= limit))

    async def lines(self, file_id: str) -> AsyncGenerator[Mapping[str, Any]]:
        """The objects of a file, as they come in; a line that is none is left out."""
        rest = b""
        with self._one_try():
            streaming = self._client.files.with_streaming_response.content(file_id, extra_headers=self._headers)
            async with streaming as response:
                async for chunk in response.iter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")  # not by str.splitlines: texts hold other ends of lines
                    for line in lines:
                        if (data := _object(line)) is not None:
                            yield data
        if (data := _object(rest)) is not None:
            yield data

    async def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        options = {"headers": self._headers, "params": dict(query or {})}
        with self._one_try():
            data = await self._client.get(path, cast_to=object, options=options)
        return data if isinstance(data, dict) else {}

    @contextmanager
    def _one_try(self) -> Iterator[None]:
        import aiohttp
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            inner = body.get("error")
            detail = inner if isinstance(inner, dict) else body
            words = detail.get("message") or (inner if isinstance(inner, str) else "") or error.message
            message = self._safe(f"HTTP {error.status_code}: {words}")
            raise RouteError(message, error.status_code, str(detail.get("code") or "")) from None
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, ValueError) as error:
            raise RouteError(self._safe(str(error.__cause__ or error) or type(error).__name__)) from None

    def _state(self, data: object) -> BatchState:
        found = data if isinstance(data, dict) else {}
        counts = found.get("request_counts")
        counts = counts if isinstance(counts, dict) else {}
        code, message = _first_error(found.get("errors"))
        return BatchState(
            id=self._id(found.get("id"), "the batch"),
            status=str(found.get("status") or "").lower(),
            done=sum(value for name in ("completed", "failed") if isinstance(value := counts.get(name), int)),
            output_file=_text(found.get("output_file_id")),
            error_file=_text(found.get("error_file_id")),
            code=code,
            message=self._safe(message),
        )

    def _id(self, found: object, of: str) -> str:
        if not isinstance(found, str) or not found:
            raise RouteError(f"the answer names no id of {of}")
        return self._safe(found)


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _first_error(errors: object) -> tuple[str, str]:
    if isinstance(errors, str):
        return "", errors
    found = errors.get("data") if isinstance(errors, dict) else errors
    first = found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}
    where = f"line {first['line']}: " if isinstance(first.get("line"), int) else ""
    return str(first.get("code") or ""), where + str(first.get("message") or "")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
