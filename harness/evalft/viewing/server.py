"""The pages, over HTTP on this machine's loopback.

What a page holds are rows of people and answers of models, so: only GET; only for a Host that names this server (a foreign
page that makes a name point at 127.0.0.1 is refused: DNS rebinding); only run folders found beforehand, named by ids; no
script at all in these pages, and a content security policy that would stop one; nothing is stored by the browser.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aiohttp import web

from evalft import diffing, numbers
from evalft.errors import EvalftError, UserError
from evalft.reporting import examples, html
from evalft.store import RunFolder
from evalft.viewing.pairs import changed_rows, side
from evalft.viewing.rows import Query, Rows
from evalft.viewing.runs import Run, Runs, require, why

if TYPE_CHECKING:
    from jinja2 import Environment

P = ParamSpec("P")
T = TypeVar("T")

ADDRESS = "127.0.0.1"
OPEN_AT_ONCE = 4
"""Runs whose rows are known; of others the files are read through again."""
SHOWN = ("", "broken", "fixed", "failed", "missed", "differ")


def serve(places: Sequence[Path], port: int | None, say: Callable[[str], object], *, open_browser: bool) -> None:
    """Until Ctrl-C. port: None for a free one. Raises UserError where there is no run folder, or the port is taken."""
    require(places)
    try:
        listening = socket.create_server((ADDRESS, port or 0))
    except OSError as error:
        raise UserError(
            f"--port {port}: cannot be listened on: {error.strerror}; leave it out for a free one"
        ) from None
    port = listening.getsockname()[1]
    say(f"http://{ADDRESS}:{port}/")
    if open_browser and (
        os.name == "nt" or sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    ):
        threading.Thread(target=webbrowser.open, args=(f"http://{ADDRESS}:{port}/",), daemon=True).start()
    web.run_app(app(places, port), sock=listening, print=None, access_log=None, shutdown_timeout=1)


def app(places: Sequence[Path], port: int) -> web.Application:
    pages = _Pages(Runs(places))
    found = web.Application(
        middlewares=[_guard(frozenset(f"{name}:{port}" for name in (ADDRESS, "localhost"))), _faults]
    )
    for path, page in {
        "/": pages.runs,
        "/compare": pages.compare,
        "/runs/{id}": pages.examples,
        "/runs/{id}/report": pages.report,
    }.items():
        found.router.add_get(path, page)
    return found


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _guard(hosts: frozenset[str]) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.getall("Host", []) not in [[host] for host in hosts]:
            answer: web.StreamResponse = web.Response(
                status=403, text="This server answers only under its own address.\n"
            )
        elif request.method != "GET":
            answer = web.Response(status=405, headers={"Allow": "GET"}, text="Only GET.\n")
        else:
            answer = await handler(request)
        answer.headers.setdefault("Content-Security-Policy", _policy())
        answer.headers.update(
            {
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )
        return answer

    return guard


@web.middleware
async def _faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A wrong address and a run that cannot be read are said on a page."""
    try:
        return await handler(request)
    except EvalftError as error:
        return _page("message.html.j2", title="Cannot be shown", lines=str(error).splitlines(), status=404)
    except web.HTTPNotFound:
        return _page("message.html.j2", title="No such page", lines=["There is no page at this address."], status=404)


class _Pages:
    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._rows: dict[str, Rows] = {}
        self._reading = threading.Lock()

    async def runs(self, request: web.Request) -> web.Response:
        words = request.query.get("search", "")
        listed = await _in_thread(self._runs.listed)
        return _page(
            "runs.html.j2",
            runs=[run for run in listed if words.lower().strip() in run.words],
            total=len(listed),
            sides=[(f"{run.id}/{i}", run, one) for run in listed for i, one in enumerate(run.candidates)],
            search=words,
        )

    async def report(self, request: web.Request) -> web.Response:
        """Made anew: what lies in the folder as report.html may be anyone's."""
        run = await self._find(request.match_info["id"])
        page = await _in_thread(html.render, run.path)
        answer = web.Response(text=page, content_type="text/html", charset="utf-8")
        answer.headers["Content-Security-Policy"] = "frame-ancestors 'none'"  # the rest stands in the page
        return answer

    async def examples(self, request: web.Request) -> web.Response:
        run = await self._find(request.match_info["id"])
        summary = await _in_thread(RunFolder(run.path).read_json, "summary")
        if summary.get("report_examples") == "none":
            return _page("message.html.j2", title=run.path.name, lines=[examples.NOT_SHOWN])
        if not RunFolder(run.path).file("test").is_file():
            raise UserError(f"{run.path}: holds no data/test.jsonl, so there is no row to show")
        rows = await _in_thread(self._rows_of, run, summary)
        query = _query(request, rows)
        found = await _in_thread(rows.page, query)
        return _page(
            "examples_page.html.j2",
            run=run,
            rows=found.rows,
            found=found,
            total=rows.total,
            query=query,
            names=rows.names,
            labels=rows.labels,
            tags=rows.tags,
            first=str(request.rel_url.update_query(start=0)),
            next=None if found.next is None else str(request.rel_url.update_query(start=found.next)),
            only_failures=summary.get("report_examples") == "failures",
        )

    async def compare(self, request: web.Request) -> web.Response:
        base, new = [await self._side(request.query.get(name, "")) for name in ("base", "new")]
        found = await _in_thread(lambda: diffing.between(side(*base), side(*new)))
        rows, note = await _in_thread(changed_rows, base, new, found)
        metrics = [diffing.cells(name, one, found.adjusted.get(name)) for name, one in found.comparison.metrics.items()]
        slices = [diffing.cells(name, one, found.adjusted.get(name)) for name, one in found.slices.items()]
        return _page(
            "compare.html.j2",
            base=base,
            new=new,
            diff=found,
            sentence=diffing.sentence(found),
            confidence=numbers.confidence(found.confidence),
            tables=[("Metrics", metrics), (f"Slices, by {found.comparison.row_metric}", slices)],
            costs=[numbers.usd(cost) for cost in found.cost_per_query_usd],
            rows=rows,
            note=note,
        )

    async def _find(self, run_id: str) -> Run:
        run = await _in_thread(self._runs.find, run_id)
        if run.shown is None:
            raise UserError(f"{run.path}: {run.state}")
        return run

    async def _side(self, named: str) -> tuple[RunFolder, str]:
        run_id, _, position = named.rpartition("/")
        run = await self._find(run_id)
        if not position.isascii() or not position.isdigit() or int(position) >= len(run.candidates):
            raise UserError(f"{run.path}: has no such candidate; choose two from the list of runs")
        return RunFolder(run.path), run.candidates[int(position)].name

    def _rows_of(self, run: Run, summary: dict[str, Any]) -> Rows:
        with self._reading:
            known = self._rows.pop(run.id, None)
            if known is None or not known.is_current:
                known = Rows(RunFolder(run.path), summary)
            self._rows[run.id] = known  # the last one used stands last
            while len(self._rows) > OPEN_AT_ONCE:
                del self._rows[next(iter(self._rows))]
            return known


def _query(request: web.Request, rows: Rows) -> Query:
    """Of an address that a person may have written: what makes no sense in it is left out."""
    given = request.query

    def position(name: str, most: int) -> int | None:
        text = given.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < most else None

    before, after = (position(name, len(rows.names)) for name in ("before", "after"))
    of = position("of", len(rows.names))
    show = given.get("show", "")
    show = show if show in SHOWN else ""
    return Query(
        words=given.get("search", ""),
        show=f"{show} {of}" if of is not None and show in ("failed", "missed") else show,
        label=given.get("label", ""),
        tag=given.get("tag", ""),
        sides=None if before is None or after is None or before == after else (rows.names[before], rows.names[after]),
        start=position("start", rows.total) or 0,
    )


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Files are read beside the loop; of those that evalft did not write so, the page says what is wrong."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise UserError(f"this run {why(error)}") from error


def _page(template: str, *, status: int = 200, **values: Any) -> web.Response:
    text = _environment().get_template(template).render(style=_style(), **values)
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import ChoiceLoader, PackageLoader

    loaders = [PackageLoader(f"evalft.{package}", ".") for package in ("viewing", "reporting")]
    return html.environment().overlay(loader=ChoiceLoader(loaders))


@cache
def _style() -> Any:
    return html.block("report.css", "examples.css")


def _policy() -> str:
    return html.policy(_style(), None, "form-action 'self'; frame-ancestors 'none'")
