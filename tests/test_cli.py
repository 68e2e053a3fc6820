"""The commands as a user types them: what they print, where, and their exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from api_server import serving
from evalft.reporting import view
from evalft.store import slug

ROWS = [{"text": f"message {i}", "label": ["ham", "spam"][i % 2]} for i in range(60)]


def evalft(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evalft.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def right(body: dict[str, Any], number: int) -> str:
    return ["ham", "spam"][int(body["messages"][-1]["content"].split("message ")[1].split()[0]) % 2]


def configured(folder: Path, base_url: str, **task: str) -> None:
    """evalft.yaml with one candidate behind `base_url`, which needs no key."""
    config = {
        "task": {"test": "rows.jsonl", "input": "text", "target": "label", **task},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"model": "mock:m", "price": {"input": 1, "output": 2}}],
    }
    (folder / "evalft.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in ROWS))
    return tmp_path


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['evalft', '--help']\n"
        "import contextlib, io\n"
        "from evalft.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "print([m for m in ('openai', 'torch', 'transformers', 'pandas', 'sklearn', 'numpy', 'scipy', 'pydantic',"
        " 'rich', 'jinja2', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help_with_an_explanation(tmp_path: Path) -> None:
    for name in ("assess", "check", "decide", "rescore", "report", "init", "demo"):
        done = evalft(name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and f"evalft.cli {name}" in done.stdout.replace("-m ", "")


def test_from_a_csv_to_a_verdict_without_a_config(folder: Path) -> None:
    done = evalft("assess", "rows.csv", "--model", "fake:constant=ham", "--threshold", "accuracy >= 0.9", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Verdict: stop" in done.stdout
    (run,) = (folder / "reports").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    schema = json.loads((Path(view.__file__).parent / "summary.schema.json").read_text())
    jsonschema.validate(summary, schema)
    assert summary["candidates"][0]["metrics"]["accuracy"]["value"] == 0.5
    assert all((run / name).exists() for name in ("report.html", "report.md", "config.yaml", "manifest.json"))


def test_exit_code_says_the_verdict_only_when_asked(folder: Path) -> None:
    same = ["assess", "rows.csv", "--model", "fake:constant=ham", "--threshold"]
    assert evalft(*same, "accuracy >= 0.9", "--exit-code", cwd=folder).returncode == 3
    assert evalft(*same, "accuracy >= 0.3", "--exit-code", cwd=folder).returncode == 0
    assert evalft(*same, "accuracy >= 0.5", "--exit-code", cwd=folder).returncode in (3, 4)
    assert evalft(*same, "accuracy >= 0.9", cwd=folder).returncode == 0


def test_what_cannot_be_scored_never_ends_with_0(folder: Path) -> None:
    done = evalft("assess", "rows.csv", "--model", "fake:constant=nonsense", cwd=folder)
    assert done.returncode == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["assess"], "evalft init"),
        (["assess", "missing.csv", "--model", "fake:echo"], "missing.csv"),
        (["assess", "rows.csv"], "--model"),
        (["assess", "rows.csv", "--model", "gpt-5"], "openai:gpt-5"),
        (["assess", "rows.csv", "--model", "opnai:gpt-5"], "openai"),
        (["assess", "rows.csv", "--model", "openai:gpt-5-mini"], "export OPENAI_API_KEY"),
        (["assess", "rows.csv", "--model", "openai:no-such-model"], "price"),
        (["assess", "rows.csv", "--model", "hf:./nowhere"], "nowhere"),
        (["assess", "rows.csv", "--model", "fake:echo", "--threshold", "acuracy >= 0.9"], "accuracy"),
        (["assess", "rows.csv", "--model", "fake:echo", "--threshold", "accuracy = 0.9"], "accuracy >= 0.9"),
        (["assess", "rows.csv", "--model", "fake:echo", "--input", "txt"], "text"),
        (["check", "rows.csv", "--model", "fake:echo", "--set", "limits.timeout=1"], "timeout_s"),
        (["decide", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["init", "--example", "nothing"], "english-to-latex"),
        (["init", "--split", "0.5"], "--from"),
    ],
)
def test_a_mistake_is_one_line_with_the_next_step_and_status_2(folder: Path, arguments: list[str], said: str) -> None:
    done = evalft(*arguments, cwd=folder)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 3


def test_a_missing_extra_names_the_install_command(folder: Path) -> None:
    tiny_models.causal(folder / "model")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['evalft', 'assess', 'rows.csv', '--model', 'hf:model']\n"
        "from evalft.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "pip install 'evalft[local]'" in done.stderr


def test_check_spends_nothing_and_says_what_the_rows_can_show(folder: Path) -> None:
    with serving(right) as server:
        (folder / "evalft.yaml").write_text(
            yaml.safe_dump(
                {
                    "task": {"test": "rows.jsonl", "input": "text", "target": "label"},
                    "providers": {"mock": {"base_url": server.base_url}},
                    "candidates": [{"model": "mock:m", "price": {"input": 1, "output": 2}}],
                    "thresholds": {"accuracy": ">= 0.99"},
                }
            )
        )
        done = evalft("check", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert server.bodies == []
    assert "60" in done.stdout and "cannot be shown to pass" in done.stdout
    assert not (folder / "reports").exists()


def test_decide_changes_the_verdict_and_asks_nothing(folder: Path) -> None:
    run = folder / "run"
    first = evalft(
        "assess", "rows.csv", "--model", "fake:constant=ham", "--threshold", "accuracy >= 0.9", "--out", run, cwd=folder
    )
    assert "Verdict: stop" in first.stdout
    again = evalft("decide", run, "--threshold", "accuracy >= 0.3", cwd=folder)
    assert again.returncode == 0 and "Verdict: ship" in again.stdout, again.stderr


def test_a_run_folder_is_runnable_again_from_anywhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = folder / "run"
    evalft("assess", "rows.csv", "--model", "fake:constant=ham", "--out", run, "--limit", "20", cwd=folder)
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    run.rename(moved)
    (folder / "rows.csv").unlink()
    done = evalft("assess", moved, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_another_digest_in_the_same_out_is_refused(folder: Path) -> None:
    evalft("assess", "rows.csv", "--model", "fake:constant=ham", "--out", "run", cwd=folder)
    done = evalft("assess", "rows.csv", "--model", "fake:constant=spam", "--out", "run", cwd=folder)
    assert done.returncode == 2 and "--out" in done.stderr


def test_fresh_measures_again_and_deletes_nothing(folder: Path) -> None:
    same = ["assess", "rows.csv", "--model", "fake:constant=ham", "--out", "run"]
    evalft(*same, cwd=folder)
    assert evalft(*same, "--fresh", cwd=folder).returncode == 0
    assert (folder / "run.1" / "summary.json").exists() and (folder / "run" / "summary.json").exists()


def test_a_model_is_named_as_it_is_called(folder: Path) -> None:
    """`:m:` is no emoji."""
    configured(folder, "http://127.0.0.1:9/v1")
    assert "- mock:m: input tokens" in evalft("check", cwd=folder).stdout


def test_init_from_data_writes_a_config_that_checks(folder: Path) -> None:
    done = evalft("init", "project", "--from", "rows.csv", "--split", "0.5", cwd=folder)
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((folder / "project" / "evalft.yaml").read_text())
    assert written["task"]["type"] == "classification" and written["task"]["labels"] == ["ham", "spam"]
    counts = [len((folder / "project" / f"{name}.jsonl").read_text().splitlines()) for name in ("test", "train")]
    assert sum(counts) == 60 and min(counts) > 15
    check = evalft("check", "project", "--model", "fake:echo", cwd=folder)
    assert check.returncode == 0, check.stderr
    assert evalft("init", "project", "--from", "rows.csv", cwd=folder).returncode == 2  # never overwritten


def test_terminal_output_fits_80_columns_and_carries_no_escapes(folder: Path) -> None:
    rows = [{"text": f"a \x1b[31mred\x1b[0m {i}", "label": "x\x1b]0;pwned\x07" if i % 2 else "y"} for i in range(40)]
    (folder / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalft("assess", "odd.jsonl", "--model", "fake:constant=y", "--threshold", "accuracy >= 0.9", cwd=folder)
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80


def test_a_cache_that_cannot_be_used_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cache").mkdir()
    (folder / "cache" / "responses.sqlite").write_bytes(b"not a database" * 100)
    monkeypatch.setenv("EVALFT_CACHE", str(folder / "cache"))
    done = evalft("assess", "rows.csv", "--model", "fake:echo", cwd=folder)
    assert done.returncode == 2 and "EVALFT_CACHE" in done.stderr and done.stderr.count("\n") == 1


def test_check_names_a_base_that_is_not_there_and_a_key_that_is_not_set(folder: Path) -> None:
    nowhere = evalft(
        "check", folder / "rows.csv", "--model", "fake:echo", "--set", f"tune.base=hf:{folder}/nowhere", cwd=folder
    )
    assert nowhere.returncode == 2 and "tune.base" in nowhere.stderr and "Traceback" not in nowhere.stderr
    keyless = evalft("check", folder / "rows.csv", "--model", "openai:gpt-5-mini", cwd=folder)
    assert keyless.returncode == 0 and "OPENAI_API_KEY is not set" in " ".join(keyless.stdout.split())


def test_a_run_answered_by_the_cache_imports_neither_the_sdk_nor_scipy_stats(folder: Path) -> None:
    code = (
        "import contextlib, io, sys\n"
        "from evalft.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "print([m for m in ('openai', 'scipy.stats', 'pandas', 'sklearn', 'torch') if m in sys.modules])"
    )
    with serving(right) as server:
        configured(folder, server.base_url, type="generation")
        for out, heavy in (("one", "['openai']"), ("two", "[]")):
            command = [sys.executable, "-c", code, "assess", "--out", out]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
            assert done.stdout.strip() == heavy, done.stderr
        assert len(server.bodies) == len(ROWS)


def test_the_dollars_are_said_again_before_the_first_request(folder: Path) -> None:
    with serving(right) as server:
        configured(folder, server.base_url)
        foretold = " ".join(evalft("check", cwd=folder).stdout.split())
        said = evalft("assess", "--out", "run", cwd=folder).stderr.splitlines()
        (dollars,) = [line for line in said if line.startswith("about $")]
        assert dollars in foretold
        assert said.index(dollars) < next(i for i, line in enumerate(said) if "60/60" in line)
        assert "about $" not in evalft("assess", "--out", "run", cwd=folder).stderr  # nothing is asked


def test_a_file_that_is_not_there_is_what_is_said_first(folder: Path) -> None:
    done = evalft("assess", "nosuch.csv", cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith("error: nosuch.csv: no such file")


def test_a_provider_without_a_key_is_sent_no_authorization_at_all(folder: Path) -> None:
    with serving(right) as server:
        configured(folder, server.base_url)
        assert evalft("assess", cwd=folder).returncode == 0
        assert len(server.headers) == len(ROWS) and not any("Authorization" in headers for headers in server.headers)


@given(st.text(min_size=1))
def test_no_name_makes_a_file_that_reads_like_an_option_or_hides(name: str) -> None:
    assert re.match(r"[A-Za-z0-9_]", slug(name)) and "/" not in slug(name)
