"""Plug-ins of installed packages: found by their entry points, checked, versioned; what they do wrong names them."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from answered_rows import assess, rows_of
from evalft import baselines, config, gating, pipeline, preparing
from evalft.concluding import Assessment
from evalft.errors import UserError

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent
GUIDE = dict(
    re.findall(r"```(?:toml|python|yaml)\n# (\S+)\n(.*?)```", (ROOT / "docs/plugins.md").read_text(), re.DOTALL)
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, first on sys.path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(
    site: Path, source: str, entry_points: dict[str, dict[str, str]], name: str = "polite", version: str = "1.0"
) -> None:
    """As pip leaves it: a module, and its dist-info."""
    for old in site.glob(f"{name}-*.dist-info"):
        (old / "METADATA").unlink()
        (old / "entry_points.txt").unlink()
        old.rmdir()
    sys.modules.pop(name, None)
    (site / f"{name}.py").write_text(source)
    for cached in site.glob(f"__pycache__/{name}.*"):
        cached.unlink()
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, some in entry_points.items()
        for line in (f"[{group}]", *(f"{k} = {v}" for k, v in some.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install_metric(site: Path, body: str, version: str = "1.0") -> None:
    install(
        site,
        f"def score(answers, examples, **options):\n    {body}\n",
        {"evalft.metrics": {"score": "polite:score"}},
        version=version,
    )


def install_bot(site: Path, body: str, version: str = "1.0") -> None:
    install(site, f"def bot(settings):\n    {body}\n", {"evalft.candidates": {"bot": "polite:bot"}}, version=version)


def scored(folder: Path, **sections: Any) -> Assessment:
    folder.mkdir(exist_ok=True)
    rows = [{"text": f"Message {i}", "reply": f"Message {i}"} for i in range(20)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {
        "task": {"name": "mail", "type": "generation", "test": "test.jsonl", "input": "text", "target": "reply"},
        "candidates": [{"name": "echo", "model": "fake:echo", "prompt": "{{ text }}"}],
    }
    data["task"] |= sections.pop("task", {})
    return pipeline.assess(config.build(data | sections, source="test", folder=folder), out=folder / "run")


METRIC = {"task": {"metrics": ["exact_match", "polite:score"]}}
BOT = {"candidates": [{"name": "bot", "model": "plugin:polite:bot"}]}


# ---------------------------------------------------------------- the guide


def test_the_example_of_the_guide_is_short_installs_and_runs(site: Path, tmp_path: Path) -> None:
    project = tomllib.loads(GUIDE["pyproject.toml"])["project"]
    assert len((GUIDE["pyproject.toml"] + GUIDE["polite.py"] + GUIDE["evalft.yaml"]).splitlines()) < 70
    install(site, GUIDE["polite.py"], project["entry-points"], project["name"], project["version"])
    folder = tmp_path / "guide"
    folder.mkdir()
    rows = [{"text": f"Message {i}", "reply": "Please"} for i in range(20)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evalft.yaml").write_text(GUIDE["evalft.yaml"])
    run = pipeline.assess(config.load(folder / "evalft.yaml"), out=folder / "run")
    (entry,) = run.summary["candidates"]
    options = yaml.safe_load(GUIDE["evalft.yaml"])["task"]["metrics"][1]["polite:politeness"]
    said = "please wait. thanks! you said:"
    share = sum(word in said for word in options["words"]) / len(options["words"])
    assert entry["metrics"]["polite:politeness"]["value"] == pytest.approx(share)
    assert entry["thresholds"]["polite:politeness"]["status"] == "pass"
    assert len((run.path / "worst.txt").read_text().splitlines()) == 10
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["plugins"] == dict.fromkeys(("polite:bot", "polite:worst", "polite:politeness"), "1.0")
    assert "the plug-in polite:bot: " in (run.path / "report.md").read_text().replace("\\", "")
    assert pipeline.decide_again(run.path, config.load(run.path / "config.yaml")).status == 0


# ---------------------------------------------------------------- what is found


def test_only_what_is_installed_is_loaded_and_never_a_dotted_path(site: Path, tmp_path: Path) -> None:
    (site / "owned.py").write_text("raise SystemExit('this was imported')")
    for name in ("owned:score", "os:system", "os.path:join", "owned:", ":score"):
        with pytest.raises(UserError, match="is not installed|is no plug-in's name"):
            scored(tmp_path / "one", task={"metrics": [name]})
    with pytest.raises(
        UserError, match=r"candidate plugin:owned:bot: plug-in 'owned:bot' is not installed.*pip install owned"
    ):
        scored(tmp_path / "one", candidates=[{"model": "plugin:owned:bot"}])
    with pytest.raises(UserError, match=r"report.also: plug-in 'owned:page' is not installed"):
        scored(tmp_path / "one", report={"also": ["owned:page"]})
    assert "owned" not in sys.modules


def test_a_metric_of_texts_is_refused_for_labels(site: Path, tmp_path: Path) -> None:
    install_metric(site, "return [1.0] * len(answers)")
    with pytest.raises(UserError, match="polite:score: a plug-in scores texts, and this task has labels"):
        assess(tmp_path / "labels", rows_of(20), task={"metrics": ["accuracy", "polite:score"]})


# ---------------------------------------------------------------- what they give


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("return [1.5] * len(answers)", "gave 1.5 for example .* from 0 to 1"),
        ("return [float('nan')] * len(answers)", "gave nan for example"),
        ("return [1.0]", "gave 1 scores for 20 answers"),
        ("return None", "gave None, not a list of numbers"),
        ("return ['good'] * len(answers)", "gave .'good'.*, not a list of numbers"),
        ("raise KeyError('tone')", "raised KeyError: 'tone'"),
    ],
)
def test_what_a_metric_does_wrong_is_a_line_that_names_it(site: Path, tmp_path: Path, body: str, wrong: str) -> None:
    install_metric(site, body)
    with pytest.raises(UserError, match=f"plug-in polite:score 1.0: {wrong}") as raised:
        scored(tmp_path / "one", **METRIC)
    assert "\n" not in str(raised.value)


def test_a_package_that_cannot_be_imported_names_itself(site: Path, tmp_path: Path) -> None:
    install(site, "import no_such_module", {"evalft.metrics": {"score": "polite:score"}})
    with pytest.raises(UserError, match="plug-in polite:score 1.0: cannot be imported: ModuleNotFoundError"):
        scored(tmp_path / "one", **METRIC)
    install(site, "score = 3", {"evalft.metrics": {"score": "polite:score"}})
    with pytest.raises(UserError, match="is int, nothing to call"):
        scored(tmp_path / "one", **METRIC)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("return lambda chats: ['x'] * (len(chats) - 1)", "api_error"),
        ("return lambda chats: [{'text': 3}] * len(chats)", "bad_response"),
        ("return lambda chats: [{'text': 'x', 'cost_usd': -1}] * len(chats)", "bad_response"),
        ("return lambda chats: [None] * len(chats)", "empty"),
        ("return lambda chats: 1 / 0", "api_error"),
    ],
)
def test_what_a_candidate_does_wrong_is_a_failure_of_its_rows(
    site: Path, tmp_path: Path, body: str, failure: str
) -> None:
    install_bot(site, body)
    run = scored(tmp_path / "one", **BOT)
    assert run.summary["candidates"][0]["coverage"]["failures"] == {failure: 20} and run.status == 6
    lines = [json.loads(line) for line in (run.path / "predictions" / "bot.jsonl").read_text().splitlines()]
    assert failure == "empty" or "plug-in polite:bot 1.0" in lines[0]["message"]


def test_a_candidate_that_cannot_be_made_cannot_start(site: Path, tmp_path: Path) -> None:
    install_bot(site, "raise ValueError('no licence')")
    with pytest.raises(UserError, match="candidate bot: plug-in polite:bot 1.0: raised ValueError: no licence"):
        scored(tmp_path / "one", **BOT)
    with pytest.raises(UserError, match=r"candidates.0.device: a plug-in does not take it"):
        scored(tmp_path / "one", candidates=[{"model": "plugin:polite:bot", "device": "cpu"}])


def test_costs_and_tokens_that_a_candidate_states_are_kept(site: Path, tmp_path: Path) -> None:
    install_bot(
        site,
        "return lambda chats: [{'text': chat[-1]['content'], 'cost_usd': 0.25, 'input_tokens': 3, 'output_tokens': 2} for chat in chats]",
    )
    (entry,) = scored(tmp_path / "one", **BOT).summary["candidates"]
    assert entry["cost_per_query_usd"]["value"] == 0.25 and entry["latency_s"]


@pytest.mark.parametrize("given", ["'../up.txt', 'x'", "'summary.json', 'x'", "'a.txt', 3", "'a.txt'"])
def test_a_reporter_writes_one_file_of_its_own_below_the_run_folder(site: Path, tmp_path: Path, given: str) -> None:
    install(site, f"def page(run):\n    return {given}\n", {"evalft.reporters": {"page": "polite:page"}})
    with pytest.raises(UserError, match="plug-in polite:page 1.0"):
        scored(tmp_path / "one", report={"also": ["polite:page"]})
    assert json.loads((tmp_path / "one" / "run" / "summary.json").read_text())["schema"]


def test_a_run_is_compared_where_its_plug_in_is_no_more(site: Path, tmp_path: Path) -> None:
    install_bot(site, "return lambda chats: [chat[-1]['content'] for chat in chats]")
    run = scored(tmp_path / "one", **BOT).path
    baselines.write(str(run), tmp_path / "baseline.jsonl")
    for file in site.glob("polite-*/*"):
        file.unlink()
    assert gating.gate(tmp_path / "baseline.jsonl", str(run)).verdict == "pass"
    with pytest.raises(UserError, match="pip install polite"):
        pipeline.decide_again(run, config.load(run / "config.yaml"))


# ---------------------------------------------------------------- versions


def test_another_version_is_another_run_and_asks_again(site: Path, tmp_path: Path) -> None:
    def digest(**sections: Any) -> str:
        task = {"name": "mail", "type": "generation", "test": "test.jsonl", "input": "text", "target": "reply"}
        data = {
            "task": task | sections.get("task", {}),
            "candidates": sections.get("candidates", [{"model": "fake:echo"}]),
        }
        return preparing.prepare(config.build(data, source="test", folder=tmp_path / "one")).digest

    install_metric(site, "return [1.0] * len(answers)")
    scored(tmp_path / "one", **METRIC)
    first = digest(**METRIC)
    install_metric(site, "return [0.5] * len(answers)", version="2.0")
    assert digest(**METRIC) != first
    plain = digest()
    install_bot(site, "return lambda chats: ['one'] * len(chats)")
    bot = digest(**BOT)
    assert scored(tmp_path / "two", **BOT).summary["spent"]["cached_requests"] == 0
    install_bot(site, "return lambda chats: ['two'] * len(chats)", version="2.0")
    assert digest(**BOT) != bot and digest() == plain
    run = scored(tmp_path / "three", **BOT)
    assert json.loads((run.path / "predictions" / "bot.jsonl").read_text().splitlines()[0])["text"] == "two"


# ---------------------------------------------------------------- pytest


def gated(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, run: Path, candidate: str, undecided: str = "pass"
) -> Any:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    baselines.write(f"{run}:good", pytester.path / "baseline.jsonl")
    pytester.makepyfile(f"def test_it(evalft_gate):\n    assert evalft_gate({f'{run}:{candidate}'!r}).verdict\n")
    return pytester.runpytest_subprocess("-p", "evalft.pytest_plugin")


def test_the_fixture_fails_a_test_whose_run_is_worse_and_passes_one_that_is_not(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = assess(tmp_path / "both", rows_of(200), task={"metrics": ["accuracy"]})
    gated(pytester, monkeypatch, run, "good").assert_outcomes(passed=1)
    found = gated(pytester, monkeypatch, run, "bad")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*Regression: accuracy*", "*accuracy: * shown to be below 0*"])
    assert "Traceback" not in found.stdout.str()


def test_the_fixture_warns_where_undecided_passes_and_fails_where_nothing_is_comparable(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = rows_of(60, better=1.0)
    for row in rows[::20]:
        row["bad"] = row["label"]
    for place, row in enumerate(rows):
        row["bad"] = row["good"] if place % 20 else {"ham": "spam", "spam": "other", "other": "ham"}[row["label"]]
    run = assess(tmp_path / "both", rows, task={"metrics": ["accuracy"]})
    folder = config.load(run / "config.yaml")
    text = config.dump(config.as_data(folder) | {"gate": {"tolerance": 0.001}})
    (run / "config.yaml").write_text(text)
    found = gated(pytester, monkeypatch, run, "bad")
    found.assert_outcomes(passed=1, warnings=1)
    found.stdout.fnmatch_lines(["*EvalftUndecided: Undecided*"])
    gated(pytester, monkeypatch, run, "ugly").assert_outcomes(failed=1)


def test_pytest_starts_without_anything_heavy(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert not {'numpy', 'pandas', 'sklearn', 'torch', 'evalft.gating'} & set(sys.modules)\n"
    )
    pytester.runpytest_subprocess("-p", "evalft.pytest_plugin").assert_outcomes(passed=1)
