"""What a command or a call names -> its Config: a config file, a run folder, or a file of rows without a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalft.config import Config, build, load
from evalft.errors import UserError


def configure(
    source: Path | None,
    *,
    out: Path | None = None,
    models: Sequence[str] = (),
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> tuple[Config, Path | None]:
    """The config, and the run folder where one is named. source: None is evalft.yaml here. models: candidates instead of
    the config's; overrides and extra: as for config.load. Raises UserError."""
    extra = dict(extra or {})
    if models:
        extra["candidates"] = [{"name": spec, "model": from_here(spec)} for spec in models]
    if source is None:
        source = Path("evalft.yaml")
        if not source.exists():
            raise UserError(
                "there is no evalft.yaml here; name a config or a data file, or write one with `evalft init`"
            )
    if source.is_dir() and (source / "manifest.json").exists():
        return load(source / "config.yaml", overrides, extra), out or source
    if source.is_dir() and (source / "evalft.yaml").exists():
        source = source / "evalft.yaml"
    if source.suffix in (".yaml", ".yml"):
        return load(source, overrides, extra), out
    if not source.exists() and not str(source).startswith("hf:") and not set(str(source)) & set("*?["):
        raise UserError(f"{source}: no such file; name a config, a run folder or a file of rows")
    if not models:
        raise UserError(
            f"{source}: no candidates; add --model openai:gpt-5-mini or --model hf:FOLDER (or write a config: "
            f"evalft init --from {source})"
        )
    test = str(source) if str(source).startswith("hf:") else str(source.absolute())
    data: dict[str, Any] = {"task": {"test": test}}
    return build(data, source="command line", folder=Path.cwd(), overrides=overrides, extra=extra), out


def from_here(spec: str) -> str:
    """A model folder or a file of answers that is not named in a config is relative to the working folder."""
    kind, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    here = (kind == "hf" and path.is_dir()) or (kind == "file" and rest)
    return f"{kind}:{path.absolute()}" if here else spec
