"""What an endpoint that did not answer said or did, and what it means: an HTTP error, or a lost connection."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from evalft.candidates import Resource


class Refused(Exception):
    """An HTTP error with the error object of its body."""

    def __init__(self, status: int, code: str, param: str, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.message = status, code, param, message
        self.headers = headers

    @property
    def throttled_by(self) -> Resource | None:
        """OpenAI's type and message ("on tokens per min (TPM)"), Anthropic's message ("input tokens per minute")."""
        said = f"{self.code} {self.message}".lower()
        if re.search(r"\btokens?\b|\btpm\b", said):
            return "tokens"
        return "requests" if re.search(r"\brequests per|\brpm\b", said) else None

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After in seconds or as an HTTP date (RFC 9110, 10.2.3), or OpenAI's retry-after-ms."""
        in_ms = self.headers.get("retry-after-ms")
        if in_ms and re.fullmatch(r"\d{1,9}(\.\d+)?", in_ms):
            return float(in_ms) / 1000
        text = self.headers.get("retry-after")
        if not text:
            return None
        try:
            wait_s = float(text)
            return max(0.0, wait_s) if math.isfinite(wait_s) else None
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except (TypeError, ValueError):
            return None

    @property
    def is_filter(self) -> bool:
        return self.status == 400 and "content_filter" in f"{self.code} {self.message}"

    @property
    def is_about_length(self) -> bool:
        """The prompt does not fit: no other field name will help."""
        return "context_length" in self.code or "context length" in self.message


def refused_by(error: Any) -> Refused:
    """An openai.APIStatusError as what matters of it."""
    moved = error.response.headers.get("location") if error.status_code < 400 else None
    if moved:
        message = f"it redirects to {moved}, which is not followed; if that is right, it belongs into base_url"
        return Refused(error.status_code, "", "", message, error.response.headers)
    return refused_with(error.status_code, error.body, error.response.headers, error.message)


def refused_with(status: int, found: object, headers: Mapping[str, str], otherwise: str) -> Refused:
    """An HTTP error by its body; `otherwise` is said where that says nothing."""
    body = found if isinstance(found, dict) else {}
    inner = body.get("error")
    detail: Mapping[str, Any] = inner if isinstance(inner, dict) else body
    return Refused(
        status=status,
        code=str(detail.get("code") or detail.get("type") or ""),
        param=str(detail.get("param") or ""),
        message=str(detail.get("message") or (inner if isinstance(inner, str) else "") or otherwise),
        headers=headers,
    )


def lost_connection(error: BaseException) -> BaseException | None:
    """The failed connection behind an error, None where it was the clock. The SDK's aiohttp transport reports both as a
    timeout, so the cause decides."""
    from aiohttp import ClientConnectionError, ServerTimeoutError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ServerTimeoutError):
            return None
        if isinstance(cause, ClientConnectionError | ConnectionError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None if "timed out" in str(error).lower() else error


def never_reached(lost: BaseException) -> bool:
    """True where the request cannot have been billed: the connection was never made."""
    from aiohttp import ClientConnectorError

    return isinstance(lost, ClientConnectorError | ConnectionRefusedError)


def one_line(message: str) -> str:
    """Of a server's words, for a terminal: without control characters, which could be escapes."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", message).split())[:500]
