"""A run folder -> report.html: one file that opens anywhere, asks the network for nothing and runs no text it shows.

Every value goes through `text.visible` and Jinja's escaping; the content security policy allows nothing but the style
and script blocks written here, by their hashes. Without script the page is whole; the script only filters examples.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from evalft.reporting import candidates, charts, text, view

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


def render(run: Path) -> str:
    """The page as text (UTF-8 holds all of it). Raises UserError where the folder has no readable summary."""
    return page(view.read(run), charts.read(run))


def page(found: view.View, drawn: charts.Charts) -> str:
    style, script = (_block(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _template().render(
        view=found,
        style=style,
        script=script,
        policy=policy,
        symbols=view.SYMBOLS,
        stand_in=candidates.STAND_IN,
        charts=drawn,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("evalft.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    return environment.get_template("report.html.j2")


def _block(name: str) -> Markup:
    """A file of this package, as markup: its hash is in the policy, so it must not be changed on the way."""
    from markupsafe import Markup

    return Markup((files("evalft.reporting") / name).read_text(encoding="utf-8"))


def _hash(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


def _visible(value: object) -> object:
    return text.visible(value) if type(value) is str else value  # markup is a kind of str
