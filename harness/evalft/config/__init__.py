"""evalft.yaml -> Config: config is data, every fault is reported at once with its line, nothing is guessed.

The reader is YAML 1.2 in spirit: only `true` and `false` are booleans, `012` and `1_000` stay text, a key given twice is
an error. Text fields keep what the file says (`labels: [1.10, yes, 012]` are three strings). Keys (secrets) never stand
in a config: only the name of the environment variable does.

    sections       what each section may hold        loading       a file and overrides -> Config
    consistency    what sections say of each other
"""

from __future__ import annotations

from evalft.config.loading import build, load
from evalft.config.sections import (
    PROVIDER_KINDS,
    CandidateConfig,
    Config,
    DecideConfig,
    JudgeConfig,
    LimitsConfig,
    LoraConfig,
    MetricSpec,
    PriceConfig,
    ProviderConfig,
    ShotsConfig,
    TaskConfig,
    Threshold,
    TuneConfig,
    as_data,
    digest,
    dump,
    holds_password,
    is_given,
    parse_threshold,
    shown_spec,
)

__all__ = [
    "PROVIDER_KINDS", "CandidateConfig", "Config", "DecideConfig", "JudgeConfig", "LimitsConfig", "LoraConfig", "MetricSpec",
    "PriceConfig", "ProviderConfig", "ShotsConfig", "TaskConfig", "Threshold", "TuneConfig", "as_data", "build", "digest", "dump",
    "holds_password", "is_given", "load", "parse_threshold", "shown_spec",
]  # fmt: skip
