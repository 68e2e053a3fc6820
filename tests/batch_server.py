"""A real server on the loopback with the routes of OpenAI's batches, as its documentation describes them: files up, a batch
made of one, its state, files down, and chat completions for the row that is asked live.

It counts what it was sent and what it billed. A test says what each row is answered (`answer`), what becomes of each batch
(`fate`), and may step in at any moment of any request (`at`): wait there, or drop the connection.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api_server import completion, error

Body = dict[str, Any]
STEPS = ("chat", "upload", "uploaded", "create", "created", "list", "retrieve", "content", "half")
"""Moments of a request: before the server did what it is asked, and (uploaded, created, half) after."""


@dataclass
class Fate:
    """What becomes of one batch."""

    status: str = "completed"
    rows: int | None = None
    """How many of its rows are got round to; None: all."""
    looks: int = 1
    """How often its state is asked for before it ends."""
    errors: Any = None


async def nothing(step: str, count: int) -> None:
    pass


@dataclass
class BatchServer:
    """`answer(body, times)`: text of the answer, a whole body, or (status, body); `times` a row was asked in batches, from
    1. None: the row is in neither file."""

    answer: Callable[[Body, int], Any]
    base_url: str = ""
    fate: Callable[[int], Fate] = lambda number: Fate()
    at: Callable[[str, int], Awaitable[None]] = nothing
    """(step, how often it came, from 1); may raise ConnectionResetError."""
    most_rows: int | None = None
    """Under way at once; more is refused as OpenAI refuses more enqueued tokens."""
    has_routes: bool = True
    lists: bool = True
    """Else its list of batches is an empty object."""
    shouts: bool = False
    """Writes states in capitals, and errors as text."""
    chats: list[Body] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    file_names: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """By last message, in batches that were taken."""
    billed: Counter[str] = field(default_factory=Counter)
    """By last message, live too: answers with usage that were given."""
    usages: list[dict[str, int]] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)

    def rows_of(self, batch: dict[str, Any]) -> list[Body]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def taken(self) -> list[dict[str, Any]]:
        """Batches that were not refused as a whole."""
        return [batch for batch in self.batches.values() if batch["fate"].status != "failed"]

    # ------------------------------------------------------------ what is in a batch

    def bill(self, body: Body, answer: Any) -> None:
        if isinstance(answer, dict) and answer.get("usage"):
            self.billed[last(body)] += 1
            self.usages.append(answer["usage"])

    def work_off(self, batch: dict[str, Any]) -> None:
        """Its output and error files."""
        fate: Fate = batch["fate"]
        output, errors = [], []
        lines = self.rows_of(batch)
        for number, line in enumerate(lines):
            entry: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            if fate.rows is not None and number >= fate.rows:
                how = {"code": f"batch_{fate.status}", "message": "This request could not be executed in time."}
                errors.append(entry | {"response": None, "error": how})
                continue
            self.asked[last(line["body"])] += 1
            answer = self.answer(line["body"], self.asked[last(line["body"])])
            if answer is None:
                continue
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            body = completion(body) if isinstance(body, str) else body
            self.bill(line["body"], body)
            response = {"status_code": status, "request_id": f"r{number}", "body": body}
            (output if status == 200 else errors).append(entry | {"response": response, "error": None})
        batch["request_counts"] = {"total": len(lines), "completed": len(output), "failed": len(errors)}
        for name, made in (("output_file_id", output[::-1]), ("error_file_id", errors)):  # in no order, as documented
            if made:
                batch[name] = f"file-{name}-{len(self.files)}"
                self.files[batch[name]] = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made).encode()

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        data = {name: value for name, value in batch.items() if name not in ("fate", "looks")}
        if self.shouts:
            data["status"] = data["status"].upper()
        return data


def last(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def _app(server: BatchServer) -> web.Application:
    async def at(step: str) -> None:
        server.steps[step] += 1
        await server.at(step, server.steps[step])

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        server.chats.append(body)
        await at("chat")
        answer = server.answer(body, 0)
        status, found = answer if isinstance(answer, tuple) else (200, answer)
        found = completion(found) if isinstance(found, str) else found
        server.bill(body, found)
        return web.json_response(found, status=status)

    async def upload(request: web.Request) -> web.StreamResponse:
        parts = await request.post()
        await at("upload")
        found: Any = parts["file"]
        file_id = f"file-{len(server.files)}"
        server.files[file_id] = found.file.read()
        server.file_names[file_id] = str(parts["purpose"])
        await at("uploaded")
        return web.json_response({"id": file_id, "object": "file", "purpose": parts["purpose"]})

    async def create(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await at("create")
        if body["input_file_id"] not in server.files:
            return error(400, f"Cannot find file {body['input_file_id']}")
        number = len(server.batches) + 1
        batch = body | {"id": f"batch_{number}", "object": "batch", "status": "validating", "looks": 0}
        batch["fate"] = server.fate(number)
        rows = server.rows_of(batch)
        if server.most_rows is not None and len(rows) > server.most_rows:
            message = "Enqueued token limit reached for m in organization o. Limit: 90,000 enqueued tokens."
            listed = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": message, "line": None}]}
            batch["fate"] = Fate("failed", errors=message if server.shouts else listed)
        server.batches[batch["id"]] = batch
        await at("created")
        return web.json_response(server.shown(batch))

    async def listed(request: web.Request) -> web.StreamResponse:
        await at("list")
        if not server.has_routes:
            return error(404, "no such route")
        if not server.lists:
            return web.json_response({})
        newest_first = list(server.batches.values())[::-1]
        names = [batch["id"] for batch in newest_first]
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        most = min(2, int(request.query["limit"]))  # small pages, so that there are several
        page = newest_first[start : start + most]
        more = start + most < len(newest_first)
        return web.json_response({"object": "list", "data": [server.shown(one) for one in page], "has_more": more})

    async def retrieve(request: web.Request) -> web.StreamResponse:
        server.headers.append(dict(request.headers))
        await at("retrieve")
        batch = server.batches.get(request.match_info["id"])
        if batch is None:
            return error(404, "no such batch")
        fate: Fate = batch["fate"]
        batch["looks"] += 1
        if batch["looks"] > fate.looks and batch["status"] != fate.status:
            batch["status"] = fate.status
            if fate.status == "failed":
                batch["errors"] = fate.errors
            else:
                server.work_off(batch)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
            batch["request_counts"] = {"total": len(server.rows_of(batch)), "completed": 0, "failed": 0}
        return web.json_response(server.shown(batch))

    async def content(request: web.Request) -> web.StreamResponse:
        await at("content")
        found = server.files.get(request.match_info["id"])
        if found is None:
            return error(404, "no such file")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        half = found.index(b"\n", len(found) // 2 - 1) + 1 if found.count(b"\n") > 1 else len(found)
        await response.write(found[:half])
        await at("half")
        await response.write(found[half:])
        await response.write_eof()
        return response

    @web.middleware
    async def dropping(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except ConnectionResetError:
            assert request.transport is not None
            request.transport.abort()
            raise

    app = web.Application(middlewares=[dropping], client_max_size=2**30)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/files", upload)
    app.router.add_get("/v1/files/{id}/content", content)
    app.router.add_post("/v1/batches", create)
    app.router.add_get("/v1/batches", listed)
    app.router.add_get("/v1/batches/{id}", retrieve)
    return app


@contextmanager
def serving_batches(server: BatchServer) -> Iterator[BatchServer]:
    loop = asyncio.new_event_loop()
    ready, stopped = threading.Event(), asyncio.Event()

    async def run() -> None:
        runner = web.AppRunner(_app(server), handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bound = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        server.base_url = f"http://127.0.0.1:{bound}/v1"
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


def dropped(*steps: str) -> Callable[[str, int], Awaitable[None]]:
    """Drops the connection at the first of each of these steps."""

    async def at(step: str, count: int) -> None:
        if step in steps and count == 1:
            raise ConnectionResetError

    return at
