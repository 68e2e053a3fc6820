"""A small OpenAI-compatible endpoint on this machine that translates English mathematics to LaTeX by rules.

    python benchmarks/english-to-latex/server.py --port 8766

It stands in for a paid API where there is no network and no key: the model "rules-v1" is the parser in translator.py. It
reads no rows. It answers the last user message: the line after "Convert to LaTeX:", or the whole message where these words
are missing; what the parser refuses is answered with a sentence that says so.

Routes: POST /v1/chat/completions and GET /v1/models. Token counts in `usage` are real counts by a simple rule: a run of
letters and digits is a token, every other character that is no space is one too. `max_tokens` and `stop` are honoured;
sampling fields have no effect, for the same text always gets the same answer; streams, tools, several choices, log
probabilities and response formats are refused. No key is asked for. The first line printed is
`listening on http://127.0.0.1:PORT/v1`; SIGTERM, SIGINT or, with --until-stdin-closes, the end of stdin stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from translator import Untranslatable, translate

MODEL = "rules-v1"
MARK = "convert to latex:"
ROLES = ("developer", "system", "user", "assistant", "tool", "function")
REFUSED = ("stream", "tools", "functions", "logprobs", "top_logprobs")
TOKEN = re.compile(r"\w+|[^\w\s]")


class BadRequest(Exception):
    """A body that the endpoint refuses; it becomes an OpenAI-shaped error."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8766, help="0: any free port")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that holds stdin")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.until_stdin_closes))
    except OSError as error:
        print(f"cannot listen on port {args.port}: {error.strerror}; --port 0 takes a free one", file=sys.stderr)
        raise SystemExit(2) from error


async def serve(port: int, until_stdin_closes: bool = False) -> None:
    """Listen until told to stop."""
    application = web.Application(middlewares=[as_openai_errors], client_max_size=2**20)
    application.router.add_post("/v1/chat/completions", chat_completions)
    application.router.add_get("/v1/models", list_models)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if until_stdin_closes:
            threading.Thread(target=wait_for_stdin, args=(loop, stop), daemon=True).start()
        print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def wait_for_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read holds no lock of Python's own, which a thread killed at exit would keep.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


async def list_models(request: web.Request) -> web.Response:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "english-to-latex"}
    return web.json_response({"object": "list", "data": [model]})


async def chat_completions(request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    texts = read_messages(body)
    limit, stops = read_limits(body)
    answer, finish_reason = cut(reply(texts), limit, stops)
    prompt_tokens, completion_tokens = sum(map(count_tokens, texts)), count_tokens(answer)
    return web.json_response(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer},
                    "logprobs": None,
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }
    )


def read_messages(body: Any) -> list[str]:
    """The texts of the messages, the one to answer last; raises BadRequest for a body this endpoint cannot serve."""
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    if not isinstance(body.get("model"), str):
        raise BadRequest("you must provide a model parameter", "model")
    if body["model"] != MODEL:
        raise BadRequest(f"The model {body['model']!r} does not exist.", "model", "model_not_found", status=404)
    for field in REFUSED:
        if body.get(field):
            raise BadRequest(f"Unsupported parameter: {field!r} is not supported.", field, "unsupported_parameter")
    if body.get("n") not in (None, 1):
        raise BadRequest("Unsupported value: 'n' must be 1.", "n", "unsupported_value")
    if body.get("response_format") not in (None, {"type": "text"}):
        raise BadRequest("Unsupported value: only text is written.", "response_format", "unsupported_value")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list that is not empty.", "messages")
    texts = [read_message(message, f"messages[{i}]") for i, message in enumerate(messages)]
    if messages[-1]["role"] != "user":
        raise BadRequest("The last message must be the user's.", f"messages[{len(messages) - 1}].role")
    return texts


def read_message(message: Any, where: str) -> str:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise BadRequest(f"A message must be an object with a role, one of {', '.join(ROLES)}.", where)
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts: list[str] = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadRequest("The content of a message must be text.", f"{where}.content")
        texts.append(part["text"])
    return "\n".join(texts)


def read_limits(body: dict[str, Any]) -> tuple[int | None, list[str]]:
    """The most tokens to answer with, and the strings to stop at."""
    limit = None
    for field in ("max_tokens", "max_completion_tokens"):
        value = body.get(field)
        if value is not None and (type(value) is not int or value < 1):
            raise BadRequest(f"{field!r} must be a whole number of at least 1.", field)
        limit = value if value is not None else limit
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise BadRequest("'stop' must be a string or a list of strings.", "stop")
    return limit, stops


def reply(texts: list[str]) -> str:
    """What the model says to the last message."""
    asked = texts[-1]
    start = asked.lower().rfind(MARK)
    if start >= 0:
        asked = asked[start + len(MARK) :].strip().partition("\n")[0]
    try:
        return translate(asked)
    except Untranslatable as error:
        return f"I cannot translate this text to LaTeX: {error}."


def cut(answer: str, limit: int | None, stops: list[str]) -> tuple[str, str]:
    """The answer within its limits, and why it ended."""
    ends = [match.end() for match in TOKEN.finditer(answer)]
    shortened = answer[: ends[limit - 1]] if limit is not None and len(ends) > limit else answer
    stop_at = min((at for at in map(shortened.find, stops) if at >= 0), default=None)
    if stop_at is not None:
        return shortened[:stop_at], "stop"
    return shortened, "stop" if shortened == answer else "length"


def count_tokens(text: str) -> int:
    return len(TOKEN.findall(text))


@web.middleware
async def as_openai_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every refusal in the shape that OpenAI clients read."""
    try:
        return await handler(request)
    except BadRequest as error:
        return _error(error.status, error.message, error.param, error.code)
    except web.HTTPException as error:
        return _error(error.status, f"{error.reason}: {request.method} {request.path}")


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


if __name__ == "__main__":
    main()
