"""Several p-values looked at together: Holm (1979), "A simple sequentially rejective multiple test procedure"."""

from __future__ import annotations

from collections.abc import Mapping


def adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each p-value as if it had been the only one: comparing these with alpha errs in any of them with at most alpha."""
    found: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        found[name] = largest
    return {name: found[name] for name in p_values}
