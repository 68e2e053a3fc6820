"""`hf:owner/name:split`, or a folder of that kind on disk -> rows, through the `datasets` package (extra `local`).

No code of a data set is run: the package reads data files only.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalft.errors import UserError
from evalft.testset.parquet_rows import plain_row
from evalft.testset.rows import Table

SPLITS = {"test": ("test",), "dev": ("validation", "dev", "valid"), "train": ("train",)}
"""The split of a role that the spec does not name, by its usual names."""
SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` leaves in a folder, of several splits or of one."""


def is_dataset(folder: Path) -> bool:
    """Whether a folder is one of the hub's kind: written by `save_to_disk`, or a repository, whose README.md has a head
    of YAML that says which files are which split, or that keeps them in data/."""
    if any((folder / name).is_file() for name in SAVED):
        return True
    readme = folder / "README.md"
    if not readme.is_file():
        return False
    head = readme.read_text(encoding="utf-8", errors="replace")[:100_000]
    described = bool(re.search(r"^(configs|dataset_info):", head, re.MULTILINE)) or (folder / "data").is_dir()
    return bool(re.match(r"---\s*\n", head)) and described


def name_of(spec: str) -> str:
    """What a task on `hf:owner/name:split` is called: name."""
    return Path(_parts(spec)[0]).name


def read(spec: str, role: str) -> Table:
    """`spec` is hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT, NAME a hub id or a folder."""
    table = Table(spec)
    name, config, split = _parts(spec)
    try:
        import datasets
    except ImportError:
        raise UserError(f"{spec}: needs the `datasets` package; run: pip install 'evalft[local]'") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not the user's to read
    datasets.disable_progress_bars()
    try:
        # rows of a folder are here already: what the package makes of them is not kept beside the cache of hub downloads
        with TemporaryDirectory() if Path(name).is_dir() else nullcontext() as scratch:
            data = _load(datasets, table, name, config, split, role, scratch)
            features = data.features
            for number, row in enumerate(data, 1):
                table.add(number, plain_row({column: _named(value, features[column]) for column, value in row.items()}))
            del data  # its files are in the scratch folder
    except UserError:
        raise
    except ConnectionError as error:
        raise UserError(
            f"{spec}: the Hugging Face hub cannot be reached ({_line(error)}); check the network and the name, or name a folder"
        ) from None
    except Exception as error:  # name, split, format: the package raises what its dependencies raise
        raise UserError(f"{spec}: cannot be loaded: {_line(error)}; check the name and the split") from None
    table.columns = dict.fromkeys(features)
    named = [column for column in features if _class_names(features[column])]
    if named:
        table.notes.append(f"{spec}: the numbers in {', '.join(named)} are replaced by the data set's own class names")
    return table


def _parts(spec: str) -> tuple[str, str | None, str | None]:
    """(name, config, split) of hf:NAME[[:CONFIG]:SPLIT]."""
    name, *rest = spec.removeprefix("hf:").split(":")
    if len(rest) > 2:
        raise UserError(f"{spec}: write hf:owner/name:split, or hf:owner/name:config:split")
    return name, rest[0] if len(rest) == 2 else None, rest[-1] if rest and rest[-1] else None


def _load(
    datasets: Any, table: Table, name: str, config: str | None, split: str | None, role: str, cache_dir: str | None
) -> Any:
    """One split, of a saved folder or through the package's own readers; which one, where the spec leaves it open, is noted."""
    folder = Path(name)
    if (folder / "state.json").is_file():
        if split:
            raise UserError(f"{table.path}: was saved without splits; leave :{split} away")
        table.notes.append(f"{table.path}: saved without splits, all of its rows")
        return datasets.load_from_disk(name)
    saved = (folder / "dataset_dict.json").is_file()
    if split is None:
        names = list(json.loads((folder / "dataset_dict.json").read_text())["splits"]) if saved else None
        split = _split_of(table, role, names or datasets.get_dataset_split_names(name, config))
    if not saved:
        return datasets.load_dataset(name, config, split=split, cache_dir=cache_dir)
    found = datasets.load_from_disk(name)
    if split not in found:
        raise UserError(f"{table.path}: has no split {split!r}; it has {', '.join(found)}")
    return found[split]


def _split_of(table: Table, role: str, names: Sequence[str]) -> str:
    found = next((split for split in SPLITS[role] if split in names), None)
    if found is None:
        raise UserError(
            f"{table.path}: has no {role} split, only {', '.join(names)}; name one, for example {table.path}:{names[0]}"
        )
    table.notes.append(f"{table.path}: split {found!r}")
    return found


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel column, or of a list of them."""
    inner = getattr(feature, "feature", feature)
    names: list[str] | None = getattr(inner, "names", None)
    return names


def _named(value: Any, feature: Any) -> Any:
    names = _class_names(feature)
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, feature) for item in value]
    return names[value] if isinstance(value, int) and value >= 0 else None  # -1 marks a row without a label
