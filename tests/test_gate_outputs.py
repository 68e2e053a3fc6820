"""What a gate leaves for CI: JUnit XML that viewers take, marks on the config's lines, a comment that calls nobody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from answered_rows import assess, rows_of
from evalft import baselines, cli, config, gate_words, gating, github_annotations, junit
from evalft.errors import UserError
from evalft.gating import Gate

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parent / "junit.xsd"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [row | {"channel": ("mail", "phone")[i % 2]} for i, row in enumerate(rows_of(200))]
    task = {"metrics": ["accuracy"], "slices": ["channel"]}
    return assess(tmp_path_factory.mktemp("both") / "one", rows, task=task)


@pytest.fixture
def known(tmp_path: Path, both: Path) -> Path:
    baselines.write(f"{both}:good", tmp_path / "baseline.jsonl")
    return tmp_path / "baseline.jsonl"


def cases(text: str) -> dict[str, str]:
    """Name -> passed, failure or skipped; the document is valid."""
    SCHEMA.assertValid(etree.fromstring(text.encode()))
    return {
        case.get("name", ""): case[0].tag if len(case) else "passed"
        for case in ElementTree.fromstring(text).iter("testcase")
    }


def called(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.group, arguments, standalone_mode=False)
    return result.return_value or getattr(result.exception, "status", 0), result.stdout, result.stderr


def undecided_gate(gate: Gate, status: int) -> Gate:
    from dataclasses import replace

    metrics = tuple(replace(one, verdict="undecided") for one in gate.metrics)
    return replace(gate, metrics=metrics, slices=(), verdict="undecided", status=status)


# ---------------------------------------------------------------- JUnit


def test_every_metric_and_slice_is_a_testcase_and_a_regression_is_a_failure_with_its_sentence(
    both: Path, known: Path
) -> None:
    assert set(cases(junit.page(gating.gate(known, f"{both}:good"))).values()) == {"passed"}
    found = gating.gate(known, f"{both}:bad")
    text = junit.page(found)
    assert cases(text)["accuracy"] == "failure"
    assert cases(text).keys() == {"accuracy", "channel=mail", "channel=phone", "coverage"}
    failure = next(ElementTree.fromstring(text).iter("failure"))
    assert failure.get("message") == gate_words.finding(found, found.metrics[0])
    assert "shown to be below" in (failure.text or "")
    suite = ElementTree.fromstring(text)[0]
    assert suite.get("failures") == str(list(cases(text).values()).count("failure"))


def test_undecided_is_skipped_where_it_warns_and_a_failure_where_it_fails(both: Path, known: Path) -> None:
    found = gating.gate(known, f"{both}:good")
    assert cases(junit.page(undecided_gate(found, 0)))["accuracy"] == "skipped"
    assert cases(junit.page(undecided_gate(found, 4)))["accuracy"] == "failure"


def test_coverage_under_its_floor_is_a_failure_and_no_pass_in_words(tmp_path: Path) -> None:
    rows = rows_of(60)
    for row in rows[:20]:
        row["good"] = "no label of the task"
    run = assess(tmp_path / "one", rows, names={"good": "good"}, task={"metrics": ["accuracy"]})
    baselines.write(str(run), tmp_path / "baseline.jsonl")
    found = gating.gate(tmp_path / "baseline.jsonl", str(run))
    assert cases(junit.page(found)) == {"accuracy": "passed", "coverage": "failure"}
    assert gate_words.sentence(found).startswith("No pass") and "✗" in gate_words.markdown(found).splitlines()[0]
    assert any("::error" in line and "min_coverage" in line for line in github_annotations.of_gate(found, None))


@given(st.text())
def test_any_text_of_a_fault_makes_valid_xml(text: str) -> None:
    assert cases(junit.refused([text])) == {"comparable": "failure"}


def test_the_command_writes_junit_into_the_run_folder_or_where_it_is_told(
    tmp_path: Path, both: Path, known: Path
) -> None:
    assert called("gate", f"{both}:bad", "--baseline", str(known))[0] == 3
    assert cases((both / "junit.xml").read_text())["accuracy"] == "failure"
    (both / "junit.xml").unlink()
    file = tmp_path / "out" / "gate.xml"
    assert called("gate", f"{both}:good", "--baseline", str(known), "--junit", str(file))[0] == 0
    assert cases(file.read_text())["accuracy"] == "passed" and not (both / "junit.xml").exists()


def test_what_cannot_be_compared_does_not_leave_an_earlier_pass_behind(both: Path, known: Path) -> None:
    assert called("gate", f"{both}:good", "--baseline", str(known))[0] == 0
    known.write_text("{}")
    assert called("gate", f"{both}:good", "--baseline", str(known))[0] == 2
    assert cases((both / "junit.xml").read_text()) == {"comparable": "failure"}


# ---------------------------------------------------------------- annotations


def properties(command: str) -> dict[str, str]:
    kind, _, rest = command.removeprefix("::").partition(" ")
    listed = rest.partition("::")[0]
    return {"kind": kind} | dict(pair.split("=", 1) for pair in listed.split(","))


def test_a_regression_is_marked_on_the_line_of_its_threshold(
    tmp_path: Path, both: Path, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config.as_data(config.load(both / "config.yaml"))
    text = "# first line\n" + config.dump(data | {"thresholds": {"accuracy": ">= 0.5"}}).replace(
        "{accuracy", "\n  {accuracy"
    )
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "evalft.yaml"
    file.write_text(text)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    command = github_annotations.of_gate(gating.gate(known, f"{both}:bad"), file)[0]
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "accuracy:" in one)
    assert properties(command) | {"title": ""} == {
        "kind": "error",
        "file": "here/evalft.yaml",
        "line": str(line),
        "title": "",
    }
    assert "shown to be below" in command


def test_only_github_is_told_and_others_text_is_no_command(
    tmp_path: Path, both: Path, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("gate", f"{both}:bad", "--baseline", str(known), "--junit", str(tmp_path / "j.xml"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "::" not in called(*arguments)[1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = called(*arguments)[1].splitlines()
    begin = next(line for line in lines if line.startswith("::stop-commands::"))
    end = f"::{begin.rpartition('::')[2]}::"
    table = lines[lines.index(begin) : lines.index(end)]
    assert any("Regression" in line for line in table), "what others named is printed while commands are stopped"
    assert any(line.startswith("::error ") for line in lines[lines.index(end) :])
    status, output, said = called(*arguments, "--json")
    assert status == 3 and output.startswith("{") and "::error" not in output and "::error" in said


def test_a_mistake_is_marked_where_it_stands(tmp_path: Path, known: Path) -> None:
    known.write_text("{}\n")
    with pytest.raises(UserError) as raised:
        baselines.read_file(known)
    (command,) = github_annotations.of_faults(raised.value.faults)
    assert properties(command)["line"] == "1" and properties(command)["file"].endswith("baseline.jsonl")
    (command,) = github_annotations.of_faults(["no such thing: at all"])
    assert "file" not in properties(command)


@given(st.text(st.sampled_from("%\r\n:,a0D")), st.text(st.sampled_from("%\r\n:,a0D")))
def test_escaped_commands_are_one_line_and_say_what_was_said(message: str, title: str) -> None:
    command = github_annotations._command("error", message, None, None, title=title)
    assert len(command.splitlines()) == 1
    found = re.fullmatch(r"::error title=([^:,]*)::(.*)", command)
    assert found

    def read(text: str) -> str:
        return re.sub("%(25|0D|0A|3A|2C)", lambda code: chr(int(code[1], 16)), text)

    assert (read(found[1]), read(found[2])) == (title, message)


# ---------------------------------------------------------------- words


def hostile(tmp_path: Path, value: str) -> Gate:
    rows = [row | {"channel": value} for row in rows_of(60)]
    task: dict[str, Any] = {"metrics": ["accuracy"], "slices": ["channel"]}
    run = assess(tmp_path / "one", rows, names={"good": "good", value: "bad"}, task=task)
    baselines.write(f"{run}:good", tmp_path / "known.jsonl")
    return gating.gate(tmp_path / "known.jsonl", f"{run}:{value}")


def test_a_comment_calls_nobody_and_a_name_begins_no_line(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    found = hostile(tmp_path, "@owner #12\n::add-mask::x\r\n|</td> [a](javascript:1)")
    comment = gate_words.markdown(found)
    assert "@owner" not in comment and "#12" not in comment and "<" not in comment.replace("\\<", "").replace("< 0", "")
    assert len([line for line in comment.splitlines() if line.startswith("|")]) == 2 + 1 + 1 + 1, "a name ends no row"
    stream = StringIO()
    gate_words.show(found, Console(file=stream, width=200))
    assert not any(line.lstrip().startswith("::") for line in stream.getvalue().splitlines())
    assert cases(junit.page(found))["accuracy"] in ("passed", "failure", "skipped")


def test_a_comment_of_many_slices_fits(tmp_path: Path) -> None:
    rows = [row | {"channel": f"{i // 10} {'x' * 3000}"} for i, row in enumerate(rows_of(1000))]
    task = {"metrics": ["accuracy"], "slices": ["channel"]}
    run = assess(tmp_path / "one", rows, names={"good": "good"}, task=task)
    baselines.write(str(run), tmp_path / "known.jsonl")
    comment = gate_words.markdown(gating.gate(tmp_path / "known.jsonl", str(run)))
    assert len(comment) < 65_536 and "50 more slices" in comment
