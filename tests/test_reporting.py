"""The reports say what the run folder holds, agree with each other, and run nothing that others wrote."""

from __future__ import annotations

import base64
import hashlib
import html as html_escapes
import io
import json
import os
import re
import unicodedata
from collections import Counter
from decimal import Decimal
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

import run_folder
from evalft import numbers
from evalft.config import Threshold
from evalft.errors import UserError
from evalft.reporting import candidates, examples, html, markdown, terminal, text, view
from evalft.store import RunFolder

KINDS = ("classification", "multilabel", "generation")
SCHEMA = json.loads((files("evalft.reporting") / "summary.schema.json").read_text(encoding="utf-8"))

# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.number(0.9124, "score"), "0.912"),
        (numbers.number(1.0, "score"), "1.000"),
        (numbers.number(0.99996, "score"), "0.99996"),
        (numbers.number(0.00004, "score"), "0.00004"),
        (numbers.number(-0.0001, "score"), "-0.0001"),
        (numbers.number(34.27, "score"), "34.3"),
        (numbers.number(0.8996, "score", Threshold("f1", ">=", 0.9)), "0.8996"),
        (numbers.number(None, "score"), "not measured"),
        (numbers.number(float("nan"), "usd"), "not measured"),
        (numbers.usd(0), "$0"),
        (numbers.usd(0.000421), "$0.000421"),
        (numbers.usd(0.0000031), "$0.00000310"),
        (numbers.usd(1234.5), "$1,234.50"),
        (numbers.price(2.0), "$2"),
        (numbers.price(0.25), "$0.25"),
        (numbers.seconds(0.0421), "0.0421 s"),
        (numbers.seconds(75.04), "75.0 s"),
        (numbers.interval(0.9, 0.87949, 0.91001, "score"), "0.879 to 0.911"),
        (numbers.interval(0.9, 0.9, 0.9, "score"), "0.900 to 0.900"),
        (numbers.interval(0.9, None, 0.95, "score"), "at most 0.950"),
        (numbers.interval(0.9, 0.85, None, "score"), "at least 0.850"),
        (numbers.interval(None, None, None, "score"), "no interval"),
        (numbers.interval(0.0011, 0.00099, 0.001321, "usd"), "$0.00099 to $0.00133"),
        (numbers.interval(0.91, 0.8996, 0.95, "score", Threshold("f1", ">=", 0.9)), "0.899 to 0.950"),
        (numbers.interval(0.91, 0.9003, 0.95, "score", Threshold("f1", ">=", 0.9002)), "0.9003 to 0.950"),
        (numbers.interval(0.88, 0.8, 0.8996, "score", Threshold("f1", ">=", 0.9)), "0.800 to 0.8996"),
        (numbers.requirement(Threshold("accuracy", ">=", 0.9)), "≥ 0.9"),
        (numbers.requirement(Threshold("cost_per_query", "<=", 0.0005)), "≤ $0.0005"),
        (numbers.requirement(Threshold("latency_p95", "<=", 2.0)), "≤ 2 s"),
        (numbers.percent(398, 400), "99.5 %"),
        (numbers.percent(99_999, 100_000), "99.9 %"),
        (numbers.percent(1, 100_000), "0.1 %"),
        (numbers.percent(7, 7), "100 %"),
        (numbers.percent(0, 7), "0 %"),
        (numbers.percent(0, 0), "not measured"),
        (numbers.probability(0.012345), "0.0123"),
        (numbers.probability(0.00001), "< 0.0001"),
        (numbers.probability(0.99999), "> 0.999"),
        (numbers.probability(1.0), "1"),
        (numbers.probability(None), "–"),
        (numbers.count(1234567), "1,234,567"),
        (numbers.confidence(0.95), "95 %"),
        (numbers.confidence(0.999), "99.9 %"),
    ],
)
def test_numbers_as_a_table(shown: str, expected: str) -> None:
    assert shown == expected


finite = st.floats(-1e9, 1e9, allow_nan=False)


def _number(shown: str) -> Decimal:
    return Decimal(re.sub(r"[$,s ]", "", shown))


@given(finite, finite, st.sampled_from(["low", "high"]), st.sampled_from(["score", "usd", "seconds"]), st.data())
def test_an_end_is_shown_outside_and_on_its_own_side_of_the_threshold(
    value: float, bound: float, side: numbers.End, unit: numbers.Unit, data: st.DataObject
) -> None:
    near = data.draw(st.floats(-1e-3, 1e-3))
    value = data.draw(st.sampled_from([value, bound, bound + near, bound * (1 + near)]))
    threshold = Threshold("any", data.draw(st.sampled_from([">=", "<="])), bound)
    shown = _number(numbers.end(value, side, unit, beside=data.draw(finite), threshold=threshold))
    exact, line = Decimal(repr(value)), Decimal(repr(bound))
    assert shown <= exact if side == "low" else shown >= exact
    if threshold.op == ">=":
        assert (shown >= line) == (value >= bound)
    else:
        assert (shown <= line) == (value <= bound)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_score_is_shown_as_meeting_its_threshold_only_where_it_does(value: float, bound: float) -> None:
    shown = _number(numbers.number(value, "score", Threshold("f1", ">=", bound)))
    assert (shown >= Decimal(repr(bound))) == (value >= bound)
    assert (shown == 1) == (value == 1)
    assert abs(shown - Decimal(repr(value))) <= Decimal("0.0005")


# ---------------------------------------------------------------- text of others

hostile_text = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.text(st.sampled_from("ab1 \n\t\r|\\`*_[]()<>!#$&@~.:/-+=\"'\x1b\x07\u202e;{}w")),
    st.sampled_from(run_folder.HOSTILE),
)


@given(hostile_text)
def test_no_control_or_direction_character_reaches_a_terminal_or_file(words: str) -> None:
    shown = text.printable(words)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    shown.encode()


def test_terminal_sequences_are_taken_out_whole_and_hidden_characters_named() -> None:
    assert text.printable("\x1b[1;31mred\x1b[0m\x1b]0;title\x07!\x9b2J") == "red!"
    assert text.printable("\x1b]0;never ended, so nothing may vanish") == "0;never ended, so nothing may vanish"
    assert text.visible("a\u202eb\r\nc") == "a[U+202E]b\nc"


@given(hostile_text)
def test_markdown_of_any_text_shows_that_text_and_nothing_else(words: str) -> None:
    """The renderer's own reading of the escaped line, as prose, in a list, in a table cell."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    plain = text.one_line(text.printable(words))
    assume(plain)
    for write in (text.markdown, text.markdown_code):
        line = write(words)
        page = renderer.render(f"x {line}\n\n- {line}\n\n| a | b |\n|---|---|\n| {line} | end |\n")
        tags = Counter(re.findall(r"<(\w+)", page))
        assert set(tags) <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code"}
        assert tags["td"] == 2 and tags["li"] == 1 and tags["ul"] == 1
        shown = " ".join(html_escapes.unescape(re.sub(r"<[^>]*>", " ", page)).split())
        squeezed = " ".join(plain.split())
        assert shown == f"x {squeezed} {squeezed} a b {squeezed} end"


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("카드를 잃어버렸습니다", "ko"),
        ("카드 PIN은 1234", "ko"),
        ("學校에서 배웠다", "ko"),
        ("暗証番号を忘れました", "ja"),
        ("银行卡被吞了", "zh"),
        ("Which characters does the sign 中 consist of?", ""),
        ("متى ستصل بطاقتي؟", ""),
        (r"\frac{1}{2}", ""),
        ("", ""),
    ],
)
def test_the_language_of_a_text_is_told_where_its_script_tells_it(words: str, language: str) -> None:
    assert text.language(words) == language


@given(st.text(st.sampled_from("ab1 .,:$(عربيעבתé카")))
def test_parts_that_are_read_to_the_left_are_all_of_their_script_and_nothing_of_another(words: str) -> None:
    parts = text.runs_to_the_left(words)
    assert "".join(part for part, _ in parts) == words
    for part, rtl in parts:
        letters = [unicodedata.bidirectional(sign) for sign in part if sign.isalnum()]
        assert all((kind in ("R", "AL")) == rtl for kind in letters)


def test_prose_in_markdown_neither_mentions_nor_links() -> None:
    assert text.markdown("@team see #12 at https://a.example and $1 $2") == (
        r"\@team see \#12 at https:\/\/a.example and \$1 \$2"
    )


# ---------------------------------------------------------------- the run folder


TRAININGS = [("generation", "tuned"), ("multilabel", "tuned"), ("classification", "base"), ("generation", "waiting")]


@pytest.fixture(scope="module", params=[*((kind, None) for kind in KINDS), *TRAININGS], ids=str)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, training = request.param
    folder = tmp_path_factory.mktemp(kind)
    run_folder.write(folder, kind=kind, training=training)
    return folder


def _summary(run: Path) -> dict[str, Any]:
    found = json.loads((run / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def _shown(run: Path, width: int = 80) -> str:
    out = io.StringIO()
    terminal.show(run, Console(file=out, width=width))
    return out.getvalue()


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.blocks: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = (
            "data" if dict(attrs).get("type") == "application/json" else tag if tag in ("style", "script") else ""
        )

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.blocks[self.inside] = self.blocks.get(self.inside, "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_written_summary_meets_the_schema(run: Path) -> None:
    jsonschema.validate(_summary(run), SCHEMA)


def test_the_schema_of_the_package_is_the_contract() -> None:
    shared = Path(os.environ.get("EVALFT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    contract = shared.parent / "summary.schema.json"
    if not contract.is_file():
        pytest.skip("the contract is not beside this checkout")
    assert json.loads(contract.read_text()) == SCHEMA


def test_every_report_says_verdict_status_and_each_number_with_its_interval(run: Path) -> None:
    summary = _summary(run)
    page, prose = _Page(html.render(run)).text, markdown.render(run)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(prose)
    paper = " ".join(html_escapes.unescape(re.sub(r"<[^>]*>", " ", rendered)).split())
    screen = " ".join(_shown(run, 200).split())
    for shown in (page, paper, screen):
        assert f"erdict: {summary['verdict']['action']}" in shown
        assert shown.index(summary["verdict"]["reasons"][0]) < shown.index("0.860") if "0.860" in shown else True
        for line in (*summary["verdict"]["reasons"], *summary["verdict"]["flips_if"], *summary["warnings"]):
            assert " ".join(line.split()) in shown
        for entry in summary["candidates"]:
            assert entry["name"] in shown
            metric, result = next(iter(entry["thresholds"].items()))
            estimate, threshold = entry["metrics"][metric], Threshold(metric, ">=", float(result["require"].split()[1]))
            assert numbers.interval(estimate["value"], estimate["low"], estimate["high"], "score", threshold) in shown
            assert numbers.usd(entry["cost_per_query_usd"]["value"]) in shown
            assert f"{entry['coverage']['scored']} of {entry['coverage']['total']}" in shown
            assert f"{view.SYMBOLS[result['status']]} {result['status']}" in shown
            for kind in entry["coverage"]["failures"]:
                assert kind in shown


def test_full_reports_hold_what_the_terminal_leaves_out(run: Path) -> None:
    summary = _summary(run)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(run))
    paper = html_escapes.unescape(re.sub(r"</?(code|strong)>", "", rendered))
    for shown in (_Page(html.render(run)).text, paper):
        for entry in summary["candidates"]:
            result = next(iter(entry["thresholds"].values()))
            assert (
                numbers.probability(result["pass_level"]) in shown
                and numbers.probability(result["fail_level"]) in shown
            )
            assert candidates.BASES[entry["cost_per_query_usd"]["basis"]] in shown
            assert entry["price"]["source"] in shown and entry["price"]["date"] in shown
            for choice in entry["choices"]:
                assert choice in shown
            for row in entry["per_label"] or ():
                assert row["label"] in shown
            for estimate in entry["metrics"].values():
                assert estimate["method"].replace("_", " ") in shown
                assert (estimate.get("reason") or "") in shown
        assert summary["task"]["test_sha256"] in shown
        assert "https://api.together.xyz/v1" in shown and "no row was sent anywhere" in shown
        assert "high is the largest seen, not a bound" in shown
        assert summary["notes"][0] in shown


def test_corrected_ends_are_shown_on_the_side_that_flatters_no_one(run: Path) -> None:
    """The end to pass is rounded away from passing, the end to fail away from failing, for >= and <= alike."""
    for entry, candidate in zip(_summary(run)["candidates"], view.read(run).candidates, strict=True):
        for (metric, result), shown in zip(entry["thresholds"].items(), candidate.thresholds, strict=True):
            to_pass, to_fail = (Decimal(repr(result[f"{kind}_end"])) for kind in ("pass", "fail"))
            if result["require"].startswith(">="):
                assert _number(shown.pass_end) < to_pass and _number(shown.fail_end) > to_fail, metric
            else:
                assert _number(shown.pass_end) > to_pass and _number(shown.fail_end) < to_fail, metric


def test_a_stand_in_is_marked_wherever_it_is_shown(run: Path) -> None:
    found = view.read(run)
    shown = html.render(run)
    assert candidates.STAND_IN in _shown(run) and candidates.STAND_IN in markdown.render(run)
    overview, *sections = re.split(r'<section aria-labelledby="candidate-', shown)
    assert all(candidates.STAND_IN in part for part in (overview, sections[0]))
    assert candidates.STAND_IN not in sections[1]
    articles = re.findall(r'<article class="example".*?</article>', shown, re.DOTALL)
    assert len(articles) == min(len(found.examples.rows), html.ROWS_WITHOUT_SCRIPT)
    assert all(article.count(candidates.STAND_IN) == 1 for article in articles)


def test_the_page_holds_no_element_or_attribute_that_a_model_wrote(run: Path) -> None:
    page = _Page(html.render(run))
    tags = Counter(tag for tag, _ in page.tags)
    assert tags["script"] == 1 + sum(a.get("type") == "application/json" for _, a in page.tags) and tags["style"] == 1
    assert not {"img", "iframe", "base", "form", "object", "link", "embed", "b"} & set(tags)
    for tag, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc", "action")
        ]
        assert tag != "a" or str(attributes["href"]).startswith("#")
        assert (
            tag != "meta" or str(attributes.get("http-equiv", "Content-Security-Policy")) == "Content-Security-Policy"
        )
    rows = {row.id for row in view.read(run).examples.rows}
    assert any("<script>" in text_id for text_id in rows)
    assert run_folder.HOSTILE[0] in page.text


def test_the_policy_allows_only_the_blocks_of_the_page_by_their_hashes(run: Path) -> None:
    page = _Page(html.render(run))
    policy = next(str(a["content"]) for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for block in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.blocks[block].encode()).digest()).decode()
        assert rules[f"{block}-src"] == f"'sha256-{digest}'"


def test_every_table_has_a_caption_and_headers_with_a_scope(run: Path) -> None:
    page = html.render(run)
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        assert "<caption>" in table
        assert all("scope=" in header for header in re.findall(r"<th\b[^>]*>", table))


def test_the_page_can_be_written_as_utf8_even_with_lone_surrogates(run: Path) -> None:
    for shown in (html.render(run), markdown.render(run), _shown(run)):
        shown.encode()


def test_the_terminal_fits_80_columns_and_emits_no_sequence_of_a_model(run: Path) -> None:
    shown = _shown(run)
    assert "\x1b" not in shown and "\x9b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for line in shown.splitlines():
        assert not re.search(r"^\s*cost per query .*\bto$", line), "an interval was broken over two lines"


def test_a_terminal_without_unicode_still_gets_every_word(run: Path) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    terminal.show(run, Console(file=out, width=80))
    shown = raw.getvalue().decode("ascii")
    assert "fail" in shown and "undecided" in shown


def test_rendering_the_same_folder_twice_gives_the_same_bytes_and_changes_nothing(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert html.render(run) == html.render(run) and markdown.render(run) == markdown.render(run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- partial, empty and broken folders


def test_a_partial_run_says_first_what_is_missing(tmp_path: Path) -> None:
    for why, words in (("budget", "the budget"), ("interrupted", "was interrupted")):
        run_folder.write(tmp_path, partial={"why": why, "missing": {"hf:Qwen/Qwen3-0.6B": 12}})
        for shown in (_Page(html.render(tmp_path)).text, markdown.render(tmp_path), _shown(tmp_path, 200)):
            assert words in shown and "12 rows missing" in shown and "No verdict" in shown
            assert shown.index("12 rows missing") < shown.index("No verdict")


def test_without_thresholds_there_is_no_verdict_and_no_status(tmp_path: Path) -> None:
    run_folder.write(tmp_path, thresholds=False)
    page = html.render(tmp_path)
    assert "--threshold" in page
    for shown in (page, markdown.render(tmp_path), _shown(tmp_path)):
        assert "nothing to decide" in " ".join(shown.split())
        assert not any(f"{symbol} {status}" in shown for status, symbol in view.SYMBOLS.items())


def test_what_was_not_measured_is_said_and_never_a_number(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    entry = summary["candidates"][0]
    nothing = {"value": None, "low": None, "high": None}
    entry["metrics"]["accuracy"] |= nothing | {"reason": "every answer failed"}
    entry["cost_per_query_usd"] |= nothing
    entry |= {"cost_total_usd": None, "latency_s": None}
    entry["thresholds"]["accuracy"] |= {"status": "undecided", "pass_end": None, "fail_end": None, "p_value": None}
    jsonschema.validate(summary, SCHEMA)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    measured = view.read(tmp_path).candidates[0]
    assert (measured.headline[0].value, measured.headline[0].interval) == ("not measured", "no interval")
    assert measured.thresholds[0].pass_end == "not bounded"
    assert (measured.cost.value, measured.cost_total, measured.latency) == ("not measured", "not measured", ())
    assert "every answer failed" in html.render(tmp_path)


def test_a_summary_of_the_bare_contract_renders(tmp_path: Path) -> None:
    """No optional field, no manifest, no rows: a report still, that says what it cannot show."""
    summary = run_folder.write(tmp_path)
    kept = {key: value for key, value in summary.items() if key in SCHEMA["required"]}
    wanted = SCHEMA["$defs"]["candidate"]["required"]
    kept["candidates"] = [{key: entry[key] for key in wanted} for entry in kept["candidates"]]
    for entry in kept["candidates"]:
        entry["thresholds"] = {
            m: {key: r[key] for key in ("require", "status")} for m, r in entry["thresholds"].items()
        }
    kept["break_even"] = None
    jsonschema.validate(kept, SCHEMA)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "summary.json").write_text(json.dumps(kept))
    assert "no data/test.jsonl" in html.render(bare)
    assert "Break-even" not in html.render(bare) and "Warnings" not in html.render(bare)
    assert markdown.render(bare) and _shown(bare)


def test_a_folder_without_a_readable_summary_is_one_line_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        html.render(tmp_path)
    for content in ("{", "[]", '{"schema": "evalft.summary/2"}'):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(UserError):
            html.render(tmp_path)


def test_a_torn_last_line_is_left_out_and_left_alone(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path, rows=6)
    path = RunFolder(tmp_path).predictions_file(summary["candidates"][0]["name"])
    torn = path.read_bytes()[:-20]
    path.write_bytes(torn)
    rows = sorted(view.read(tmp_path).examples.rows, key=lambda row: row.number)
    assert rows[-1].answers[0].texts == () and rows[0].answers[0].texts
    assert path.read_bytes() == torn


# ---------------------------------------------------------------- examples


def test_each_row_shows_what_each_candidate_answered_and_whether_it_was_right(run: Path) -> None:
    summary = _summary(run)
    shown = {row.number - 1: row for row in view.read(run).examples.rows}
    assert len(shown) == summary["task"]["examples"]
    metric = summary["task"]["metrics"][0]
    folder = RunFolder(run)
    for entry in summary["candidates"]:
        position = [answer.candidate for answer in shown[0].answers].index(entry["name"])
        scores = list(examples.lines(folder.scores_file(entry["name"])))
        marks = Counter(shown[score["index"]].answers[position].mark for score in scores)
        assert marks["failed"] == sum(entry["coverage"]["failures"].values())
        assert marks["right"] == sum(score["values"][metric] == 1 for score in scores)
        assert marks["partly"] == sum(0 < score["values"][metric] < 1 for score in scores)
        for outcome in examples.lines(folder.predictions_file(entry["name"])):
            answer = shown[outcome["index"]].answers[position]
            assert answer.failure == outcome.get("failure", "")
            assert answer.rescued == outcome.get("rescued", False)
            assert answer.texts == ((outcome["text"],) if outcome["text"] is not None else ())


def test_examples_none_keeps_every_row_out_of_the_reports(tmp_path: Path) -> None:
    run_folder.write(tmp_path, examples="none", hostile=())
    for shown in (html.render(tmp_path), markdown.render(tmp_path)):
        assert "When will my card arrive" not in shown and "row-1" not in shown


def test_examples_failures_shows_exactly_the_rows_someone_missed(tmp_path: Path) -> None:
    run_folder.write(tmp_path, kind="multilabel", examples="failures")
    rows = view.read(tmp_path).examples.rows
    assert rows and all(any(answer.mark != "right" for answer in row.answers) for row in rows)
    run_folder.write(tmp_path, kind="multilabel", examples="all")
    everything = view.read(tmp_path).examples.rows
    assert (
        len(rows) == sum(any(answer.mark != "right" for answer in row.answers) for row in everything) < len(everything)
    )


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 30), st.booleans())
def test_shown_rows_are_those_that_matter_most_and_never_too_many(kind_of: list[int], most: int, only: bool) -> None:
    total = len(kind_of)
    kinds = {
        f"of kind {kind}": [row for row, its in enumerate(kind_of) if its == kind] for kind in range(2 if only else 3)
    }
    chosen, note = examples.choose(total, kinds, most)
    assert (chosen, note) == examples.choose(total, kinds, most)
    assert len(chosen) == min(most, sum(map(len, kinds.values())))
    room = most
    for words, rows in kinds.items():
        taken = set(rows) & chosen
        assert len(taken) == min(room, len(rows)), "a row was left out for one that matters less"
        room -= len(taken)
        said = f"all {len(rows)} {words}" if len(taken) == len(rows) else f"{len(taken)} of the {len(rows)} {words}"
        assert (said in note) == bool(rows)
    assert (f"{total - len(chosen)} rows are left out" in note) == (len(chosen) < total)


def test_the_report_says_which_rows_it_left_out_and_what_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder.write(tmp_path, training="tuned", rows=100)
    whole = view.read(tmp_path).examples
    assert "left out" not in whole.note and "evalft view" not in whole.note
    monkeypatch.setattr(examples.choose, "__defaults__", (40,))
    found = view.read(tmp_path).examples
    assert len(found.rows) == 40 and "60 rows are left out" in found.note and "`evalft view`" in found.note
    matter = [row for row in whole.rows if row.rank <= 2]
    assert {row.id for row in found.rows} >= {row.id for row in matter} or len(matter) > 40


def test_rows_are_listed_broken_first_then_fixed_failed_and_wrong(tmp_path: Path) -> None:
    run_folder.write(tmp_path, training="tuned")
    rows = view.read(tmp_path).examples.rows
    assert [row.rank for row in rows] == sorted(row.rank for row in rows)
    assert {row.change for row in rows if row.rank == 0} == {"broken"}
    assert {row.change for row in rows if row.rank == 1} == {"fixed"}
    assert all(any(answer.mark == "failed" for answer in row.answers) for row in rows if row.rank == 2)
    assert all({answer.mark for answer in row.answers} == {"right"} for row in rows if row.rank == 4)


def _with_answer(folder: Path, words: str) -> None:
    summary = run_folder.write(folder, rows=3)
    path = RunFolder(folder).predictions_file(summary["candidates"][0]["name"])
    outcomes = list(examples.lines(path))
    outcomes[0]["text"] = words
    path.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))


def test_a_long_answer_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    _with_answer(tmp_path, "z" * (examples.CHARACTERS[0] + 1234))
    assert "[1,234 more characters]" in html.render(tmp_path)


def test_long_texts_are_cut_shorter_where_the_page_would_grow_too_large_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_answer(tmp_path, "z" * 3000)
    assert "more characters]" not in html.render(tmp_path)
    monkeypatch.setattr(examples, "MAX_PAGE_CHARACTERS", 2900)
    page = html.render(tmp_path)
    assert "[1,000 more characters]" in page and "Each text is cut at 2,000 characters" in page


def test_the_data_of_the_page_is_the_rows_and_cannot_end_its_element(run: Path) -> None:
    found = view.read(run).examples
    block = re.search(r'<script type="application/json" id="rows">(.*?)</script>', html.render(run), re.DOTALL)
    assert block and not set("<>&") & set(block[1])
    data = json.loads(block[1])
    for row, drawn in zip(found.rows, data["rows"], strict=True):
        target = drawn["target"]
        assert drawn["id"] == text.visible(row.id)
        assert (target if isinstance(target, str) else "".join(target)) == text.visible(row.target)
        for answer, said in zip(row.answers, drawn["answers"], strict=True):
            texts = ["".join(words) for words in said.get("texts", ())]
            assert texts == [text.visible(words) for words in answer.texts]
            assert said["mark"] == answer.mark and said.get("message", "") == text.visible(answer.message)


def test_chat_input_is_shown_with_its_roles(run: Path) -> None:
    row = next(row for row in view.read(run).examples.rows if len(row.input) > 1)
    assert [role for role, _ in row.input] == ["system", "user"]


@pytest.mark.parametrize("volume", [500_000, None])
def test_what_it_costs_stands_beside_the_verdict_for_each_candidate(tmp_path: Path, volume: int | None) -> None:
    summary = run_folder.write(tmp_path, hostile=())
    chosen, unknown, other = (entry["name"] for entry in summary["candidates"])
    summary |= {"queries_per_month": volume, "verdict": summary["verdict"] | {"candidate": chosen}}
    summary["candidates"][1]["cost_per_query_usd"] |= {"value": None, "low": None, "high": None}
    pays = {"one_off_usd": 12.5, "queries": 11_400.2, "months": 0.0228 if volume else None}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"break_even": pays}))
    first, second, third, fourth, *hint = view.read(tmp_path).verdict.costs
    for line, entry in ((first, summary["candidates"][0]), (second, summary["candidates"][2])):
        each = entry["cost_per_query_usd"]["value"]
        assert line.startswith(entry["name"]) and f"{numbers.usd(each)} each" in line
        assert numbers.usd((volume or 1000) * each) in line and ("a month" if volume else "per 1,000 queries") in line
    assert third == f"not known: {unknown}" and other in second
    assert "$12.50 once" in fourth and "11,401 queries" in fourth
    assert bool(hint) == (volume is None)
    paper = html_escapes.unescape(MarkdownIt("commonmark").render(markdown.render(tmp_path)))
    for shown in (_Page(html.render(tmp_path)).text, paper):
        assert "What it costs" in shown and all(line in shown for line in (first, second, third, fourth))


def test_the_markdown_reads_as_a_sentence_where_a_manager_looks(tmp_path: Path) -> None:
    """One head per column, a note once, what answered in words, and why a row failed."""
    summary = run_folder.write(tmp_path, hostile=())
    entry = summary["candidates"][0]
    entry["latency_s"] = {
        key: {"value": 1.0, "low": 0.5, "high": 1.5, "method": "order_statistic", "n": 9} for key in ("p50", "p95")
    }
    summary["thresholds"]["latency_p95"] = ">= 0.1"
    metric = next(iter(entry["thresholds"]))
    entry["metrics"][metric]["reason"] = "few rows; the judge is uncalibrated"
    entry["thresholds"][metric]["reason"] = "the judge is uncalibrated: no one scored; few rows"
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest |= {
        "complete": False,
        "answered_by": {"one": ["org/model@abc", None], "two": ["org/model@abc", "adapters/sft"]},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    page = markdown.render(tmp_path)
    (head,) = [line for line in page.splitlines() if line.startswith("| Candidate | Status")]
    assert "Latency p50, p95 (p95 ≥ 0.1 s) |" in head
    assert page.count("few rows; the judge is uncalibrated: no one scored |") >= 1
    assert "the judge is uncalibrated;" not in page and "few rows; few rows" not in page
    assert "complete:" not in page and "answered by" not in page
    assert "- one was: org/model\\@abc\n- two was: org/model\\@abc, adapter adapters/sft" in page
    failed = [line for line in page.splitlines() if ", failed: " in line]
    assert failed and not any(line.endswith("no answer") for line in failed)


def test_money_lost_with_a_killed_process_is_said(tmp_path: Path) -> None:
    run_folder.write(tmp_path, kind=KINDS[0])
    summary = _summary(tmp_path)
    assert "process that died" not in html.render(tmp_path)
    summary["spent"]["unresolved_usd"] = 0.155
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for shown in (_Page(html.render(tmp_path)).text, markdown.render(tmp_path), _shown(tmp_path, 200)):
        assert "lost with a process that died" in " ".join(shown.split()) and "$0.155" in shown
