"""evalft view: what its pages say, that a page reads no more than its rows, and what the server refuses."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

import run_folder
from api_server import serving
from evalft import config, diffing, pipeline
from evalft.errors import UserError
from evalft.reporting import examples, view
from evalft.reporting.examples import ShownRow
from evalft.store import RunFolder
from evalft.viewing import rows as rows_module
from evalft.viewing import server
from evalft.viewing.rows import Query, Rows
from evalft.viewing.runs import Runs


@contextmanager
def viewing(*places: Path) -> Iterator[int]:
    """The port of a server over these places."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    listening = socket.create_server((server.ADDRESS, 0))
    ports.append(listening.getsockname()[1])

    async def start() -> web.AppRunner:
        runner = web.AppRunner(server.app(places, ports[0]), access_log=None)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        return runner

    def work() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def ask(
    port: int, path: str, *, method: str = "GET", host: str | None = None, headers: Mapping[str, str] = {}
) -> tuple[int, str, Mapping[str, str]]:
    """(status, body, headers), the path as it is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def words_of(page: str) -> str:
    body = re.sub(r"<(style|script|option)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


def id_of(place: Path) -> str:
    (found,) = Runs([place]).listed()
    return found.id


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, one under way and one broken."""
    place = tmp_path_factory.mktemp("reports")
    run_folder.write(place / "tickets", training="tuned")
    run_folder.write(place / "genres", kind="multilabel", partial={"why": "budget", "missing": {}})
    run_folder.write(place / "latex", kind="generation", examples="failures")
    for name in ("going", "broken"):
        RunFolder(place / name).create()
        RunFolder(place / name).update_manifest(stages={"assess": "running"})
    (place / "broken" / "summary.json").write_text('{"schema": "evalft.summary/1", "cand')
    (place / "no-run").mkdir()
    return place


# ---------------------------------------------------------------- the list


def test_the_list_says_verdict_metrics_with_intervals_cost_and_date_of_each_run(reports: Path) -> None:
    with viewing(reports) as port:
        status, page, _ = ask(port, "/")
    assert status == 200
    said = words_of(page)
    for name in ("tickets", "genres", "latex"):
        shown = view.read(reports / name)
        part = said[said.index(f"{name} ") :]
        assert shown.created in part and (shown.verdict.action or "none") in part
        for candidate in shown.candidates:
            for measure in (*candidate.headline, candidate.cost):
                assert measure.value in part and measure.interval in part
    assert "no-run" not in said


def test_a_run_under_way_a_broken_and_a_partial_one_are_said_and_hide_no_other(reports: Path) -> None:
    with viewing(reports) as port:
        said = words_of(ask(port, "/")[1])
        assert "not finished (assess: running)" in said
        assert "summary.json: cannot be read" in said
        assert "This run is not complete: the budget (limits.max_cost_usd) was reached." in said
        for name in ("going", "broken"):
            status, page, _ = ask(port, f"/runs/{id_of(reports / name)}")
            assert status == 404 and name in words_of(page)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"schema": "evalft.summary/1"}', b"\xff\xfe", b'{"schema": 7}'])
@pytest.mark.parametrize("file", ["summary.json", "manifest.json"])
def test_no_damaged_file_is_more_than_a_line_on_the_page(tmp_path: Path, file: str, damage: bytes) -> None:
    run_folder.write(tmp_path / "one")
    (tmp_path / "one" / file).write_bytes(damage)
    with viewing(tmp_path) as port:
        assert ask(port, "/")[0] == 200
        harmless = file == "manifest.json" and damage.startswith(b"{")  # an object, though not of much
        assert ask(port, f"/runs/{id_of(tmp_path / 'one')}")[0] == (200 if harmless else 404)


@pytest.mark.parametrize("file", ["data/test.jsonl", "scores", "predictions"])
def test_rows_that_evalft_did_not_write_are_no_internal_error(tmp_path: Path, file: str) -> None:
    summary = run_folder.write(tmp_path / "one")
    run = RunFolder(tmp_path / "one")
    name = summary["candidates"][0]["name"]
    path = {"scores": run.scores_file(name), "predictions": run.predictions_file(name)}.get(file, run.file("test"))
    path.write_bytes(b'{"index": 0}\n{"index": "x"}\n[1]\nnonsense\n{"index": 99999999, "values": {}}\n\xff\n')
    with viewing(tmp_path) as port:
        assert ask(port, f"/runs/{id_of(tmp_path / 'one')}")[0] in (200, 404)


def test_the_list_is_searched_and_new_runs_appear(tmp_path: Path) -> None:
    run_folder.write(tmp_path / "first")
    with viewing(tmp_path) as port:
        assert "1 of 1 runs" in words_of(ask(port, "/")[1])
        run_folder.write(tmp_path / "second", training="tuned")
        assert "2 of 2 runs" in words_of(ask(port, "/")[1])
        assert "1 of 2 runs" in words_of(ask(port, "/?search=QWEN3-0.6B-Tuned")[1])
        assert "0 of 2 runs" in words_of(ask(port, "/?search=nothing")[1])


# ---------------------------------------------------------------- examples


def _rows(place: Path) -> Rows:
    return Rows(RunFolder(place), RunFolder(place).read_json("summary"))


def _walk(rows: Rows, query: Query, most: int = 7) -> list[ShownRow]:
    found: list[ShownRow] = []
    start: int | None = 0
    while start is not None:
        page = rows.page(Query(query.words, query.show, query.label, query.tag, query.sides, start), most)
        assert page.rows or query.words or not found
        assert page.fitting is None or page.fitting >= len(page.rows)
        found += page.rows
        start = page.next
    return found


@pytest.mark.parametrize("kind", ["classification", "multilabel", "generation"])
def test_pages_hold_every_row_once_as_the_report_shows_it(tmp_path: Path, kind: str) -> None:
    summary = run_folder.write(tmp_path, kind=kind, training="tuned")
    in_report = sorted(examples.read_examples(RunFolder(tmp_path), summary).rows, key=lambda row: row.number)
    assert _walk(_rows(tmp_path), Query()) == in_report


def test_answers_in_the_order_they_came_in_and_a_torn_line_change_nothing(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    whole = _walk(_rows(tmp_path), Query())
    for entry in summary["candidates"]:
        path = RunFolder(tmp_path).predictions_file(entry["name"])
        lines = path.read_bytes().splitlines(keepends=True)
        random.Random(1).shuffle(lines)
        path.write_bytes(b"".join([*lines, lines[0][:30]]))
        size = path.stat().st_size
    assert _walk(_rows(tmp_path), Query()) == whole
    assert path.stat().st_size == size


FILTERS = [
    ("broken", lambda row: row.change == "broken"),
    ("fixed", lambda row: row.change == "fixed"),
    ("failed", lambda row: any(one.mark == "failed" for one in row.answers)),
    ("missed", lambda row: any(one.mark in ("failed", "wrong", "partly") for one in row.answers)),
    ("differ", lambda row: {one.mark for one in row.answers} & {"failed", "wrong", "partly"} and "right" in {one.mark for one in row.answers}),
    ("failed 1", lambda row: next(one for one in row.answers if one.candidate.startswith("together")).mark == "failed"),
    ("missed 0", lambda row: next(one for one in row.answers if one.candidate.startswith("openai")).mark in ("wrong", "partly", "failed")),
]  # fmt: skip


@pytest.mark.parametrize(("show", "fits"), FILTERS, ids=[name for name, _ in FILTERS])
def test_a_filter_shows_just_the_rows_that_fit_and_counts_them(tmp_path: Path, show: str, fits: Any) -> None:
    run_folder.write(tmp_path, kind="multilabel", training="tuned", rows=90)
    rows = _rows(tmp_path)
    every = _walk(rows, Query())
    expected = [row for row in every if fits(row)]
    assert 0 < len(expected) < len(every)
    assert _walk(rows, Query(show=show)) == expected
    assert rows.page(Query(show=show)).fitting == len(expected)
    label, tag = expected[0].labels[0] if expected[0].labels else rows.labels[0], expected[0].tags[0]
    assert label in rows.labels and tag in rows.tags
    assert _walk(rows, Query(show=show, label=label, tag=tag)) == [
        row for row in expected if label in row.labels and tag in row.tags
    ]


@pytest.mark.parametrize("words", ["COFFEE", "언제 받을", "متى ستصل", "<script>", r"\int_{0}", '"><img', "customer 3", "language: ko",
                                   "HTTP 400", "index", "latency_s", "row-1", "\\", "카드".replace("카", "\u110f\u1161")])  # fmt: skip
def test_a_search_finds_what_a_page_shows_and_no_name_of_a_field(tmp_path: Path, words: str) -> None:
    """Files with and without \\u escapes; a Hangul syllable in two letters is the same syllable."""
    run_folder.write(tmp_path, hostile=run_folder.HOSTILE[:9])
    escaped = _walk(_rows(tmp_path), Query(words=words))
    test = RunFolder(tmp_path).file("test")
    test.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in map(json.loads, test.read_text().splitlines()))
    )
    every = _walk(_rows(tmp_path), Query())
    assert _walk(_rows(tmp_path), Query(words=words)) == escaped

    def said(row: ShownRow) -> str:
        answers = [part for one in row.answers for part in (*one.texts, one.labels, one.failure, one.message)]
        inputs = [words for _, words in row.input]
        return "\n".join([row.id, row.source, row.group, row.target, *row.tags, *inputs, *answers]).lower()

    plain = words.replace("\u110f\u1161", "카").lower()
    assert [row.number for row in escaped] == [row.number for row in every if plain in said(row)]


def test_a_search_reads_a_bounded_number_of_rows_and_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder.write(tmp_path / "one", rows=50, hostile=())
    whole = _walk(_rows(tmp_path / "one"), Query(words="row-49"))
    monkeypatch.setattr(rows_module, "SEARCHED_AT_ONCE", 20)
    first = _rows(tmp_path / "one").page(Query(words="row-49"))
    assert first.rows == () and first.next == 20
    assert _walk(_rows(tmp_path / "one"), Query(words="row-49")) == whole and len(whole) == 1
    with viewing(tmp_path) as port:
        page = ask(port, f"/runs/{id_of(tmp_path / 'one')}?search=row-49")[1]
    assert "Searched: rows 1 to 20 of 50." in words_of(page) and "Search on from row 21" in page


def test_any_two_candidates_are_compared_row_by_row(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    rows = _rows(tmp_path)
    before, after = (summary["candidates"][i]["name"] for i in (2, 0))
    metric = summary["task"]["metrics"][0]
    old, new = (
        {s["index"]: s["values"][metric] for s in examples.lines(RunFolder(tmp_path).scores_file(one))}
        for one in (before, after)
    )
    found = _walk(rows, Query(show="fixed", sides=(before, after)))
    assert [row.number - 1 for row in found] == [i for i in old if new[i] > old[i]]
    assert all(
        [one.side for one in row.answers][:2] == ["before", "after"] and row.answers[0].candidate == before
        for row in found
    )
    assert _walk(rows, Query(show="fixed")) == [], "nothing was trained, and no sides were named"


def test_a_page_reads_no_line_but_those_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = run_folder.write(tmp_path, rows=600, hostile=())
    rows = _rows(tmp_path)
    taken = [0]
    read = rows_module._Lines.at

    def counted(self: Any, row: int, file: Any) -> list[bytes]:
        found = read(self, row, file)
        taken[0] += len(found)
        return found

    monkeypatch.setattr(rows_module._Lines, "at", counted)
    page = rows.page(Query(start=500), 10)
    assert [row.number for row in page.rows] == list(range(501, 511)) and page.next == 510
    assert taken[0] <= 10 * (1 + 2 * len(summary["candidates"]))


def test_what_is_written_while_the_server_runs_is_shown(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path / "one", hostile=())
    path = RunFolder(tmp_path / "one").predictions_file(summary["candidates"][0]["name"])
    with viewing(tmp_path) as port:
        address = f"/runs/{id_of(tmp_path / 'one')}"
        assert "an answer of now" not in ask(port, address)[1]
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"text": "an answer of now"}) + "\n" for line in lines))
        assert "an answer of now" in ask(port, address)[1]


def test_addresses_that_make_no_sense_are_pages_too(reports: Path) -> None:
    with viewing(reports) as port:
        address = f"/runs/{id_of(reports / 'tickets')}"
        for query in ("start=-1", "start=99999999999999999999", "start=x", "of=9&show=failed", "of=١", "show=nonsense", "before=0&after=0",
                      "label=none&tag=none", "search=%00%ff", "before=7&after=1&show=fixed"):  # fmt: skip
            assert ask(port, f"{address}?{quote(query, safe='=&%')}")[0] == 200, query


# ---------------------------------------------------------------- personal data


def test_examples_none_holds_on_every_page(tmp_path: Path) -> None:
    with serving(_answers(4)) as model:
        for name in ("one", "two"):
            _assess(tmp_path, name, model.base_url, report={"examples": "none"})
    with viewing(tmp_path / "runs") as port:
        first, second = (id_of(tmp_path / "runs" / name) for name in ("one", "two"))
        for path in ("/", f"/runs/{first}", f"/runs/{first}/report", f"/compare?base={first}/0&new={second}/0"):
            status, page, _ = ask(port, path)
            assert status == 200 and "canary" not in page, path
            assert path == "/" or "report.examples is none" in words_of(page)


def test_examples_failures_leaves_out_what_all_got_right(reports: Path) -> None:
    every = view.read(reports / "latex").examples.rows
    found = _walk(_rows(reports / "latex"), Query())
    assert {row.id for row in found} == {row.id for row in every} and 0 < len(found) < 60


# ---------------------------------------------------------------- comparing


def _answers(every: int) -> Any:
    """A model that is wrong on each row that `every` divides."""

    def answer(body: dict[str, Any], number: int) -> str:
        row = int(re.findall(r"\d+", body["messages"][-1]["content"])[-1])
        return f"canary {'wrong' if row % every == 0 else 'right'} {row}"

    return answer


def _assess(tmp_path: Path, name: str, base_url: str, **more: Any) -> Path:
    rows = [
        {
            "id": f"canary-{name}-{i}",
            "text": f"canary question {i}",
            "label": f"canary right {i}",
            "team": f"canary team {i % 2}",
        }
        for i in range(60)
    ]
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {"test": f"{name}.jsonl", "input": "text", "target": "label", "type": "generation", "prompt": "{{ text }}", "slices": ["team"], "id": "id"},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}],
    }  # fmt: skip
    built = config.build(data | more, source="test", folder=tmp_path)
    return pipeline.assess(built, out=tmp_path / "runs" / name, fresh=True).path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("two")
    for name, every in (("one", 2), ("two", 6)):
        with serving(_answers(every)) as model:
            _assess(place, name, model.base_url)
    return place / "runs"


def test_two_runs_are_compared_as_evalft_diff_does_with_the_rows_of_both(two: Path) -> None:
    found = diffing.diff(str(two / "one"), str(two / "two"))
    with viewing(two) as port:
        status, page, _ = ask(port, f"/compare?base={id_of(two / 'one')}/0&new={id_of(two / 'two')}/0")
    said = words_of(page)
    assert status == 200 and diffing.sentence(found) in said
    for name, one in found.comparison.metrics.items():
        assert all(cell in said for cell in diffing.cells(name, one, found.adjusted.get(name)))
    assert all(name in said for name in found.slices) and len(found.slices) == 2
    fixed = found.comparison.ids("fixed")
    assert len(fixed) == 20 and not found.comparison.ids("broken")
    articles = re.findall(r'<article class="example".*?</article>', page, re.DOTALL)
    assert len(articles) == 20
    for row_id, article in zip(fixed, articles, strict=True):
        number = row_id.rpartition("-")[2]
        assert row_id in article and f"canary <del>wrong</del> {number}" in article.replace(
            "<del> wrong</del>", " <del>wrong</del>"
        )
        assert "<ins> right</ins>" in article


def test_runs_that_cannot_be_compared_say_why(reports: Path, two: Path) -> None:
    run_folder_id, real = id_of(reports / "tickets"), id_of(two / "one")
    with viewing(reports / "tickets", two) as port:
        for query in (f"base={run_folder_id}/0&new={real}/0", f"base={real}/9&new={real}/0", f"base={real}&new=", "",
                      f"base={real}/-1&new={real}/x", "base=../../etc/0&new=x/0"):  # fmt: skip
            status, page, _ = ask(port, f"/compare?{query}")
            assert status == 404 and "<p>" in page


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil.example:{port}", "[::1]:{port}",
     "0.0.0.0:{port}", "127.0.0.1:{port}@evil.example", "LOCALHOST.:{port}", " "],
)  # fmt: skip
def test_a_foreign_host_gets_nothing(reports: Path, host: str) -> None:
    with viewing(reports) as port:
        for path in ("/", f"/runs/{id_of(reports / 'tickets')}", "/nowhere"):
            status, body, _ = ask(port, path, host=host.format(port=port))
            assert status in (400, 403) and "tickets" not in body and "<html" not in body
        for own in ("127.0.0.1", "localhost"):
            assert ask(port, "/", host=f"{own}:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
def test_only_get_is_answered(reports: Path, method: str) -> None:
    with viewing(reports) as port:
        for path in ("/", f"/runs/{id_of(reports / 'tickets')}"):
            status, body, _ = ask(port, path, method=method)
            assert status in (400, 405) and "tickets" not in body


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/runs/../../secret", "/runs/..%2f..%2fsecret", "/runs/%2e%2e/%2e%2e/secret", "/runs/..%5csecret", "//secret",
     "/runs/secret/report", "/runs/{place}", "/runs/%2F{place}%2Fsecret/report", "/secret", "/runs/{id}/summary.json",
     "/runs/{id}/../{id}/config.yaml", "/runs/{id}/report/../../../secret", "/runs/{id}%00/report", "/compare?base={place}/0&new={place}/0"],
)  # fmt: skip
def test_no_path_of_an_address_is_followed(tmp_path: Path, path: str) -> None:
    run_folder.write(tmp_path / "reports" / "one", hostile=())
    for secret in (tmp_path / "secret", tmp_path / "reports" / "secret"):
        secret.write_text("the secret words")
    with viewing(tmp_path / "reports") as port:
        filled = path.format(place=quote(str(tmp_path / "reports"), safe=""), id=id_of(tmp_path / "reports" / "one"))
        status, body, _ = ask(port, filled)
    assert status in (400, 404) and "the secret words" not in body and '"schema"' not in body


def test_every_answer_carries_the_policy_and_is_not_kept(reports: Path) -> None:
    tickets = id_of(reports / "tickets")
    with viewing(reports) as port:
        for path in ("/", f"/runs/{tickets}", f"/runs/{tickets}/report", "/nowhere", "/compare"):
            status, page, headers = ask(port, path)
            policy = headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy
            if not path.endswith("report"):
                assert "default-src 'none'" in policy and "script-src 'none'" in policy and "<script" not in page
            assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
            assert (headers["Referrer-Policy"], headers["Cross-Origin-Resource-Policy"]) == (
                "no-referrer",
                "same-origin",
            )


class _Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_no_page_holds_an_element_or_attribute_that_others_wrote(tmp_path: Path) -> None:
    hostile = "<script>document.title='pwned'</script>"
    summary = run_folder.write(
        tmp_path / "one", training="tuned", hostile=(hostile, '"><img src=x onerror=x>', "javascript:x")
    )
    summary["candidates"][0]["name"] = summary["task"]["name"] = hostile
    (tmp_path / "one" / "summary.json").write_text(json.dumps(summary))
    with viewing(tmp_path) as port:
        one = id_of(tmp_path / "one")
        for path in ("/", f"/runs/{one}", f"/runs/{one}?search={quote(hostile)}&label={quote(hostile)}", f"/{quote(hostile)}",
                     f"/?search={quote(hostile)}", f"/compare?base={quote(hostile)}/0"):  # fmt: skip
            found = _Elements(ask(port, path)[1]).found
            assert not {"script", "img", "iframe", "base", "object", "link"} & {tag for tag, _ in found}
            for tag, attributes in found:
                assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")]
                assert tag != "a" or str(attributes["href"]).startswith("/")


def test_a_report_that_others_left_in_the_folder_is_not_served(tmp_path: Path) -> None:
    run_folder.write(tmp_path / "one", hostile=())
    (tmp_path / "one" / "report.html").write_text("<script>steal()</script>")
    with viewing(tmp_path) as port:
        status, page, _ = ask(port, f"/runs/{id_of(tmp_path / 'one')}/report")
    assert status == 200 and "steal()" not in page and "When will my card arrive" in page


# ---------------------------------------------------------------- the command


def test_the_command_prints_its_address_answers_there_and_ctrl_c_ends_it_with_0(reports: Path) -> None:
    command = [sys.executable, "-m", "evalft.cli", "view", "--no-open", str(reports)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENAI_API_KEY": "sk-secret-key"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        address = process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)
        assert found, process.stderr.read()
        status, page, _ = ask(int(found[1]), "/")
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert status == 200 and "sk-secret-key" not in page
    assert (process.returncode, out, error) == (0, "", "")


def test_where_there_is_nothing_to_view_or_the_port_is_taken_it_says_so(tmp_path: Path, reports: Path) -> None:
    def nothing(_: str) -> None:
        raise AssertionError("it listened")

    for place in (tmp_path, tmp_path / "nowhere", reports / "tickets" / "summary.json"):
        with pytest.raises(UserError, match="is no run folder and holds none"):
            server.serve([place], None, nothing, open_browser=False)
    with socket.create_server((server.ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: cannot be listened on"):
            server.serve([reports], port, nothing, open_browser=False)


def test_the_server_listens_on_the_loopback_only() -> None:
    assert server.ADDRESS == "127.0.0.1"
