"""Charts show the run's own figures, in a picture, a table and a CSV; they run nothing that others wrote."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import run_folder
from evalft import concluding, numbers
from evalft.config import Threshold
from evalft.reporting import chart as chart_parts
from evalft.reporting import charts, drawing, html, markdown, pictures, text, view
from evalft.reporting.candidates import MAX_CONFUSION

pytestmark = pytest.mark.drawn


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that has everything."""
    made = run_folder.write(tmp_path_factory.mktemp("run"), training="tuned") | {"queries_per_month": 500_000}
    for i, entry in enumerate(made["candidates"][:3]):
        entry |= _probabilities(0.1 * i) | _slices({"en": 0.9 - i / 10, "ko": 0.6 + i / 10, "ar": 0.75})
    return made


def _estimate(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": None, "confidence": 0.95, "method": "bca", "n": n}


def _probabilities(off: float) -> dict[str, Any]:
    bins = [
        {
            "above": i / 15,
            "up_to": (i + 1) / 15,
            "stated": (i + 0.5) / 15,
            "right": _estimate((i + 0.5) / 15 - off, 9 + i),
        }
        for i in (7, 12, 14)
    ]
    curve = {
        "of": f"{run_folder.HOSTILE[0]} against the rest",
        "fpr": [0.0, 0.0, 0.5, 1.0],
        "tpr": [0.0, 0.5 - off, 0.9, 1.0],
    }
    return {"probs_method": "top_logprobs", "roc": curve, "calibration": bins}


def _slices(scores: dict[str, float]) -> dict[str, Any]:
    rows = [{"column": "language", "value": name, "score": _estimate(value, 20)} for name, value in scores.items()]
    return {"slices": {"metric": "accuracy", "rows": rows, "small": 2, "small_rows": 7, "more": 0}}


@pytest.fixture(scope="module")
def drawn(summary: dict[str, Any]) -> charts.Charts:
    return charts.of(summary)


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The charts as Vega-Lite, each held against its schema, in place of pictures."""
    found: list[dict[str, Any]] = []

    def keep(chart: Any, description: str) -> str:
        found.append(chart.to_dict(validate=True))
        return ""

    monkeypatch.setattr(pictures, "svg", keep)
    return found


class _Picture(HTMLParser):
    def __init__(self, svg: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(svg)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_every_chart_is_valid_vega_lite(summary: dict[str, Any], specs: list[dict[str, Any]]) -> None:
    assert len(charts.of(summary).all) == len(specs) > 10


def test_a_picture_holds_shapes_and_text_only_in_the_colours_of_the_page(drawn: charts.Charts) -> None:
    for chart in drawn.all:
        picture = _Picture(chart.svg)
        assert {tag for tag, _ in picture.tags} <= {"svg", "g", "path", "text", "line", "rect", "tspan", "defs"}, (
            chart.name
        )
        for _, attributes in picture.tags:
            assert not [
                key for key in attributes if key.startswith("on") or key in ("style", "id", "href", "xlink:href")
            ]
            for key in ("fill", "stroke"):
                colour = attributes.get(key)
                assert colour in (None, "none", "transparent", *drawing.COLOURS), (chart.name, colour)


def test_names_in_any_script_are_drawn_as_they_are_and_none_is_markup(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path, hostile=())
    names = [
        "<script>document.title='x'</script>",
        "카드 모델",
        "نموذج عربي",
        r"\frac{1}{2} $x^2$",
        "a\u202eb\x00\ud800\nc",
    ]
    summary["candidates"] = [{**summary["candidates"][0], "name": name} for name in names]
    found = charts.of(summary)
    for chart in found.all:
        chart.svg.encode()
        if chart in found.confusion.values():  # it is of one candidate, and says so in words
            continue
        words = " ".join(_Picture(chart.svg).words) + chart.note
        for name in names:
            assert text.one_line(text.visible(name)) in words, (chart.name, name)


def test_each_csv_holds_the_rows_of_its_chart_with_all_their_digits(drawn: charts.Charts) -> None:
    assert len({chart.file for chart in drawn.all}) == len(drawn.all)
    for chart in drawn.all:
        header, *lines = csv.reader(io.StringIO(chart.csv))
        assert header == [column.name for column in chart.columns]
        assert len(lines) == len(chart.rows) == len(chart.table)
        for line, row in zip(lines, chart.rows, strict=True):
            for name, shown in zip(header, line, strict=True):
                value = row[name]
                assert shown == ("" if value is None else repr(value) if isinstance(value, float) else str(value))


def test_no_spreadsheet_computes_a_name(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    summary["candidates"][0]["name"] = "=HYPERLINK(1)"
    cells = [cell for chart in charts.of(summary).all for line in csv.reader(io.StringIO(chart.csv)) for cell in line]
    assert "'=HYPERLINK(1)" in cells and "=HYPERLINK(1)" not in cells


def test_the_page_holds_each_chart_as_a_picture_and_a_table_and_the_folder_its_csv(tmp_path: Path) -> None:
    run_folder.write(tmp_path, training="tuned")
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "of_an_earlier_render.csv").write_text("")
    concluding.render(tmp_path)
    page, found = (tmp_path / "report.html").read_text(), charts.read(tmp_path)
    assert page.count('<svg class="chart"') == len(found.all)
    assert {file.name for file in (tmp_path / "charts").iterdir()} == {chart.file for chart in found.all}
    for chart in found.all:
        assert chart.svg in page and f"charts/{chart.file}" in page
        assert (tmp_path / "charts" / chart.file).read_text() == chart.csv
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        assert "<caption>" in table
        assert all("scope=" in header for header in re.findall(r"<th\b[^>]*>", table))


# ---------------------------------------------------------------- single charts


def _rows(chart: chart_parts.Chart | None) -> list[dict[str, Any]]:
    assert chart
    return [dict(row) for row in chart.rows]


def test_the_figures_of_quality_and_cost_are_those_of_the_summary(
    summary: dict[str, Any], drawn: charts.Charts
) -> None:
    (chart,) = drawn.quality_and_cost
    primary = summary["task"]["metrics"][0]
    for entry, row in zip(summary["candidates"], chart.rows, strict=True):
        quality, cost = entry["metrics"][primary], entry["cost_per_query_usd"]
        assert [row[key] for key in ("value", "low", "high")] == [quality[key] for key in ("value", "low", "high")]
        assert [row[f"cost_{key}usd"] for key in ("", "low_", "high_")] == [
            cost[key] for key in ("value", "low", "high")
        ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6), st.booleans())
def test_the_frontier_is_those_that_no_other_beats(points: list[tuple[int, int]], lower: bool) -> None:
    metric = "brier" if lower else "accuracy"
    entries = [
        {
            "name": f"c{i}",
            "metrics": {metric: {"value": quality / 4, "low": quality / 4, "high": quality / 4}},
            "cost_per_query_usd": {"value": cost / 100, "low": cost / 100, "high": cost / 100},
        }
        for i, (quality, cost) in enumerate(points)
    ]
    who = chart_parts.Who({entry["name"]: str(entry["name"]) for entry in entries})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "svg", lambda chart, description: "")
        rows = _rows(charts.quality_and_cost(entries, metric, {}, who))
    sign = -1 if lower else 1
    for row, (quality, cost) in zip(rows, points, strict=True):
        affordable = [sign * q for q, c in points if c <= cost]
        cheaper = [sign * q for q, c in points if c < cost]
        on = sign * quality == max(affordable) and all(q < sign * quality for q in cheaper)
        assert (row["frontier"] == "yes") == on


def test_a_candidate_whose_cost_is_not_known_is_named_beside_the_chart(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    summary["candidates"][1]["cost_per_query_usd"] |= {"value": None, "low": None, "high": None}
    (chart,) = charts.of(summary).quality_and_cost
    assert "Qwen3-8B" in chart.note and "cost is not known" in chart.note
    assert chart.table[1][4:] == ("not measured", "–", "–", "no")


def _legends(spec: Any) -> list[dict[str, str]]:
    """Wherever candidates are told apart by colour: the colour of each that the legend lists."""
    if isinstance(spec, list):
        return [found for part in spec for found in _legends(part)]
    if not isinstance(spec, dict):
        return []
    scale = spec.get("scale") if spec.get("field") == "who" else None
    looks = (
        [dict(zip(scale["domain"], scale["range"], strict=True))] if scale and "#" in str(scale.get("range")) else []
    )
    return looks + [found for part in spec.values() for found in _legends(part)]


def test_a_legend_lists_those_that_are_drawn_in_the_colours_that_they_have_everywhere(
    summary: dict[str, Any], specs: list[dict[str, Any]]
) -> None:
    names = [entry["name"] for entry in summary["candidates"]]
    charts.of(summary)
    everywhere = next(looks for looks in _legends(specs[0]) if len(looks) == len(names))
    specs.clear()
    unknown = summary["candidates"][1]
    free = unknown | {"cost_per_query_usd": unknown["cost_per_query_usd"] | dict.fromkeys(("value", "low", "high"))}
    found = charts.of(
        summary | {"candidates": [free if entry is unknown else entry for entry in summary["candidates"]]}
    )
    drawn = [*found.quality_and_cost, *found.slices, *found.probabilities, *found.money]
    legends = [looks for spec in specs for looks in _legends(spec)]
    assert len(drawn) == 5 and {len(looks) for looks in legends} == {3, len(names) - 1}
    for looks in legends:
        assert looks.items() <= everywhere.items()


def test_the_frontier_line_of_cost_per_month_meets_the_dear_candidate_at_the_break_even_point(
    tmp_path: Path, specs: list[dict[str, Any]]
) -> None:
    summary = run_folder.write(tmp_path)
    now, after, once, months = 0.0011, 0.0000031, 40.0, 12.0
    pays = {"queries": once / (now - after), "horizon_months": months, "one_off_usd": once}
    pays |= {"cost_per_query_now_usd": now, "cost_per_query_after_usd": after}
    for volume in (None, 500_000, 900):
        (chart,) = charts.of(summary | {"break_even": pays, "queries_per_month": volume}).money
        least = pays["queries"] / months
        at = {row["candidate"]: row["cost_usd"] for row in chart.rows if row["queries_per_month"] == least}
        assert math.isclose(at["openai:gpt-5-mini"], next(usd for name, usd in at.items() if "after training" in name))
        if volume:
            assert f"{volume:,}" in chart.description
    assert not charts.of(summary | {"break_even": None, "queries_per_month": None}).money


def test_a_lone_candidate_without_thresholds_has_figures_and_no_picture(
    tmp_path: Path, specs: list[dict[str, Any]]
) -> None:
    summary = run_folder.write(tmp_path, thresholds=False) | {"break_even": None, "queries_per_month": None}
    lone, _ = summary["candidates"][0], summary["candidates"].clear()
    lone["coverage"]["failures"], lone["thresholds"] = {}, {}
    summary["candidates"].append(lone)
    found = charts.of(summary)
    assert found.quality_and_cost and found.metrics and found.latency
    pictured = {chart.name for chart in found.all if chart.name.startswith("confusion")}
    assert len(specs) == len(pictured)
    assert all(chart.rows and chart.csv and chart.table for chart in found.all)
    assert "<figure" not in html.page(view.read(tmp_path), charts.Charts(metrics=found.metrics))


def test_what_a_run_does_not_have_draws_nothing(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path, thresholds=False) | {"break_even": None, "queries_per_month": None}
    for entry in summary["candidates"]:
        entry["latency_s"], entry["coverage"]["failures"] = None, {}
        entry["cost_per_query_usd"] |= {"value": None}
    found = charts.of(summary)
    assert not (found.quality_and_cost or found.latency or found.failures or found.money or found.training)
    assert [chart.name for chart in found.metrics] == ["accuracy", "strict_accuracy"]
    assert "status" not in [column.name for column in found.metrics[0].columns]


def test_a_metric_that_was_not_measured_is_said_beside_its_chart(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    summary["candidates"][0]["metrics"]["accuracy"] |= {"value": None, "low": None, "high": None}
    chart = charts.of(summary).metrics[0]
    assert "gpt-5-mini" in chart.note and chart.table[0][1] == "not measured"


@given(st.sampled_from(["score", "usd", "seconds"]), st.lists(st.floats(0, 50), min_size=1, max_size=8))
def test_an_axis_holds_all_its_numbers_and_has_ticks(unit: numbers.Unit, values: list[float]) -> None:
    values = [value / 50 for value in values] if unit == "score" else values
    axis = chart_parts.Axis.of(values, unit)
    assert axis.first < axis.last
    assert all(axis.first <= value <= axis.last and axis.inside(value, 0) == value for value in values)
    assert (axis.inside(None, 0), axis.inside(None, 1)) == (axis.first, axis.last)
    far = min(values) > chart_parts.TINY and max(values) / min(values) > chart_parts.LOG_FROM
    assert axis.logarithmic == (unit != "score" and far)
    if axis.logarithmic:
        ticks = axis.log_ticks
        assert 1 <= len(ticks) <= 9 and ticks == sorted(set(ticks))
        assert all(axis.first <= tick <= axis.last for tick in ticks)


def test_an_end_is_shown_outwards_and_on_its_side_of_the_threshold() -> None:
    held = Threshold("f1", ">=", 0.9)
    columns = chart_parts.interval_columns("value", "low", "high", "score", held)
    row = {"value": 0.91, "low": 0.8996, "high": None}
    assert [column.shown(row) for column in columns] == ["0.910", "0.899", "not bounded"]


def test_slices_stand_in_the_order_of_the_candidate_of_the_verdict_its_worst_first(
    summary: dict[str, Any], specs: list[dict[str, Any]]
) -> None:
    names = [entry["name"] for entry in summary["candidates"]]
    for chosen, order in ((names[0], ("ko", "ar", "en")), (names[2], ("en", "ar", "ko")), (None, ("ko", "ar", "en"))):
        (chart,) = charts.of(summary | {"verdict": summary["verdict"] | {"candidate": chosen}}).slices
        assert tuple(dict.fromkeys(row["slice"].removeprefix("language: ") for row in chart.rows)) == order
        assert "2 with under 10 rows (7 rows)" in chart.note
    for row in chart.rows:
        entry = next(entry for entry in summary["candidates"] if entry["name"] == row["candidate"])
        score = next(one["score"] for one in entry["slices"]["rows"] if row["slice"].endswith(one["value"]))
        assert (row["value"], row["rows"]) == (score["value"], score["n"])


def test_the_markdown_says_the_slices_as_the_chart_shows_them(tmp_path: Path, summary: dict[str, Any]) -> None:
    run_folder.write(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = MarkdownIt("commonmark").enable("table").render(markdown.render(tmp_path))
    (table,) = [table for table in re.findall(r"<table>.*?</table>", page, re.DOTALL) if "by slice" in table]
    rows = [re.findall(r"<td>(?:<code>)?(.*?)(?:</code>)?</td>", row) for row in table.split("<tr>")[2:]]
    (chart,) = charts.of(summary).slices
    assert [row[0] for row in rows] == list(dict.fromkeys(row["slice"] for row in chart.rows))
    for row in chart.table:
        (line,) = [line for line in rows if line[0] == row[0]]
        assert line[1] == row[2] and any(cell.startswith(f"{row[3]} (at least {row[4]}") for cell in line[2:])
    assert "2 with under 10 rows (7 rows)" in page


def test_curves_name_the_kind_of_probabilities_and_bare_answers_have_none(
    summary: dict[str, Any], drawn: charts.Charts
) -> None:
    roc, calibration = drawn.probabilities
    assert "openai:gpt-5-mini, stand-in for a closed API by top logprobs" in roc.description
    assert "Qwen3-0.6B-tuned" in roc.note and "Qwen3-0.6B-tuned" not in {row["candidate"] for row in roc.rows}
    entry = summary["candidates"][1]
    curve = [
        (row["false_positive_rate"], row["true_positive_rate"]) for row in roc.rows if row["candidate"] == entry["name"]
    ]
    assert curve == list(zip(entry["roc"]["fpr"], entry["roc"]["tpr"], strict=True))
    bins = [row for row in calibration.rows if row["candidate"] == entry["name"]]
    assert [(row["stated"], row["right"], row["answers"]) for row in bins] == [
        (one["stated"], one["right"]["value"], one["right"]["n"]) for one in entry["calibration"]
    ]


def test_a_confusion_matrix_has_a_row_for_each_kind_of_answer_that_came(
    summary: dict[str, Any], drawn: charts.Charts
) -> None:
    for entry in summary["candidates"]:
        chart, found = drawn.confusion[entry["name"]], entry["confusion"]
        cells = {(row["expected"], row["answered"]): row["rows"] for row in chart.rows}
        for expected, counts in zip(found["labels"], found["counts"], strict=True):
            for answered, count in zip(found["columns"], counts, strict=True):
                assert cells.get((expected, answered), 0) == count
        words = "|".join(_Picture(chart.svg).words)
        assert all(label in words for label in found["columns"])


def test_more_labels_than_can_be_read_draw_no_matrix_and_say_so(tmp_path: Path) -> None:
    summary = run_folder.write(tmp_path)
    labels = [f"label {i}" for i in range(MAX_CONFUSION + 1)]
    counts = [[0] * len(labels)] * len(labels)
    summary["candidates"][0]["confusion"] = {"labels": labels, "columns": labels, "counts": counts}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    without, *others = (entry["name"] for entry in summary["candidates"])
    assert set(charts.read(tmp_path).confusion) == set(others)
    assert str(len(labels)) in view.read(tmp_path).candidates[0].confusion_note


@given(st.lists(st.floats(-5, 50), min_size=2, max_size=700))
def test_a_loss_curve_keeps_its_order_and_ends_and_says_what_it_leaves_out(losses: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "svg", lambda chart, description: "")
        chart = charts.loss("sft", list(enumerate(losses)))
    assert chart
    steps = [row["step"] for row in chart.rows]
    assert steps == sorted(steps) and (steps[0], steps[-1]) == (0, len(losses) - 1)
    assert all(row["loss"] == losses[row["step"]] for row in chart.rows) and len(steps) <= charts.MAX_POINTS + 1
    assert ("Drawn: " in chart.description) == (len(losses) > charts.MAX_POINTS)


@pytest.mark.parametrize("logged", [[], [[1, 3.0]], [[1, None], [2, 3.0]], [[1, float("nan")], [2, 0.5]]])
def test_a_loss_of_fewer_than_two_steps_is_not_drawn(logged: list[list[float | None]]) -> None:
    assert charts.loss("sft", logged) is None


# ---------------------------------------------------------------- colours


def test_the_style_sheet_gives_every_colour_of_a_chart_enough_contrast_in_light_and_dark() -> None:
    """WCAG 1.4.11 asks 3 to 1 of what must be seen; the first four series have it, shapes and dashes carry the others."""
    sheet = (files("evalft.reporting") / "report.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block)) for block in _roots(sheet)[:2])
    replaced = dict(re.findall(r'\.chart \[fill="(#[0-9a-f]{6})"\] \{ fill: var\(--([a-z]+)\)', sheet))
    stroked = dict(re.findall(r'\.chart \[stroke="(#[0-9a-f]{6})"\] \{ stroke: var\(--([a-z]+)\)', sheet))
    assert replaced.items() <= stroked.items()
    seen = {drawing.INK, drawing.SOFT, drawing.ACCENT, *drawing.STATUS.values(), *drawing.SERIES[:3]}
    for page in (light, dark):
        for colour in seen:
            shown = page[replaced[colour]] if colour in replaced else colour
            assert _contrast(shown, page["card"]) >= 3, (colour, shown)


def _roots(sheet: str) -> list[str]:
    return re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    a, b = sorted((light(one), light(other)))
    return (b + 0.05) / (a + 0.05)
