"""evalft.yaml is data: every fault at once with its line, labels stay text, nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalft import config, yaml_data
from evalft.errors import UserError

GOOD = """\
task: {name: t, test: test.jsonl}
candidates:
  - {model: "openai:gpt-5-mini"}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> config.Config:
    file = tmp_path / "evalft.yaml"
    file.write_text(text, encoding="utf-8")
    return config.load(file, overrides)


def faults(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.faults]


def test_labels_stay_as_they_are_written(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD.replace("name: t", "labels: [yes, no, 012, 1.10, true, null_, 1e3, 0x1F, 1_000]"))
    assert found.task.labels == ["yes", "no", "012", "1.10", "true", "null_", "1e3", "0x1F", "1_000"]


def test_every_fault_is_reported_at_once_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    text = GOOD + "thresholds: {accuracy: 0.9}\nlimits: {max_cost: 3, timeout_s: -1}\nreprot: {}\n"
    found = faults(tmp_path, text)
    assert [line.split(": ")[0] for line in found] == [f"evalft.yaml:{n}" for n in (4, 5, 5, 6)]
    assert any("'limits.max_cost'" in line and "'max_cost_usd'" in line for line in found)
    assert any("'reprot'" in line and "'report'" in line for line in found)


def test_a_key_given_twice_is_a_fault(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, GOOD + "limits: {timeout_s: 1}\nlimits: {timeout_s: 2}\n")
    assert "evalft.yaml:5" in line and "line 4" in line


@pytest.mark.parametrize(
    "text",
    [
        "task: !!python/object/apply:os.system ['touch pwned']",
        "task: !include other.yaml",
        "a: &x [1]\nb: *x",
        "task: [",
        "\t- x",
        "just text",
        "",
        "a: " + "[" * 3000,
        "? [1, 2]\n: 3",
    ],
)
def test_what_is_not_plain_data_is_one_line(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all("evalft.yaml" in line for line in faults(tmp_path, text))
    assert not (tmp_path / "pwned").exists()


def test_set_takes_yaml_values_at_dotted_paths(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD, "candidates.0.shots=4", "limits.timeout_s=2.5", "task.labels=[no, 07]")
    assert (found.candidates[0].shots.count, found.limits.timeout_s, found.task.labels) == (4, 2.5, ["no", "07"])


def test_a_wrong_set_names_the_option(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD, "limits.timeout=3")[0].startswith("command line: unknown key 'limits.timeout'")
    assert "--set candidates.4.shots" in faults(tmp_path, GOOD, "candidates.4.shots=1")[0]
    assert "--set novalue" in faults(tmp_path, GOOD, "novalue")[0]


def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "sk-" + "a1" * 40
    text = GOOD + f'providers: {{p: {{base_url: "http://x/v1", api_key_env: {secret}}}}}\n'
    (line,) = faults(tmp_path, text)
    assert "environment variable" in line and secret not in line


def test_two_candidates_of_one_name_are_a_fault(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, GOOD + '  - {model: "openai:gpt-5-mini", temperature: 1}\n')
    assert "evalft.yaml:4" in line and "name" in line


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "sub" / "base").mkdir(parents=True)
    text = "task: {test: rows/test.jsonl}\ncandidates: [{model: hf:base}, {model: hf:owner/name}]\n"
    found = load(tmp_path / "sub", text)
    assert found.task.test == str(tmp_path / "sub" / "rows" / "test.jsonl")
    assert [candidate.model for candidate in found.candidates] == [f"hf:{tmp_path}/sub/base", "hf:owner/name"]
    assert found.candidates[0].name == "hf:base"


def test_the_written_form_reads_back_as_the_same_config(tmp_path: Path) -> None:
    text = GOOD + 'thresholds: {accuracy: ">= 0.9"}\ndecide: {queries_per_month: 5e5}\n'
    first = load(
        tmp_path,
        text.replace("name: t", "name: t, labels: [012, yes], metrics: [accuracy, {numeric: {tolerance: 0.1}}]"),
    )
    again = load(tmp_path, config.dump(config.as_data(first)))
    assert again == first


@given(st.text(max_size=300))
def test_no_text_gives_anything_but_a_config_or_a_user_error(text: str) -> None:
    try:
        data, _ = yaml_data.parse(text, "evalft.yaml")
        config.build(data if isinstance(data, dict) else {}, source="evalft.yaml", folder=Path("/"))
    except UserError as error:
        assert error.faults


@pytest.mark.parametrize("text", ["> 0.9", ">= x", "0.9", ">= 0.9 or so", ">= nan", "== 1"])
def test_a_threshold_is_a_side_and_a_number(tmp_path: Path, text: str) -> None:
    (line,) = faults(tmp_path, GOOD + f"thresholds: {{accuracy: '{text}'}}\n")
    assert "evalft.yaml:4" in line


@pytest.mark.parametrize("base", ["openai:gpt-5", "models/base"])
def test_only_an_open_model_can_be_the_base_of_a_training(tmp_path: Path, base: str) -> None:
    (line,) = faults(tmp_path, GOOD + f"tune: {{base: '{base}'}}\n")
    assert "evalft.yaml:4" in line and "tune.base" in line and "hf:FOLDER" in line


@pytest.mark.parametrize(
    ("key", "instead"),
    [("max_tokens", "max_tokens"), ("max_completion_tokens", "max_tokens"), ("n", "samples"), ("model", "model"),
     ("temperature", "temperature"), ("messages", "remove it"), ("stream", "remove it"), ("logprobs", "remove it")],
)  # fmt: skip
def test_an_extra_field_does_not_override_what_is_sent_and_reserved_for(tmp_path: Path, key: str, instead: str) -> None:
    extra = f'candidates:\n  - {{model: "openai:gpt-5-mini", extra_body: {{{key}: 9}}}}\n'
    (line,) = faults(tmp_path, "task: {test: t}\n" + extra)
    assert line.startswith(f"evalft.yaml:3: candidates.0.extra_body.{key}") and instead in line


def test_options_of_a_chat_template_are_a_mapping(tmp_path: Path) -> None:
    (line,) = faults(
        tmp_path, "task: {test: t}\ncandidates: [{model: 'hf:m', extra_body: {chat_template_kwargs: 5}}]\n"
    )
    assert "evalft.yaml:2" in line and "chat_template_kwargs" in line


def test_a_model_folder_is_shown_below_the_working_folder_or_whole_but_never_by_way_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert config.shown_spec(f"hf:{here}/run/../models/tiny") == "hf:models/tiny"
    assert config.shown_spec(f"hf:{here}/run/../../models/tiny") == f"hf:{tmp_path}/models/tiny"
    assert config.shown_spec("hf:owner/name") == "hf:owner/name"
    assert config.shown_spec("openai:../m") == "openai:../m"


def test_a_threshold_can_be_set_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "evalft.yaml").write_text("task: {test: a.csv}\ncandidates: [{model: 'fake:echo'}]\n")
    found = config.load(tmp_path / "evalft.yaml", ["thresholds.accuracy=>= 0.9", "thresholds.cost_per_query=<= 0.01"])
    assert found.thresholds == {"accuracy": ">= 0.9", "cost_per_query": "<= 0.01"}
