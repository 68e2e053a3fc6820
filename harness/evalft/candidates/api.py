"""`openai:MODEL` and named providers: any OpenAI-compatible chat endpoint, through the openai SDK.

The SDK's own retries are off: execution is the one retry layer. The body is read as JSON here rather than through the
SDK's models, because compatible servers leave fields out, and what they leave out must become a named failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from evalft import answers
from evalft.candidates import Attempt, completion, rate_limits, structured
from evalft.candidates.batch_routes import BATCH_ENDPOINT, WINDOW, BatchRoutes
from evalft.candidates.refusals import Refused, lost_connection, never_reached, one_line, refused_by, refused_with
from evalft.candidates.top_logprobs import label_probabilities
from evalft.config import CandidateConfig, ProviderConfig, TaskConfig, holds_password
from evalft.errors import CannotStart, UserError
from evalft.prices import TokenPrice, live_price
from evalft.prompts import Request
from evalft.records import Failure, FailureKind, Prediction, Usage

RETRIED_STATUS = {408, 409, 429}
GATEWAY_TIMEOUT = {504, 524}
TOP_LOGPROBS = 20
FEWER_TOP_LOGPROBS = 5
"""Where an endpoint allows fewer; what they leave unseen bounds the AUC."""
SHORTEST_KEY = 8
LONGEST_END = 40
KEYLESS = "no-key"  # the SDK insists on some key; a provider without api_key_env is sent none


def openai_base_url() -> str:
    """Where `openai:` models are asked. Raises UserError for an address that holds a password: addresses are stored."""
    url = (os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
    if holds_password(url):
        raise UserError(
            "OPENAI_BASE_URL: the address holds a user name or password, and addresses are stored with a run; put the key "
            "into OPENAI_API_KEY"
        )
    return url


def _as_quoted(key: str) -> list[str]:
    """How servers quote the key they were sent, in errors and in answers: as it is, percent-encoded, in base64. It must
    reach no file. A dummy such as "token" is a word and no secret."""
    if len(key) < SHORTEST_KEY:
        return []
    encoded = [b64encode(text.encode()).decode().rstrip("=") for text in (f"Bearer {key}", key)]
    return [key, quote(key, safe=""), *encoded]


class ApiCandidate:
    """One model behind one endpoint. `settled` holds what the preflight request found out about the endpoint."""

    remote = True

    def __init__(
        self,
        config: CandidateConfig,
        provider: ProviderConfig | None,
        task: TaskConfig,
        *,
        price: TokenPrice,
        max_tokens: int,
        timeout_s: float,
        want_probs: bool,
    ) -> None:
        self.name = config.name
        self.in_batches = config.mode == "batch"
        self.price = live_price(config, price) if self.in_batches else price
        """Of what is asked now: live until `asks_in_batches`."""
        self._batch_price = price
        self.max_tokens = max_tokens
        self._config, self._provider, self._task = config, provider, task
        self._timeout_s = timeout_s
        self._client: Any = None
        self._secrets: list[str] = []
        self._fields: dict[str, Any] = self._first_fields(want_probs)
        self._schema_bytes = len(json.dumps(self._fields.get("response_format", "")))
        self._saw_logprobs = self._tried_without_schema = False
        self.renamed: dict[str, str] = {}
        self.dropped: list[str] = []
        self._found_out: list[str] = []

    # ------------------------------------------------------------ making ready

    @property
    def base_url(self) -> str:
        if self._provider:
            return self._provider.base_url
        return openai_base_url()

    @property
    def key_env(self) -> str | None:
        return self._provider.api_key_env if self._provider else "OPENAI_API_KEY"

    def start(self) -> list[str]:
        key_env = self.key_env
        key = os.environ.get(key_env, "").strip() if key_env else KEYLESS
        if not key:
            raise CannotStart(
                f"candidate {self.name}: the environment variable {key_env} is not set; "
                f"set it with: export {key_env}=your-key"
            )
        self._key, self._secrets = key, _as_quoted(key)
        choices = [f"asked at {self.base_url}", f"max_tokens {self.max_tokens}", f"price from {self.price.source}"]
        if self.in_batches:
            twice = "twice the config's price" if self.price.source == "config" else "the live price"
            choices += [
                f"asked in batches: answers within {WINDOW}, after one row that is asked live, at {twice}",
                "cost_per_query is what batches cost (and that row), and latency is not measured: a model deployed live differs in both",
            ]
        if not self._provider and "api.openai.com" not in self.base_url:
            choices.append(f"OPENAI_BASE_URL points elsewhere; priced as OpenAI's {self._config.model_id} all the same")
        if "response_format" in self._fields:
            choices.append("answers are asked for as JSON of the labels (response_format), where the endpoint takes it")
        if self._provider and not key_env:
            choices.append(f"no key is sent (providers.{self._config.provider}.api_key_env names one)")
        return choices

    def _connected(self) -> Any:
        """The client, made with the first request: a run whose answers are all in the cache does not wait for the SDK."""
        if self._client is None:
            from openai import AsyncOpenAI, DefaultAioHttpClient

            self._client = AsyncOpenAI(
                api_key=self._key,
                base_url=self.base_url,
                max_retries=0,
                timeout=self._timeout_s,
                # rows go where the config says and nowhere else: a redirection is a refusal
                http_client=DefaultAioHttpClient(timeout=self._timeout_s, follow_redirects=False),
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def identity(self) -> dict[str, object]:
        return {
            "kind": "api",
            "base_url": self.base_url,
            "fields": dict(self._fields),
            "task": [self._task.type, self._task.labels],
            **({"mode": "batch"} if self.in_batches else {}),  # it has another price, and no latency
        }

    def _first_fields(self, want_probs: bool) -> dict[str, Any]:
        config = self._config
        fields: dict[str, Any] = {
            "model": config.model_id,
            "max_tokens": self.max_tokens,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "stop": config.stop,
            "seed": config.seed,
            "reasoning_effort": config.reasoning_effort,
        }
        if want_probs and self._task.type == "classification":
            fields |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if structured.is_asked_for(config, self._task):
            fields["response_format"] = structured.response_format(
                self._task.type or "classification", self._task.labels or ()
            )
        if config.extra_body:
            fields["extra_body"] = config.extra_body
        return {name: value for name, value in fields.items() if value is not None}

    # ------------------------------------------------------------ the preflight request

    async def preflight(self, request: Request) -> tuple[Attempt, list[str]]:
        """Ask one real request, dropping or renaming fields that the endpoint refuses, for all requests to come.

        Returns the attempt and what was found out, in plain lines. Raises CannotStart where no request can succeed.
        """
        said: list[str] = []
        attempt = await self._preflight(request, said)
        self._found_out += said
        return attempt, said

    async def _preflight(self, request: Request, said: list[str]) -> Attempt:
        for _ in range(len(self._fields)):
            try:
                attempt = await self._ask(request)
            except Refused as refused:
                found = self._give_way(refused)
                if found is not None:
                    said.append(found)
                    continue
                without = await self._without_schema(request, refused)
                if without is None:
                    return self._refusal(request, refused)
                attempt = without
                said.append("the endpoint refuses response_format: it is not sent, and answers are read as text")
            return self._notice_what_is_ignored(attempt, said)
        raise CannotStart(f"candidate {self.name}: the endpoint refuses one field after another: {'; '.join(said)}")

    async def _without_schema(self, request: Request, refused: Refused) -> Attempt | None:
        """A refusal that names no field may be of the schema, which nobody asked us to send: tried once without. None
        where that is refused too, so that it was not the schema."""
        about_the_row = refused.status not in (400, 422) or refused.is_about_length or refused.is_filter
        if "response_format" not in self._fields or self._tried_without_schema or about_the_row:
            return None
        self._tried_without_schema = True
        schema = self._fields.pop("response_format")
        try:
            attempt = await self._ask(request)
        except Refused:
            self._fields["response_format"] = schema
            return None
        self.dropped.append("response_format")
        return attempt

    def _notice_what_is_ignored(self, attempt: Attempt, said: list[str]) -> Attempt:
        """Fields that were accepted and had no effect are not sent again."""
        outcome = attempt.outcome
        if "logprobs" in self._fields and isinstance(outcome, Prediction) and not self._saw_logprobs:
            self._drop("logprobs", "top_logprobs")
            said.append("logprobs are accepted but none come back: probabilities are hard (0 or 1)")
        is_json = answers.without_thinking(outcome.text or "").lstrip().startswith("{")
        if "response_format" in self._fields and isinstance(outcome, Prediction) and not is_json:
            self._drop("response_format")
            said.append("response_format is accepted but ignored: it is not sent, and answers are read as text")
        elif "response_format" in self._fields and is_json and getattr(outcome, "failure", "") == "truncated":
            self._drop("response_format")
            said.append(f"JSON does not fit into max_tokens {self.max_tokens}: response_format is not sent")
            return replace(attempt, retry=True)
        return attempt

    def _give_way(self, refused: Refused) -> str | None:
        """Drop or rename the field that a 400 or 422 complains of; what was done, or None where it is something else."""
        if refused.status not in (400, 422):
            return None
        text = f"{refused.param} {refused.message}"
        if "max_tokens" in self._fields and re.search(r"\bmax_tokens\b", text) and not refused.is_about_length:
            self._fields["max_completion_tokens"] = self._fields.pop("max_tokens")
            self.renamed["max_tokens"] = "max_completion_tokens"
            return "the endpoint refuses max_tokens: max_completion_tokens is sent instead"
        if "max_completion_tokens" in self._fields and re.search(r"\bmax_completion_tokens\b", text):
            return None
        if "response_format" in self._fields and re.search(r"response_format|json_schema|structured|schema", text):
            self._drop("response_format")
            return "the endpoint refuses response_format: it is not sent, and answers are read as text"
        if self._fields.get("top_logprobs") == TOP_LOGPROBS and re.search(r"\btop_logprobs\b", text):
            self._fields["top_logprobs"] = FEWER_TOP_LOGPROBS
            return f"the endpoint refuses {TOP_LOGPROBS} top_logprobs: {FEWER_TOP_LOGPROBS} are asked for"
        for names in (
            ("logprobs", "top_logprobs"),
            ("temperature",),
            ("top_p",),
            ("seed",),
            ("stop",),
            ("reasoning_effort",),
        ):
            if names[0] in self._fields and re.search(rf"\b(top_)?{names[0]}\b", text):
                self._drop(*names)
                return f"the endpoint refuses {names[0]}: it is not sent"
        return None

    def _drop(self, *names: str) -> None:
        for name in names:
            if self._fields.pop(name, None) is not None:
                self.dropped.append(name)

    def settled(self) -> dict[str, object]:
        """What the preflight found out, for the manifest: a resumed run asks with the same fields."""
        fewer = self._fields.get("top_logprobs") == FEWER_TOP_LOGPROBS
        changed = {"renamed": dict(self.renamed), "dropped": list(self.dropped), "fewer_top_logprobs": fewer}
        return changed | {"said": list(self._found_out)}

    def settle(self, found: Mapping[str, Any]) -> list[str]:
        """Ask as an earlier preflight settled; returns what it found out, in plain lines."""
        self._found_out = list(found.get("said", []))
        for old, new in dict(found.get("renamed", {})).items():
            if old in self._fields:
                self._fields[new] = self._fields.pop(old)
                self.renamed[old] = new
        self._drop(*found.get("dropped", []))
        if found.get("fewer_top_logprobs") and "top_logprobs" in self._fields:
            self._fields["top_logprobs"] = FEWER_TOP_LOGPROBS
        return self._found_out

    # ------------------------------------------------------------ asking

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        return ((request,) for request in requests)

    def worst_case_usd(self, request: Request) -> float:
        return self.price.cost_usd(self._worst_case(request))

    def _worst_case(self, request: Request) -> Usage:
        """No tokenizer makes more tokens than bytes of text; each message and the request add a few of their own.
        Keeping them all in the provider's cache may cost more than reading them."""
        text = sum(len(message["content"].encode()) + 16 for message in request.messages)
        schema = self._schema_bytes if "response_format" in self._fields else 0
        whole = Usage(text + schema + 32, self.max_tokens, estimated=True)
        return max(whole, replace(whole, cache_write_tokens=whole.input_tokens), key=self.price.cost_usd)

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        return [await self._attempt(request) for request in batch]

    async def _attempt(self, request: Request) -> Attempt:
        try:
            return await self._ask(request)
        except Refused as refused:
            return self._refusal(request, refused)

    async def _ask(self, request: Request) -> Attempt:
        """One try. Raises Refused for an HTTP error; anything else that goes wrong is in the Attempt."""
        import httpx2
        import openai

        clock = asyncio.get_running_loop().time
        fields = self._body(request)
        client = self._connected()
        options: Any = {"headers": self._headers()}
        sent = clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                # not chat.completions.create(): walking every message through the SDK's types costs as much as the rest
                answer = await client.post("/chat/completions", cast_to=httpx2.Response, body=fields, options=options)
                body = answer.content
        except TimeoutError:
            return self._no_answer(request, "timeout", f"no answer within {self._timeout_s:g} s")
        except openai.APIStatusError as error:
            raise refused_by(error) from None
        except openai.APIConnectionError as error:
            lost = lost_connection(error)
            if lost is None:
                return self._no_answer(request, "timeout", f"no answer within {self._timeout_s:g} s")
            return self._no_answer(
                request, "connection", str(lost) or type(lost).__name__, billed=not never_reached(lost)
            )
        except openai.OpenAIError as error:
            return self._no_answer(request, "bad_response", str(error))
        latency_s = None if self.in_batches else clock() - sent  # the row before a batch says nothing of the service
        return replace(self._read(request, body, latency_s), rate_limits=rate_limits.read(answer.headers))

    def _body(self, request: Request) -> dict[str, Any]:
        fields = {**self._fields, "messages": list(request.messages)}
        fields |= fields.pop("extra_body", {})
        if "seed" in fields and request.repeat:
            fields["seed"] += request.repeat
        return fields

    def _headers(self) -> dict[str, Any]:
        import openai

        return {} if self.key_env else {"Authorization": openai.Omit()}

    def _safe(self, text: str) -> str:
        """As it may be stored, whole: shortened first, half a key would not be recognised. Halves of surrogate pairs
        cannot be written to a file."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return completion.whole_text(text)

    def _no_answer(self, request: Request, kind: FailureKind, message: str, billed: bool = True) -> Attempt:
        """A try without a usable body: what it cost is not known, so it is charged its worst case, and marked."""
        usage = self._worst_case(request) if billed else None
        waited_s = self._timeout_s if kind == "timeout" else None
        return Attempt(self._failure(request, kind, message, usage=usage, latency_s=waited_s), retry=True)

    def _failure(
        self, request: Request, kind: FailureKind, message: str, *, usage: Usage | None = None, **more: Any
    ) -> Failure:
        cost = self.price.cost_usd(usage) if usage else 0.0
        message = one_line(self._safe(message))
        return Failure(request.id, request.index, request.repeat, kind, message, usage=usage, cost_usd=cost, **more)

    def _refusal(self, request: Request, refused: Refused) -> Attempt:
        """An HTTP error as an attempt: filtered, to be retried, or the end of this candidate."""
        message = f"HTTP {refused.status}: {refused.message}"
        if refused.is_filter:
            return Attempt(self._failure(request, "filtered", message))
        quota = refused.code in ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
        retry = (refused.status in RETRIED_STATUS or refused.status >= 500) and not quota
        # a gateway that gave up waiting does not know whether the model behind it went on, and was billed
        usage = self._worst_case(request) if refused.status in GATEWAY_TIMEOUT else None
        return Attempt(
            self._failure(request, "api_error", message, usage=usage),
            retry=retry,
            retry_after_s=refused.retry_after_s,
            throttled=refused.status == 429 and not quota,
            throttled_by=refused.throttled_by,
            rate_limits=rate_limits.read(refused.headers),
            stops=refused.status in (401, 403, 404) or quota,
            broken=refused.status >= 500,
        )

    # ------------------------------------------------------------ in batches

    def batch_routes(self) -> BatchRoutes:
        return BatchRoutes(self._connected(), self._headers(), lambda words: one_line(self._safe(words)))

    def asks_in_batches(self) -> None:
        """From here on, after the one row that is asked live, what is asked has the price of a batch."""
        self.price = self._batch_price

    def batch_line(self, request: Request, custom_id: str) -> bytes:
        """A line of the file that is uploaded: the request as it would be sent live."""
        line = {"custom_id": custom_id, "method": "POST", "url": BATCH_ENDPOINT, "body": self._body(request)}
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def read_batch_line(self, request: Request, line: Mapping[str, Any]) -> Attempt:
        """A line of the output or error file, read as the same answer would be that came live; its latency is not one."""
        response = line.get("response")
        if not isinstance(response, dict):
            error = line.get("error")
            detail = error if isinstance(error, dict) else {"message": str(error)}
            message = f"{detail.get('code') or 'error'}: {detail.get('message') or ''}"
            return Attempt(self._failure(request, "api_error", message), retry=True)
        status, body = response.get("status_code"), response.get("body")
        if isinstance(status, int) and status >= 400:
            return self._refusal(request, refused_with(status, body, {}, f"HTTP {status}"))
        try:
            return self._read(request, json.dumps(body).encode(), None)
        except RecursionError:
            return self._no_answer(request, "bad_response", "the body is not the JSON of an answer: nested too deep")

    def unanswered_in_batch(self, request: Request, why: str, *, billed: bool) -> Attempt:
        """`billed`: it may have been, so it is charged its worst case."""
        return self._no_answer(request, "api_error", why, billed=billed)

    # ------------------------------------------------------------ reading

    def _read(self, request: Request, body: bytes, latency_s: float | None) -> Attempt:
        """What a body with status 200 comes to: an answer, or why there is none."""
        try:
            found = completion.parse(body)
        except ValueError as error:
            return self._no_answer(request, "bad_response", f"the body is not the JSON of an answer: {error}")
        if found.error:
            return self._no_answer(request, "bad_response", f"an error with status 200: {found.error}")
        usage = found.usage or self._worst_case(request)
        text = None if found.text is None else self._safe(found.text)
        reason = None if found.finish_reason is None else self._safe(found.finish_reason)[:LONGEST_END]
        same: dict[str, Any] = {"usage": usage, "latency_s": latency_s, "finish_reason": reason}
        if found.refusal or reason == "refusal":
            words = self._safe(found.refusal or text or "the model refused")
            return Attempt(self._failure(request, "refused", words, text=words, **same))
        if reason == "content_filter":
            return Attempt(
                self._failure(request, "filtered", "the provider's filter cut the answer", text=text, **same)
            )
        if text is None or not text.strip():
            if reason == "length":
                spent = f"all {self.max_tokens} tokens went before any answer; raise max_tokens"
                return Attempt(self._failure(request, "truncated", spent, **same))
            why = "content" if found.has_choice else "choices"
            return Attempt(self._failure(request, "empty", f"the answer has no {why}", **same), retry=reason is None)
        reading = answers.read(text, reason, self._task.type or "generation", self._task.labels or ())
        if reading.failure:
            return Attempt(self._failure(request, reading.failure, reading.message, text=text, **same))
        probs, unseen = self._probabilities(found.logprobs)
        return Attempt(
            Prediction(
                request.id,
                request.index,
                request.repeat,
                text,
                reading.labels,
                probs=probs,
                probs_method="top_logprobs" if probs else None,
                unseen_mass=unseen,
                rescued=reading.rescued,
                cost_usd=self.price.cost_usd(usage),
                **same,
            )
        )

    def _probabilities(self, logprobs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float] | None, float | None]:
        if "logprobs" not in self._fields or not logprobs:
            return None, None
        self._saw_logprobs = True
        return label_probabilities(logprobs, self._task.labels or ())
