"""evalft.yaml and what stands over it -> Config, or every fault with its line and the nearest valid key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from evalft import yaml_data
from evalft.config import consistency
from evalft.config.sections import CandidateConfig, Config, holds_password
from evalft.errors import UserError
from evalft.yaml_data import Place, dotted


def load(path: Path, overrides: Sequence[str] = (), extra: Mapping[str, Any] | None = None) -> Config:
    """Read evalft.yaml. `overrides` are `dotted.key=YAML value`; `extra` replaces or adds whole values by dotted key
    (what other command-line options said). Raises UserError with every fault, each with its line and nearest key."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `evalft init` writes one") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the evalft.yaml in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    data, lines = yaml_data.parse(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a mapping of sections such as `task:`; `evalft init` writes an example")
    return build(data, source=str(path), folder=path.parent, lines=lines, overrides=overrides, extra=extra)


def build(
    data: dict[str, Any],
    *,
    source: str,
    folder: Path,
    lines: Mapping[Place, int] | None = None,
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Config:
    """A Config from plain data; paths in it are resolved against `folder`."""
    said = dict(lines or {})
    for key, value in (extra or {}).items():
        _set(data, key, value, f"option {key}", said)
    for override in overrides:
        _apply_override(data, override, said)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise UserError(*_faults(error, data, source, said)) from None
    faults = consistency.faults(config, lambda *place: _where(place, source, said))
    if faults:
        raise UserError(*faults)
    return _with_absolute_paths(config, folder)


def _apply_override(data: dict[str, Any], override: str, said: dict[Place, int]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override}: write --set key=value, for example --set limits.timeout_s=30")
    # a prompt, which YAML would read as a mapping in a mapping, or a threshold, which it would read as a folded text
    as_it_is = text.lstrip().startswith(("{{", "{%", ">=", "<="))
    value = text if as_it_is else yaml_data.parse(text, f"--set {key}")[0]
    _set(data, key.strip(), value, f"--set {key}", said)


def _set(data: dict[str, Any], key: str, value: Any, said_by: str, said: dict[Place, int]) -> None:
    """Put `value` at the dotted `key`; no line of the file says it any more, but the command line: line 0 of `said`."""
    parts = key.split(".")
    _put(data, parts, value, said_by)
    place = tuple(int(part) if part.isdigit() else part for part in parts)
    for end in range(1, len(place)):
        said.setdefault(place[:end], 0)  # a section that no line of the file opens
    for known in [known for known in said if known[: len(place)] == place]:
        del said[known]
    said[place] = 0


def _put(data: Any, parts: Sequence[str], value: Any, said_by: str) -> None:
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(data, list):
            if not part.isdigit() or int(part) >= len(data):
                names = f"an index from 0 to {len(data) - 1}" if data else "nothing: the list is empty"
                raise UserError(f"{said_by}: {dotted(parts[:depth])} is a list; {part!r} should be {names}")
            if last:
                data[int(part)] = value
            else:
                data = data[int(part)]
        elif isinstance(data, dict):
            if last:
                data[part] = value
            else:
                if data.get(part) is None:
                    data[part] = {}
                data = data[part]
        else:
            raise UserError(f"{said_by}: {dotted(parts[:depth])} is a value, not a section")


def _faults(error: ValidationError, data: object, source: str, lines: Mapping[Place, int]) -> list[str]:
    return [_fault(dict(fault), data, source, lines) for fault in error.errors(include_url=False)]


def _fault(fault: dict[str, Any], data: object, source: str, lines: Mapping[Place, int]) -> str:
    place: Place = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "literal[")))
    where = _where(place, source, lines)
    key = dotted(place)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys_at(place[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(_keys_at(place[:-1]))}"
        return f"{where}: unknown key {key!r}; {hint}"
    if fault["type"] == "missing":
        return f"{where}: key {key!r} is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = _shown(fault.get("input"))
    return f"{where}: {key}: {message}{given}" if key else f"{where}: {message}{given}"


def _shown(value: object) -> str:
    if isinstance(value, str) and holds_password(value):
        return ""
    if value is None or isinstance(value, dict | list):
        return ""
    return f" (it is {str(value)[:60]!r})"


def _where(place: Place, source: str, lines: Mapping[Place, int]) -> str:
    for end in range(len(place), -1, -1):
        line = lines.get(place[:end])
        if line == 0:
            return "command line"
        if line is not None:
            return f"{source}:{line}"
    return source


def _keys_at(place: Place) -> list[str]:
    """The keys that the section at `place` knows, read from the models."""
    model: Any = Config
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            continue
        model = next((found for found in _models_in(field.annotation)), None)
    return list(model.model_fields) if model is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


# ---------------------------------------------------------------- paths


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    def data_path(path: str | None) -> str | None:
        if path is not None and path.startswith("hf:"):  # a hub id, unless there is such a folder beside the config
            name, colon, split = path[3:].partition(":")
            return f"hf:{(folder / name).absolute()}{colon}{split}" if name and (folder / name).is_dir() else path
        return None if path is None else str((folder / Path(path).expanduser()).absolute())

    def model_spec(spec: str | None) -> str | None:
        """`hf:base` is the folder `base` beside the config where there is one, else a hub id; `file:` is a file."""
        if spec is not None and spec.startswith("file:"):
            return f"file:{os.path.abspath(folder / Path(spec[5:]).expanduser())}"
        if spec is None or not spec.startswith("hf:"):
            return spec
        path = folder / Path(spec[3:]).expanduser()
        return f"hf:{path.absolute()}" if path.is_dir() or spec[3:].startswith((".", "/", "~")) else spec

    task = config.task
    paths = {name: data_path(getattr(task, name)) or getattr(task, name) for name in ("test", "train", "dev")}

    def absolute(candidate: CandidateConfig) -> CandidateConfig:
        return candidate.model_copy(
            update={
                "model": model_spec(candidate.model),
                "adapter": (model_spec(f"hf:{candidate.adapter}") or "")[3:] if candidate.adapter else None,
            }
        )

    judge = config.judge
    if judge is not None:
        judges = [absolute(one) for one in judge.model]
        judge = judge.model_copy(update={"model": judges, "human": data_path(judge.human)})
    return config.model_copy(
        update={
            "task": task.model_copy(update=paths),
            "candidates": [absolute(candidate) for candidate in config.candidates],
            "judge": judge,
            "tune": config.tune.model_copy(update={"base": model_spec(config.tune.base)}),
            "expand": config.expand.model_copy(
                update={
                    "teacher": model_spec(config.expand.teacher),
                    "embedder": model_spec(config.expand.embedder),
                }
            ),
        }
    )
