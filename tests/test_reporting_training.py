"""What the reports say of a training run: before and after, what was done, which rows changed; and nothing where nothing was."""

from __future__ import annotations

import html as html_escapes
import io
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import run_folder
from evalft.reporting import changes, html, markdown, terminal, training, view
from evalft.reporting.candidates import STAND_IN
from evalft.stats.paired import JUST_OVER_0
from evalft.store import RunFolder


def _write(folder: Path, training: str | None = "tuned", **options: Any) -> dict[str, Any]:
    return run_folder.write(folder, kind=options.pop("kind", "generation"), training=training, **options)


def _save(folder: Path, summary: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(summary))


def _words(page: str) -> str:
    """What a reader sees of HTML, on one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html_escapes.unescape(re.sub(r"<[^>]*>", "", body)).split())


def _everywhere(folder: Path) -> list[str]:
    """The words of report.html, report.md and the terminal."""
    out = io.StringIO()
    terminal.show(folder, Console(file=out, width=300))
    paper = html_escapes.unescape(re.sub(r"[\\`*]|</?code>", "", markdown.render(folder)))
    return [_words(html.render(folder)), *(" ".join(shown.split()) for shown in (paper, out.getvalue()))]


def _scores(folder: Path, candidate: str, metric: str) -> dict[str, float]:
    lines = RunFolder(folder).scores_file(candidate).read_text().splitlines()
    return {line["id"]: line["values"][metric] for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    _write(folder)
    return folder


# ---------------------------------------------------------------- the story


def test_every_report_tells_the_verdict_before_what_was_done_and_the_verdict_after(tuned: Path) -> None:
    for shown in _everywhere(tuned):
        told = [
            "Fine-tune hf:Qwen/Qwen3-0.6B (untuned base)",
            f"250 new rows made by recombine from 50 train rows, answered by openai:gpt-5-mini ({STAND_IN})",
            "sft (300 rows, 5 epochs), then dpo (212 pairs, 5 epochs). On 61 dev rows, exact_match: base 0.300, sft 0.550",
            "Chosen on dev: dpo; the test rows were not used to choose.",
            "Ship Qwen3-0.6B-tuned (tuned from hf:Qwen/Qwen3-0.6B, stage dpo): it meets every threshold",
        ]
        story = shown[shown.index("Verdict before") :]
        places = [story.index(words) for words in told]
        assert places == sorted(places)


def test_the_untuned_base_as_the_best_stage_is_said_plainly(tmp_path: Path) -> None:
    _write(tmp_path, "base")
    assert view.read(tmp_path).diffs == () and not view.read(tmp_path).examples.before
    for shown in _everywhere(tmp_path):
        assert "Training did not help on dev: the untuned base was chosen" in shown
        assert "nothing tuned was scored on the test rows" in shown
        assert "Stop: after training, too, no candidate is shown to meet every threshold." in shown
        assert "conditions for fine-tuning" not in shown


def test_a_run_without_training_says_nothing_of_it(tmp_path: Path) -> None:
    summary = _write(tmp_path, None)
    pages = _everywhere(tmp_path)
    for key in ("expansion", "waiting", "stages", "diff", "diff_best", "verdict_before", "stage_notes"):
        summary[key] = None
    _save(tmp_path, summary)
    assert _everywhere(tmp_path) == pages
    summary = {key: value for key, value in summary.items() if value is not None or key == "verdict"}
    _save(tmp_path, summary)
    assert _everywhere(tmp_path) == pages
    for shown in pages:
        assert not re.search(r"[Bb]efore and after|Training (data|has)|untuned|[Bb]roken|Stages", shown)


@pytest.mark.parametrize("where", ["expansion", "stages", "training", "diff"])
def test_a_value_that_is_missing_leaves_no_gap_and_is_not_claimed(tmp_path: Path, where: str) -> None:
    """Each optional value taken out in turn, absent or null."""
    summary = _write(tmp_path, rows=8, hostile=())
    part = {
        "expansion": lambda s: s["expansion"],
        "stages": lambda s: s["stages"][1],
        "training": lambda s: s["stages"][1]["training"],
        "diff": lambda s: s["diff"],
    }[where]
    needed = {
        "stages": {"name", "method", "round", "dev", "chosen"},
        "diff": {"baseline", "tuned", "metrics", "fixed", "broken", "same"},
    }
    for key in set(part(summary)) - needed.get(where, set()):
        for absent in (False, True):
            less = json.loads(json.dumps(summary))
            part(less).pop(key) if absent else part(less).update({key: None})
            _save(tmp_path, less)
            for shown in _everywhere(tmp_path) if absent else [_words(html.render(tmp_path))]:
                assert not re.search(r"(?<!pass\? )\bNone\b|\(\)|, ,|: ;|\bby from\b|  ", shown), (key, absent)
            page = html.render(tmp_path)
            assert not re.search(r"<(ul|ol|dl|tbody)>\s*</\1>", page), key


def test_without_a_teacher_none_is_claimed(tmp_path: Path) -> None:
    summary = _write(tmp_path)
    summary["expansion"]["teacher"] = None
    _save(tmp_path, summary)
    for shown in _everywhere(tmp_path):
        assert "from 50 train rows, without a teacher; 300 rows to train on." in shown and "answered by" not in shown


def test_candidates_of_a_training_run_say_what_they_are_wherever_they_are_listed(tuned: Path) -> None:
    page = html.render(tuned)
    parts = {
        "contents": page[page.index("<nav") : page.index("</nav>")],
        "overview": page[page.index('<table class="glance">') : page.index("</table>", page.index('class="glance"'))],
        "own section": page[page.index('<h2 id="candidate-3">') :][:2000]
        + page[page.index('<h2 id="candidate-4">') :][:2000],
    }
    for where, part in parts.items():
        assert "untuned base" in part and "tuned from hf:Qwen/Qwen3-0.6B, stage dpo" in part, where
    for shown in _everywhere(tuned)[1:]:
        assert "Qwen3-0.6B-tuned (tuned from hf:Qwen/Qwen3-0.6B, stage dpo)" in shown
        assert "hf:Qwen/Qwen3-0.6B (untuned base)" in shown


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("ship", "Ship b: it meets every threshold", "Ship b: it meets every threshold"),
        ("stop", "conditions for fine-tuning are not met", "Stop: after training, too, no candidate"),
        ("tune", "Fine-tune b: no candidate", "Fine-tune b again: after training, too, no candidate"),
        ("more_test_data", "Collect more test rows", "Collect more test rows"),
    ],
)
def test_the_verdict_sentence_knows_whether_training_was_done(action: str, before: str, after: str) -> None:
    assert before in view.verdict_sentence(action, "b", None, True)
    assert after in view.verdict_sentence(action, "b", None, True, after_training=True)


# ---------------------------------------------------------------- training that waits


def test_training_that_waits_is_said_first_with_its_commands(tmp_path: Path) -> None:
    summary = _write(tmp_path, "waiting", hostile=())
    for shown in _everywhere(tmp_path):
        places = [
            shown.index(words) for words in (f"Training has not been done: {summary['waiting']['why']}", "erdict:")
        ]
        assert places == sorted(places)
        assert all(command in shown[: places[1]] for command in summary["waiting"]["commands"])
        assert "250 new rows made by recombine" in shown and "efore and after" not in shown


def test_only_the_manifest_says_that_training_waits(tmp_path: Path) -> None:
    summary = _write(tmp_path, "waiting")
    del summary["waiting"]
    _save(tmp_path, summary)
    assert all("Training has not been done." in shown for shown in _everywhere(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"stages": {"tune": "done"}}))
    _save(tmp_path, summary | {"waiting": {"why": "stale", "commands": ["stale"]}})
    assert not any("stale" in shown for shown in _everywhere(tmp_path))


def test_a_long_command_is_one_line_on_the_terminal(tmp_path: Path) -> None:
    summary = _write(tmp_path, "waiting")
    command = "rsync -a " + "/a/long/path" * 12
    _save(tmp_path, summary | {"waiting": {"why": "no GPU", "commands": [command]}})
    out = io.StringIO()
    terminal.show(tmp_path, Console(file=out, width=80))
    assert command in out.getvalue().splitlines()


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize("kind", ["classification", "generation", "multilabel"])
def test_fixed_and_broken_agree_with_the_scores_on_disk(tmp_path: Path, kind: str) -> None:
    summary = _write(tmp_path, kind=kind)
    found = view.read(tmp_path)
    assert len(found.diffs) == 2
    metric = summary["task"]["metrics"][0]
    after = _scores(tmp_path, run_folder.TUNED, metric)
    for diff in found.diffs:
        before = _scores(tmp_path, diff.before, metric)
        fixed = sum(after[row] > before[row] for row in before)
        broken = sum(after[row] < before[row] for row in before)
        same = len(before) - fixed - broken
        assert fixed and broken and same
        said = f"{fixed} fixed, {broken} broken, {same} the same of {len(before)} rows"
        assert diff.counts == said and all(said in shown for shown in _everywhere(tmp_path))
    before = _scores(tmp_path, run_folder.BASE, metric)
    rows = {kind: [row for row in found.examples.rows if row.change == kind] for kind in ("broken", "fixed")}
    assert [row.id for row in rows["broken"]] == [row for row in before if after[row] < before[row]]
    assert [row.id for row in rows["fixed"]] == [row for row in before if after[row] > before[row]]
    ranks = ["failed", "wrong", "partly", "right"]
    for kind, changed in rows.items():
        for row in changed:
            old, new = row.answers[:2]
            assert (old.candidate, new.candidate) == (run_folder.BASE, run_folder.TUNED)
            assert (ranks.index(old.mark) < ranks.index(new.mark)) == (kind == "fixed")


def test_changed_rows_show_input_target_and_both_answers_with_what_differs_marked(tuned: Path) -> None:
    found = view.read(tuned).examples
    changed = [row for row in found.rows if row.change]
    page = html.render(tuned)
    articles = re.findall(r'<article class="example"[^>]*>(.*?)</article>', page, re.DOTALL)
    for row, article in zip(changed, articles, strict=False):
        before, after = row.answers[:2]
        for part in (row.input[0][1], row.target, *before.texts, *after.texts):
            assert _words(html_escapes.escape(html._visible(part))) in _words(article)  # type: ignore[arg-type]
        if before.texts and after.texts:
            assert "".join(words for words, _ in after.pieces) == after.texts[0] != before.texts[0]
            assert "<ins>" in article or "<del>" in article
    assert "<ins>" not in "".join(articles[len(changed) :])


def test_of_several_samples_the_first_is_compared(tmp_path: Path) -> None:
    _write(tmp_path, hostile=())
    file = RunFolder(tmp_path).predictions_file(run_folder.TUNED)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    again = [line | {"repeat": 1, "text": "a second sample"} for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines + again))
    changed = [row for row in view.read(tmp_path).examples.rows if row.change]
    assert changed and all("second" not in words for row in changed for words, _ in row.answers[1].pieces)
    assert "Of several samples the first is compared." in html.render(tmp_path)


def test_examples_none_keeps_rows_ids_and_samples_of_training_out_of_the_reports(tmp_path: Path) -> None:
    summary = _write(tmp_path, examples="none", hostile=())
    assert summary["diff"]["fixed_ids"]
    for shown in (html.render(tmp_path), markdown.render(tmp_path)):
        assert "row-1" not in shown and "new input 0" not in shown and "When will my card arrive" not in shown
    assert "Samples are not shown: report.examples is none." in html.render(tmp_path)


def _plain(shown: str) -> Decimal:
    return Decimal(re.sub(r"[$,+]", "", shown))


signed = st.floats(-1, 1).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(st.sampled_from(["accuracy", "brier", "cost_per_query"]), st.tuples(signed, signed, signed))
def test_a_change_is_called_better_or_worse_exactly_where_its_shown_interval_leaves_0_out(
    metric: str, ends: tuple[float, float, float]
) -> None:
    low, delta, high = sorted(ends)
    found = {"delta": delta, "low": low, "high": high, "p_value": 0.03, "test": "mcnemar_exact"}
    shown = changes._difference(metric, found, "", "")
    shown_low, shown_high = map(_plain, shown.interval.split(" to "))
    assert shown_low <= Decimal(repr(low)) and Decimal(repr(high)) <= shown_high
    rose, fell = shown_low > 0, shown_high < 0
    assert shown.reading == (
        changes.NO_DIFFERENCE if not (rose or fell) else "better" if rose == (metric == "accuracy") else "worse"
    )
    assert shown.change.startswith("+") == (delta > 0) and (_plain(shown.change) == 0) == (delta == 0)
    assert shown.test == "exact McNemar test"


def test_an_interval_that_misses_0_by_a_hair_says_so_in_words() -> None:
    found = {"delta": 0.05, "low": JUST_OVER_0, "high": 0.1, "p_value": 0.049, "test": "mcnemar_exact"}
    shown = changes._difference("accuracy", found, "", "")
    assert (shown.interval, shown.reading) == ("just above 0 to 0.100", "better")
    found |= {"delta": -0.05, "low": -0.1, "high": -JUST_OVER_0}
    shown = changes._difference("accuracy", found, "", "")
    assert (shown.interval, shown.reading) == ("-0.100 to just below 0", "worse")


def test_each_difference_is_in_the_page_with_interval_p_value_and_test(tuned: Path) -> None:
    shown = _words(html.render(tuned))
    for diff in view.read(tuned).diffs:
        assert diff.differences
        for each in diff.differences:
            assert each.p_value != "–" and each.reading in ("better", "worse", changes.NO_DIFFERENCE)
            for part in (each.change, each.interval, each.p_value, each.test, each.reading):
                assert part in shown
    assert "Not compared: roc_auc (no row score <script>" in shown


def test_a_primary_metric_that_was_not_compared_is_said_with_its_reason(tmp_path: Path) -> None:
    summary = _write(tmp_path)
    summary["diff"]["metrics"].pop("exact_match")
    summary["diff"]["unmeasured"] = {"exact_match": "fewer than 8 groups"}
    _save(tmp_path, summary)
    for shown in _everywhere(tmp_path)[1:]:
        fixed = summary["diff"]["fixed"]
        assert f"the change of exact_match was not measured (fewer than 8 groups); {fixed} fixed" in shown


# ---------------------------------------------------------------- stages


def test_stages_stand_in_a_table_with_their_dev_intervals_and_settings(tuned: Path) -> None:
    found = view.read(tuned).stages
    assert found and [stage.chosen for stage in found.rows] == [False, False, True]
    page = html.render(tuned)
    table = _words(page[page.index('aria-label="Stages on dev"') :].split("</table>")[0])
    for stage in found.rows:
        assert all(m and m.value in table and m.interval in table for m in stage.dev)
        assert stage.trained_on in table
    assert table.count("● chosen") == 1
    shown = _words(page)
    for words in ("learning rate0.0009", "LoRA rank r16", "trainable parameters312,000", "time203 s", "left out"):
        assert words in shown
    assert "before the first step1.2e-06" in shown and "212 pairs of 300 rows" in shown


# ---------------------------------------------------------------- data and money


def test_the_rows_of_the_expansion_are_counted_from_draft_to_training(tuned: Path) -> None:
    expansion = json.loads((tuned / "summary.json").read_text())["expansion"]
    found = view.read(tuned).expansion
    assert found
    counts = {name: count for name, count, _ in found.counts}
    assert counts["inputs drafted"] == str(expansion["drafted"]) and counts["new rows"] == str(expansion["generated"])
    for why, rows in expansion["removed"].items():
        assert counts[f"removed: {why}"] == str(rows) and training.REMOVED[why]
    shown = _words(html.render(tuned))
    assert "49 of 50 rows right by exact_match (98.0 %)" in shown
    for sample in found.samples:
        assert _words(html_escapes.escape(str(html._visible(sample[0])))) in shown


def test_what_the_teacher_was_sent_stands_with_the_rows_that_left_the_machine(tmp_path: Path) -> None:
    summary = _write(tmp_path)
    assert any("as the teacher: 400 inputs" in line and "50 train rows" in line for line in view.read(tmp_path).sent_to)
    summary["expansion"]["teacher"] = run_folder.BASE
    _save(tmp_path, summary)
    assert not any("as the teacher" in line for line in view.read(tmp_path).sent_to)


def test_training_is_a_part_of_what_was_spent(tuned: Path) -> None:
    spent = dict(view.read(tuned).spent)
    assert (spent["training"], spent["training hours"], spent["machine"]) == ("$0.0113", "0.113", "cpu")
    assert all("$0.0113" in shown for shown in _everywhere(tuned))
