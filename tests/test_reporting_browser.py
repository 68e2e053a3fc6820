"""report.html in a real browser: injections inert, nothing leaves the page, the filter works, narrow screens fit."""

from __future__ import annotations

import html as html_escapes
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import run_folder
from evalft.reporting import html, text, view
from evalft.store import RunFolder

pytestmark = [pytest.mark.browser, pytest.mark.drawn]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --enable-logging=stderr"
).split()


@pytest.fixture(autouse=True)
def _browser() -> None:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")


def _browse(page: Path, *options: str) -> tuple[str, str]:
    """The page's DOM after its scripts ran, and what the browser logged."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=3000", *options]
        done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "<html" in done.stdout, done.stderr
    return done.stdout, done.stderr


def _title(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    return found[1] if found else ""


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str]]]:
    """A port, and the paths that were asked for on it."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], paths
    server.shutdown()
    thread.join()
    server.server_close()


def _hostile(port: int) -> tuple[str, ...]:
    url = f"http://127.0.0.1:{port}"
    return (
        *run_folder.HOSTILE,
        f"<img src={url}/img><link rel=stylesheet href={url}/css><style>@import '{url}/import'</style>",
        f"<script src={url}/script></script><script>fetch('{url}/fetch')</script>",
        f'" onmouseover="x" style="background:url({url}/style)',
    )


@pytest.mark.parametrize("training", [None, "tuned", "waiting"])
def test_injections_are_inert_and_no_request_leaves_the_page(
    tmp_path: Path, asked: tuple[int, list[str]], training: str | None
) -> None:
    port, paths = asked
    run_folder.write(tmp_path, hostile=_hostile(port), training=training)
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    dom, log = _browse(page)
    assert _title(dom) == "banking &lt;intents&gt; – evalft report"
    assert paths == []
    assert "Content Security Policy" not in log, "the page's own parts must not need what its policy forbids"
    assert "Uncaught" not in log


def test_the_same_texts_unescaped_do_run_and_do_ask(tmp_path: Path, asked: tuple[int, list[str]]) -> None:
    """The control: without escaping and policy the test above would see both."""
    port, paths = asked
    page = tmp_path / "control.html"
    body = "".join((*_hostile(port)[:2], *_hostile(port)[-3:]))  # the others would swallow what follows
    page.write_text(f"<!doctype html><html><title>x</title><body>{body}", encoding="utf-8")
    dom, _ = _browse(page)
    assert _title(dom) == "pwned" and "/img" in paths


@pytest.fixture
def page(tmp_path: Path) -> Path:
    run_folder.write(tmp_path, training="tuned")
    path = tmp_path / "report.html"
    path.write_text(html.render(tmp_path), encoding="utf-8")
    return path


def _driven(page: Path, script: str) -> Path:
    """A copy whose policy is taken out, with a script that acts as the reader and leaves what it saw in the title."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy = page.with_name("driven.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


def _articles(page: str) -> list[str]:
    """Each drawn example as its elements and words, without attributes, and without space between elements."""
    found = re.findall(r'<article class="example"[^>]*>.*?</article>', page, re.DOTALL)
    plain = (re.sub(r"<(/?\w+)[^>]*>", r"<\1>", article) for article in found)
    return [html_escapes.unescape(re.sub(r"\s*(</?\w+>)\s*", r"\1", article)) for article in plain]


@pytest.mark.parametrize("training", [None, "tuned"])
def test_the_script_draws_rows_as_the_page_without_it_does(tmp_path: Path, training: str | None) -> None:
    run_folder.write(tmp_path, kind="multilabel", training=training)
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    written = page.read_text(encoding="utf-8")
    assert '<div class="controls" id="filter" role="search" aria-label="Examples" hidden>' in written
    dom, _ = _browse(page)
    assert re.search(r'id="shown"[^>]*>60 of 60 rows; 1 to 50 on this page', dom)
    drawn = dom.split('id="list"')[1].split("<nav")[0]
    assert _articles(drawn) == _articles(written) and len(_articles(drawn)) == html.ROWS_WITHOUT_SCRIPT


READER = """
  const at = (id) => document.getElementById(id);
  const numbers = () => [...document.querySelectorAll('.example h3 span:first-child')].map((e) => Number(e.textContent.slice(4)));
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const pick = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event('change')); };
  const shown = () => { // over all pages
    const found = numbers();
    while (!at('pages').hidden && !at('next').disabled) { at('next').click(); found.push(...numbers()); }
    return found.sort((a, b) => a - b);
  };
"""


def _read(page: Path, steps: str) -> Any:
    """What the steps of a reader leave in `saw`."""
    driven = _driven(
        page, f"{READER} (async () => {{ const saw = {{}}; {steps} document.title = JSON.stringify(saw); }})()"
    )
    return json.loads(html_escapes.unescape(_title(_browse(driven)[0])))


def test_searching_and_choosing_show_just_the_rows_that_fit(page: Path, tmp_path: Path) -> None:
    rows = view.read(tmp_path).examples.rows
    label, tag = rows[3].labels[0], rows[3].tags[0]
    place = [sorted({one for row in rows for one in row.labels}).index(label) + 1,
             sorted({one for row in rows for one in row.tags}).index(tag) + 1]  # fmt: skip
    saw = _read(
        page,
        f"""
        for (const kind of ['', 'broken', 'fixed', 'failed', 'missed', 'differ', 'missed 2', 'failed 3'])
          {{ pick('outcome', kind); saw[kind] = shown(); }}
        pick('outcome', ''); pick('label', {place[0]}); saw.label = shown();
        pick('tag', {place[1]}); saw.both = shown(); pick('label', ''); pick('tag', '');
        for (const words of ['COFFEE', '언제 받을', 'متى ستصل', 'no such words']) {{
          at('search').value = words; at('search').dispatchEvent(new Event('input')); await wait(300); saw[words] = shown(); }}
        saw.said = at('shown').textContent;
        """,
    )

    def numbers(fits: Any) -> list[int]:
        found = sorted(row.number for row in rows if fits(row))
        assert 0 < len(found) <= len(rows)
        return found

    missed = {"wrong", "partly", "failed"}
    assert saw[""] == numbers(lambda row: True)
    assert saw["broken"] == numbers(lambda row: row.change == "broken")
    assert saw["fixed"] == numbers(lambda row: row.change == "fixed")
    assert saw["failed"] == numbers(lambda row: any(one.mark == "failed" for one in row.answers))
    assert saw["missed"] == numbers(lambda row: any(one.mark in missed for one in row.answers))
    assert saw["differ"] == numbers(
        lambda row: {one.mark for one in row.answers} & missed and "right" in {one.mark for one in row.answers}
    )
    assert saw["missed 2"] == numbers(lambda row: row.answers[2].mark in missed)
    assert saw["failed 3"] == numbers(lambda row: row.answers[3].mark == "failed")
    assert saw["label"] == numbers(lambda row: label in row.labels)
    assert saw["both"] == numbers(lambda row: label in row.labels and tag in row.tags)
    for words in ("COFFEE", "언제 받을", "متى ستصل"):
        assert saw[words] == numbers(lambda row, words=words: words.lower() in str(row).lower())
    assert saw["no such words"] == [] and saw["said"] == "0 of 60 rows"


def test_every_control_has_a_name_and_paging_moves_the_focus_to_the_first_row(page: Path) -> None:
    saw = _read(
        page,
        """
        saw.unnamed = [...document.querySelectorAll('#examples ~ * input, #examples ~ * select, #examples ~ * button')]
          .filter((e) => !(e.labels?.[0]?.textContent.trim() || e.textContent.trim())).length;
        saw.status = at('shown').getAttribute('role');
        const before = numbers()[0];
        at('next').focus(); at('next').click();
        saw.moved = document.activeElement === at('list').firstElementChild && numbers()[0] !== before;
        at('previous').click(); saw.back = numbers()[0] === before && at('previous').disabled;
        """,
    )
    assert saw == {"unnamed": 0, "status": "status", "moved": True, "back": True}


STRANGE = (
    "</script><script>document.title='pwned'</script>",
    "<!--<script>document.title='pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "javascript:document.title='pwned'",
    "{{ 7*7 }} ${document.title='pwned'} {% include 'x' %}",
    "line\u2028separator\u2029';document.title='pwned'//",
    "\u202egnp.exe \u2066isolated\u2069 \x00 nul \ud800",
    "x" * 3000,
    "\\u003c/script\\u003e\\",
)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "generation"])
def test_hostile_words_are_words_wherever_a_row_has_some(
    tmp_path: Path, asked: tuple[int, list[str]], kind: str
) -> None:
    """In the input, target, answers, ids, tags, groups, labels and failure messages of a row."""
    port, paths = asked
    words = (*STRANGE, *_hostile(port))
    summary = run_folder.write(tmp_path, kind=kind, training="tuned", hostile=words)
    run = RunFolder(tmp_path)
    files = [run.file("test"), *(run.predictions_file(entry["name"]) for entry in summary["candidates"])]
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for i, line in enumerate(lines):
            its = words[i % len(words)]
            if "target" in line:
                line |= {
                    "target": [its, its] if kind == "multilabel" else its,
                    "group": its,
                    "source": its,
                    "slices": {its: its},
                }
            else:
                line |= {"text": its, "labels": [its]} | ({"message": its, "failure": its} if "failure" in line else {})
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    dom, log = _browse(page)
    assert _title(dom) == "banking &lt;intents&gt; – evalft report" and paths == []
    assert "Content Security Policy" not in log and "Uncaught" not in log
    shown = html_escapes.unescape(re.sub(r"<[^>]*>", "", dom.split('id="list"')[1].split("<nav")[0]))
    for its in STRANGE:
        assert text.visible(its) in shown
    saw = _read(
        page,
        "while (!at('next').disabled) at('next').click(); saw.wide = document.documentElement.scrollWidth > innerWidth;",
    )
    assert saw == {"wide": False}


def test_scripts_of_the_world_keep_their_direction_and_their_signs(tmp_path: Path) -> None:
    run_folder.write(tmp_path, hostile=(), kind="generation")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    saw = _read(
        page,
        """
        for (const p of document.querySelectorAll('.example > .words')) saw[p.textContent] = getComputedStyle(p).direction;
        """,
    )
    for words in run_folder.PLAIN:
        found = [direction for shown, direction in saw.items() if shown.strip() == words.strip()]
        assert found == ["rtl" if "متى" in words else "ltr"]


SCRIPTS = (
    "我的银行卡被吞了",
    "暗証番号を忘れました",
    "카드를 언제 받을 수 있나요?",
    "متى ستصل بطاقتي؟",
    "plain",
    "the sign 中",
)


def test_with_and_without_script_a_text_has_the_same_language_and_is_broken_as_it_wants(tmp_path: Path) -> None:
    run_folder.write(tmp_path, hostile=SCRIPTS, kind="generation", training="tuned")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    script = """
      const of = (e) => [e.textContent, e.lang, getComputedStyle(e).wordBreak, getComputedStyle(e).fontFamily.includes('mono')];
      document.title = JSON.stringify([...document.querySelectorAll('#list .words')].map(of));
    """
    drawn = json.loads(html_escapes.unescape(_title(_browse(_driven(page, script))[0])))
    written = page.read_text(encoding="utf-8").split('id="list"')[1].split("<nav")[0]
    without = re.findall(r'<p class="words" dir="auto"( lang="(?:ko|ja|zh)")?>', written)
    assert [f' lang="{lang}"' if lang else "" for _, lang, *_ in drawn] == without
    told = {words: rest for words, *rest in drawn}
    assert told[SCRIPTS[0]] == ["zh", "normal", False] and told[SCRIPTS[1]][0] == "ja"
    assert told[SCRIPTS[2]] == ["ko", "keep-all", False]
    assert told[SCRIPTS[3]] == ["", "normal", False] and told["plain"] == ["", "normal", True]
    assert told[SCRIPTS[5]][0] == ""


def test_a_number_behind_an_arabic_name_stands_behind_it(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    summary["verdict"] |= {"reasons": ["نموذج: 12 of 20"]}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    name, number = _seen_at(
        page,
        1280,
        """((li) => { const range = document.createRange(); const at = li.textContent.indexOf('12');
          const x = (from, to) => { const walk = document.createTreeWalker(li, NodeFilter.SHOW_TEXT);
            for (let node, before = 0; (node = walk.nextNode()); before += node.length)
              if (from < before + node.length) { range.setStart(node, from - before); range.setEnd(node, to - before); break; }
            return range.getBoundingClientRect().left; };
          return [x(0, 1), x(at, at + 2)]; })(document.querySelector('.brief li'))""",
    )
    assert number > name


def _seen_at(page: Path, width: int, expression: str) -> Any:
    """What an expression of JavaScript comes to in a window that wide (in px)."""
    frame = page.with_name("frame.html")
    script = f"parent.postMessage(JSON.stringify({expression}), '*');"
    frame.write_text(
        f"<!doctype html><title></title><script>onmessage = (e) => document.title = e.data;</script>"
        f'<iframe src="{_driven(page, script).as_uri()}" width="{width}" height="800" frameborder="0"></iframe>',
        encoding="utf-8",
    )
    return json.loads(html_escapes.unescape(_title(_browse(frame)[0])))


def _widths(page: Path, width: int, element: str) -> tuple[int, int]:
    """How wide an element's content is, and how wide it is itself, in a window that wide (in px)."""
    inner, outer = _seen_at(page, width, f"((e) => [e.scrollWidth, e.clientWidth])({element})")
    return inner, outer


@pytest.mark.parametrize("width", [360, 1280])
def test_no_width_makes_the_page_itself_scroll_sideways(page: Path, width: int) -> None:
    inner, outer = _widths(page, width, "document.documentElement")
    assert inner <= outer <= width


def test_the_overview_fits_a_laptop_with_three_thresholds_and_latencies(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path, kind="multilabel", training="tuned")
    summary["thresholds"] |= {"accuracy": ">= 0.55", "latency_p95": "<= 2"}
    for entry in summary["candidates"]:
        entry["thresholds"] |= {
            "accuracy": {"require": ">= 0.55", "status": "undecided"},
            "latency_p95": {"require": "<= 2", "status": "undecided"},
        }
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    inner, outer = _widths(page, 1280, "document.querySelector('.glance').parentElement")
    assert inner <= outer


def test_what_is_wider_than_a_phone_shows_that_it_scrolls_and_can_be_reached_by_keyboard(page: Path) -> None:
    boxes = _seen_at(
        page,
        390,
        """[...document.querySelectorAll('.box')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => ({
          picture: !!e.querySelector('svg'), tab: e.tabIndex, role: e.role, name: e.ariaLabel,
          edges: getComputedStyle(e).backgroundAttachment.split(', '), image: getComputedStyle(e).backgroundImage }))""",
    )
    assert any(box["picture"] for box in boxes) and any(not box["picture"] for box in boxes)
    for box in boxes:
        assert (box["tab"], box["role"]) == (0, "region") and box["name"]
        assert box["edges"] == ["local", "local", "scroll", "scroll"] and box["image"].count("gradient") == 4
    names = [box["name"] for box in boxes]
    assert len(set(names)) == len(names)


def test_the_filters_stand_in_one_row_on_a_laptop(tmp_path: Path) -> None:
    run_folder.write(tmp_path, training="tuned")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    bottoms = _seen_at(
        page, 1280, "[...document.querySelectorAll('#filter label')].map((e) => e.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 4 and len(set(bottoms)) == 1


def test_on_paper_nothing_is_hidden_dark_or_longer_than_a_page(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path, training="tuned")
    score = next(iter(summary["candidates"][0]["metrics"].values()))
    rows = [{"column": "kind", "value": f"k{i}", "score": score} for i in range(40)]
    for entry in summary["candidates"]:
        entry["slices"] = {"metric": "accuracy", "rows": rows, "small": 0, "small_rows": 0, "more": 0}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = tmp_path / "report.html"
    on_screen = html.render(tmp_path)
    page.write_text(on_screen.replace("@media print {", "@media all {"), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != on_screen
    script = """
      const size = (e) => e.getBoundingClientRect().height;
      const told = (e) => size(e.closest('figure').querySelector('.paper') ?? document.createElement('p'));
      const details = [...document.querySelectorAll('details')].filter((e) => !e.open);
      document.title = JSON.stringify({
        page: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
        tallest: Math.max(...[...document.querySelectorAll('svg.chart')].map(size)) / 96 * 2.54,
        short: details.filter((e) => !e.matches('.long')).map((e) => size(e.lastElementChild)),
        long: details.filter((e) => e.matches('.long')).map((e) => [size(e), told(e) > 0]),
        cut: [...document.querySelectorAll('.box')].filter((e) => getComputedStyle(e).overflowX !== 'visible').length,
      });
    """
    dom, _ = _browse(_driven(page, script), "--blink-settings=preferredColorScheme=0")
    saw = json.loads(html_escapes.unescape(_title(dom)))
    assert (saw["page"], saw["ink"], saw["cut"]) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", 0)
    assert 20 < saw["tallest"] <= 22.01
    assert len(saw["short"]) > 5 and min(saw["short"]) > 0
    assert saw["long"] and all(height == 0 and told for height, told in saw["long"])


EXAMPLE = Path(__file__).parents[1] / "reports" / "example" / "report.html"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_whole_verdict_is_on_the_first_screen(tmp_path: Path, width: int, height: int) -> None:
    page = tmp_path / "report.html"
    page.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    bottom = "Math.ceil(document.getElementById('verdict').getBoundingClientRect().bottom)"
    measured = f"({{scrollWidth: {bottom}, clientWidth: document.documentElement.clientWidth}})"
    below, seen = _widths(page, width, measured)
    assert 0 < below <= height and seen <= width


NAMES = ("<script>document.title='pwned'</script>", "카드 모델", "نموذج عربي", r"\frac{1}{2} $x^2$")


def test_charts_are_seen_and_say_what_their_tables_say_in_any_script(
    tmp_path: Path, asked: tuple[int, list[str]]
) -> None:
    port, paths = asked
    summary = run_folder.write(tmp_path, hostile=_hostile(port))
    summary["candidates"] = [
        {**summary["candidates"][0], "name": name, "file": f"c{i}"} for i, name in enumerate(NAMES)
    ]
    summary["verdict"] = summary["verdict"] | {"candidate": NAMES[1]}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = tmp_path / "report.html"
    page.write_text(html.render(tmp_path), encoding="utf-8")
    script = """
      const seen = [...document.querySelectorAll('main > figure svg.chart')].map((svg) => {
        const box = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].filter((t) => t.getBoundingClientRect().width > 0);
        const rows = [...svg.closest('figure').querySelectorAll('tbody tr')].map((r) => r.cells[0].textContent);
        return {width: box.width, height: box.height, words: texts.map((t) => t.textContent).join('|'), rows};
      });
      document.title = JSON.stringify(seen);
    """
    dom, log = _browse(_driven(page, script))
    charts = json.loads(html_escapes.unescape(_title(dom)))
    drawn = page.read_text(encoding="utf-8").count('<svg class="chart"')
    assert len(charts) == drawn - len(NAMES) > 3  # each candidate has a matrix of its own
    for chart in charts:
        assert chart["width"] > 300 and chart["height"] > 80
        for name in NAMES:
            assert name in chart["words"], name
            assert name in chart["rows"], name
    assert paths == [] and "Uncaught" not in log
    _, log = _browse(page)
    assert "Content Security Policy" not in log and paths == []


@pytest.mark.parametrize("scheme", [0, 1])
def test_charts_take_the_colours_of_the_page(page: Path, scheme: int) -> None:
    script = """
      const ink = getComputedStyle(document.body).color;
      const labels = [...document.querySelectorAll('svg.chart text[fill="#1c2126"]')];
      document.title = labels.length + ' ' + labels.every((t) => getComputedStyle(t).fill === ink) + ' ' + ink;
    """
    dom, _ = _browse(_driven(page, script), f"--blink-settings=preferredColorScheme={scheme}")
    count, same, ink = _title(dom).split(" ", 2)
    assert int(count) > 10 and same == "true"
    assert ink == ("rgb(228, 232, 235)" if scheme == 0 else "rgb(28, 33, 38)")


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_keeps_its_contrast_in_dark_and_light(page: Path, scheme: int) -> None:
    """WCAG AA: 4.5 to 1 for every colour that text has on the page (blink: 0 is dark, 1 is light)."""
    script = r"""
      const parts = (c) => c.match(/[\d.]+/g).map(Number);
      const light = (c) => { const [r, g, b] = parts(c).slice(0, 3).map((v) => {
        v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (c.startsWith('rgb') && (parts(c)[3] ?? 1) === 1) return c; } return 'rgb(255, 255, 255)'; };
      let worst = 99;
      for (const e of document.querySelectorAll('main *:not(svg *), header *')) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
        worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
      }
      document.title = matchMedia('(prefers-color-scheme: dark)').matches + ' ' + worst.toFixed(2);
    """
    dom, _ = _browse(_driven(page, script), f"--blink-settings=preferredColorScheme={scheme}")
    dark, worst = _title(dom).split()
    assert dark == ("true" if scheme == 0 else "false")
    assert float(worst) >= 4.5
