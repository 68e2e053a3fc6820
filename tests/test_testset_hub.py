"""Rows from folders of the hub's kind on disk: written by `save_to_disk`, or repositories whose README names their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalft import config, starting, testset
from evalft.config import TaskConfig
from evalft.errors import UserError

datasets = pytest.importorskip("datasets")

SIZES = {"train": 20, "validation": 8, "test": 6}


@pytest.fixture
def splits() -> dict[str, Any]:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    return {
        name: datasets.Dataset.from_list(
            [{"text": f"{name} message {i}", "label": i % 2} for i in range(size)], features=features
        )
        for name, size in SIZES.items()
    }


def repository(folder: Path, splits: dict[str, Any], suffix: str) -> Path:
    (folder / "data").mkdir(parents=True)
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name, data in splits.items():
        file = folder / "data" / f"{name}-00000-of-00001.{suffix}"
        data.to_parquet(file) if suffix == "parquet" else data.to_csv(file)
        lines += [f"  - split: {name}", f"    path: data/{name}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", "# Mail"]))
    return folder


def sizes(loaded: testset.TestSet) -> tuple[int, int, int]:
    return len(loaded.train), len(loaded.dev), len(loaded.test)


@pytest.mark.parametrize("prefix", ["", "hf:"])
@pytest.mark.parametrize("kind", ["saved", "parquet", "csv"])
def test_a_folder_gives_each_role_its_split(tmp_path: Path, splits: dict[str, Any], kind: str, prefix: str) -> None:
    folder = tmp_path / "mail"
    if kind == "saved":
        datasets.DatasetDict(splits).save_to_disk(folder)
    else:
        repository(folder, splits, kind)
    path = f"{prefix}{folder}"
    loaded = testset.load(TaskConfig(test=path, dev=path, train=path))
    assert sizes(loaded) == tuple(SIZES.values())
    assert loaded.task.name == "mail"
    assert loaded.test[0].input == "test message 0"
    assert loaded.task.labels == (["0", "1"] if kind == "csv" else ["ham", "spam"])
    assert any("split 'validation'" in line for line in loaded.assumed)


def test_a_repository_without_a_list_of_files_is_read_by_their_names(tmp_path: Path, splits: dict[str, Any]) -> None:
    folder = repository(tmp_path / "mail", splits, "parquet")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mail\n")
    path = str(folder)
    assert sizes(testset.load(TaskConfig(test=path, dev=path, train=path))) == tuple(SIZES.values())


def test_init_from_such_a_folder_writes_a_config_that_finds_it(
    tmp_path: Path, splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "mail")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    given: dict[str, Any] = dict.fromkeys(("split", "input_column", "target_column", "task_type"))
    starting.from_data(Path("hf:mail:test"), tmp_path / "project", **given)
    monkeypatch.chdir("/")
    loaded = config.load(tmp_path / "project" / "evalft.yaml")
    assert len(testset.load(loaded.task).test) == SIZES["test"]


def test_a_lone_saved_data_set_is_all_of_its_rows(tmp_path: Path, splits: dict[str, Any]) -> None:
    splits["test"].save_to_disk(tmp_path / "lone")
    loaded = testset.load(TaskConfig(test=str(tmp_path / "lone")))
    assert len(loaded.test) == SIZES["test"] and any("without splits" in line for line in loaded.assumed)
    with pytest.raises(UserError, match="leave :test away"):
        testset.load(TaskConfig(test=f"hf:{tmp_path}/lone:test"))


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_split_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, splits: dict[str, Any], kind: str
) -> None:
    only = {"train": splits["train"]}
    folder = tmp_path / "mail"
    if kind == "saved":
        datasets.DatasetDict(only).save_to_disk(folder)
    else:
        repository(folder, only, "parquet")
    with pytest.raises(UserError, match=r"has no test split, only train; name one, for example hf:.*mail:train"):
        testset.load(TaskConfig(test=f"hf:{folder}"))
    with pytest.raises(UserError, match=r"train"):
        testset.load(TaskConfig(test=f"hf:{folder}:tset"))
    assert len(testset.load(TaskConfig(test=f"hf:{folder}:train")).test) == SIZES["train"]


def test_rows_changed_on_disk_are_read_as_they_are_now(tmp_path: Path, splits: dict[str, Any]) -> None:
    folder = repository(tmp_path / "mail", splits, "csv")
    before = testset.load(TaskConfig(test=str(folder)))
    file = folder / "data" / "test-00000-of-00001.csv"
    file.write_text(file.read_text().replace("test message 0", "another text 0"))
    after = testset.load(TaskConfig(test=str(folder)))
    assert (before.test[0].input, after.test[0].input) == ("test message 0", "another text 0")


def test_a_folder_beside_the_config_is_found_from_anywhere(
    tmp_path: Path, splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "project" / "mail")
    (tmp_path / "project" / "evalft.yaml").write_text(
        "task: {test: 'hf:mail:test'}\ncandidates: [{model: 'fake:echo'}]\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = config.load(tmp_path / "project" / "evalft.yaml")
    assert len(testset.load(loaded.task).test) == SIZES["test"]


def test_a_folder_of_data_files_with_an_ordinary_readme_is_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Notes\n\nconfigs: none\n")
    (tmp_path / "test.csv").write_text("text,label\na,ham\nb,spam\n")
    assert len(testset.load(TaskConfig(test=str(tmp_path))).test) == 2


def test_a_hub_that_cannot_be_reached_is_one_line_that_names_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hub cannot be reached.*check the network") as error:
        testset.load(TaskConfig(test="hf:owner/name:test"))
    assert len(error.value.faults) == 1


def test_too_many_parts_in_a_spec_are_refused() -> None:
    with pytest.raises(UserError, match="config:split"):
        testset.load(TaskConfig(test="hf:owner/name:a:b:c"))
