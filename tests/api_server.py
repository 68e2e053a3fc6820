"""A real OpenAI-compatible HTTP server on the loopback whose answers a test scripts, one function per request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[[dict[str, Any], int], Any]
"""(body, number of this request from 1) -> text of the answer, a dict (the whole body), bytes, or a web.Response; it may
be a coroutine. It may raise to drop the connection."""


def completion(text: str | None, finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion's body; `more` goes into the choice."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason} | more
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def error(status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "error"} | more}, status=status, headers=headers)


@dataclass
class Server:
    base_url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    completed: int = 0

    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]


@contextmanager
def serving(script: Script, port: int = 0) -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    server = Server("")

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        server.bodies.append(body)
        server.headers.append(dict(request.headers))
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            answer = script(body, len(server.bodies))
            if asyncio.iscoroutine(answer):
                answer = await answer
        except ConnectionResetError:
            assert request.transport is not None
            request.transport.abort()
            raise
        finally:
            server.in_flight -= 1
        server.completed += 1
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        if isinstance(answer, dict):
            return web.Response(text=json.dumps(answer), content_type="application/json")
        return web.Response(text=json.dumps(completion(answer)), content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        server.base_url = f"http://127.0.0.1:{bound}/v1"
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()
