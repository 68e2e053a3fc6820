"""`hf:owner/name:split` -> rows, through the `datasets` package (extra `local`). No code of a data set is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalft.errors import UserError
from evalft.testset.parquet_rows import plain_row
from evalft.testset.rows import Table


def read(spec: str, role: str) -> Table:
    """`spec` is hf:NAME[:SPLIT], NAME a hub id or a folder; the split defaults to the role (validation for dev)."""
    table = Table(spec)
    name, _, split = spec.removeprefix("hf:").partition(":")
    if not split:
        split = {"dev": "validation"}.get(role, role)
        table.notes.append(f"{spec}: split {split!r}")
    try:
        import datasets
    except ImportError:
        raise UserError(f"{spec}: needs the `datasets` package; run: pip install 'evalft[local]'") from None
    try:
        if (Path(name) / "dataset_dict.json").exists():
            data = datasets.load_from_disk(name)[split]
        else:
            data = datasets.load_dataset(name, split=split)
        features = data.features
        for number, row in enumerate(data, 1):
            table.add(number, plain_row({column: _named(value, features[column]) for column, value in row.items()}))
    except Exception as error:  # network, name, split, format: the package raises what its dependencies raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{spec}: cannot be loaded: {reason[:200]}; check the name and the split") from None
    table.columns = dict.fromkeys(features)
    named = [column for column in features if _class_names(features[column])]
    if named:
        table.notes.append(f"{spec}: the numbers in {', '.join(named)} are replaced by the data set's own class names")
    return table


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
