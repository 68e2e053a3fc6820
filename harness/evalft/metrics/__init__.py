"""Metrics: predictions -> row scores and statistics of weighted rows. One idea per file; `names` is the vocabulary."""

from evalft.metrics.names import available, averaging, check, check_thresholds, defaults, is_macro, lower_is_better

__all__ = ["available", "averaging", "check", "check_thresholds", "defaults", "is_macro", "lower_is_better"]
