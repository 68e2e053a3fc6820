"""Plug-ins: metrics, candidates and reporters of installed packages, named `package:name` in a config.

A config is data, so it names what is installed and nothing else: an entry point `name` of the distribution `package` in the
group evalft.metrics, evalft.candidates or evalft.reporters (PyPA entry points specification), never a dotted path. What
a plug-in raises, and what it gives that is no answer to what was asked, is a UserError that names it and its version.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from evalft.errors import UserError

Kind = Literal["metrics", "candidates", "reporters"]
_NAME = re.compile(r"[a-z0-9-]+:[\w-]+")


@dataclass(frozen=True, slots=True)
class Plugin:
    name: str
    """package:name"""
    version: str
    made: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        try:
            return self.made(*arguments, **options)
        except Exception as error:
            raise self.wrong(f"raised {type(error).__name__}: {error}") from error

    def wrong(self, what: str) -> UserError:
        return UserError(f"plug-in {self.name} {self.version}: {' '.join(what.split())}; its author can help")


def is_one(name: str) -> bool:
    """Whether a metric's name is a plug-in's."""
    return ":" in name


def fault(kind: Kind, name: str) -> str | None:
    """Why there is no such plug-in; None where there is. Loads nothing."""
    try:
        _find(kind, name)
    except UserError as error:
        return str(error)
    return None


def version(kind: Kind, name: str) -> str:
    """Of the package; part of every digest and cache key that the plug-in bears on. Raises UserError."""
    return _version(_find(kind, name))


def load(kind: Kind, name: str) -> Plugin:
    """Raises UserError where it is not installed, cannot be imported or is nothing to call."""
    found = _find(kind, name)
    nothing = Plugin(name, _version(found), lambda: None)
    try:
        made = found.load()
    except Exception as error:
        raise nothing.wrong(f"cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise nothing.wrong(f"{found.value} is {type(made).__name__}, nothing to call")
    return Plugin(name, nothing.version, made)


def _find(kind: Kind, name: str) -> EntryPoint:
    installed = {f"{_canonical(one)}:{one.name}": one for one in entry_points(group=f"evalft.{kind}")}
    if name in installed:
        return installed[name]
    package = name.partition(":")[0]
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no plug-in's name; write package:name, as in my-metrics:politeness")
    others = ", ".join(sorted(installed)) or "none"
    raise UserError(f"plug-in {name!r} is not installed ({kind} that are: {others}); pip install {package}")


def _canonical(one: EntryPoint) -> str:
    """The distribution's name as package indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", one.dist.name).lower() if one.dist else ""


def _version(one: EntryPoint) -> str:
    return one.dist.version if one.dist else "unknown"
