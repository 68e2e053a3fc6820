"""Writes docs/commands.md and docs/config.md from the program itself: `python docs/make_reference.py`. A test compares."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from evalft import cli
from evalft.config import Config

HERE = Path(__file__).parent
MADE = "Written by `python docs/make_reference.py`; change the program, not this page."
WIDTH = 100


def commands() -> str:
    parts = [f"# Commands\n\n{MADE}\n"]
    for name in sorted(cli.group.commands):
        command = cli.group.commands[name]
        whole = click.Context(cli.group, info_name="evalft", terminal_width=WIDTH, **cli.group.context_settings)
        context = click.Context(command, parent=whole, info_name=name, terminal_width=WIDTH)
        parts.append(f"## evalft {name}\n\n```text\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def config() -> str:
    head = (
        "# evalft.yaml\n\n"
        + MADE
        + " What each key means is told in the README.\n\n| key | type | default |\n|---|---|---|\n"
    )
    return head + "".join(f"| `{key}` | {kind} | {default} |\n" for key, kind, default in _keys(Config, "", {}))


def _keys(section: type[BaseModel], before: str, told: dict[type[BaseModel], str]) -> Iterator[tuple[str, str, str]]:
    """Of each key its name, what it takes and its default; a section that stands in several places is told once."""
    for name, field in section.model_fields.items():
        key = before + (field.alias or name)
        inner, way = _section(field.annotation)
        if inner is not None and inner in told:
            yield key, f"keys of `{told[inner]}`", ""
        elif inner is not None:
            told[inner] = (key + way).removesuffix(".")
            yield from _keys(inner, key + way, told)
        else:
            yield key, _kind(field.annotation), _default(field.get_default(call_default_factory=True))


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that a key holds, and how its keys are written below it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, "."
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _section(arguments[0])
    if origin in (typing.Union, types.UnionType) and type(None) in arguments and len(arguments) == 2:
        return _section(next(one for one in arguments if one is not type(None)))
    if origin in (list, dict):
        inner, _ = _section(arguments[-1])
        return inner, "[]." if origin is list else ".NAME."
    return None, ""


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not type(None))
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping to {_kind(arguments[-1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "needed"
    if value is None or value == [] or value == {} or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list) else f"`{value}`"


if __name__ == "__main__":
    (HERE / "commands.md").write_text(commands(), encoding="utf-8")
    (HERE / "config.md").write_text(config(), encoding="utf-8")
