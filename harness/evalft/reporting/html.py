"""A run folder -> report.html: one file that opens anywhere, asks the network for nothing and runs no text it shows.

Every value goes through `text.visible` and Jinja's escaping; the content security policy allows nothing but the style
and script blocks written here, by their hashes, and no script may make markup of text. Without script the page is whole but
for the examples after the first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from evalft.reporting import candidates, charts, row_data, text, view

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

ROWS_WITHOUT_SCRIPT = 50


def render(run: Path) -> str:
    """The page as text (UTF-8 holds all of it). Raises UserError where the folder has no readable summary."""
    return page(view.read(run), charts.read(run))


def page(found: view.View, drawn: charts.Charts) -> str:
    style, script = block("report.css", "examples.css"), block("report.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            view=found,
            style=style,
            script=script,
            policy=policy(style, script),
            first_rows=found.examples.rows[:ROWS_WITHOUT_SCRIPT],
            rows_data=row_data.block(found.examples),
            charts=drawn,
        )
    )


def policy(style: str, script: str | None, more: str = "form-action 'none'") -> str:
    """The content security policy of a page with these blocks, and with no other style or script."""
    scripts = _hash(script) if script else "'none'"
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {scripts}; img-src data:; "
        f"base-uri 'none'; require-trusted-types-for 'script'; {more}"
    )


@cache
def environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("evalft.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    found.filters.update(prose=prose, lang=lang)
    found.globals.update(symbols=view.SYMBOLS, stand_in=candidates.STAND_IN)
    return found


def prose(words: str) -> Markup:
    """A sentence of the report's; what is read from right to left in it, such as a name, is isolated."""
    from markupsafe import Markup, escape

    parts = text.runs_to_the_left(text.visible(words))
    return Markup("").join(Markup("<bdi>{}</bdi>").format(part) if rtl else escape(part) for part, rtl in parts)


def lang(words: str | Iterable[tuple[str, bool]]) -> Markup:
    """The attribute that names the language of a text, or of the pieces of one; nothing where the script does not tell."""
    from markupsafe import Markup

    found = text.language(words if isinstance(words, str) else "".join(piece for piece, _ in words))
    return Markup(f' lang="{found}"' if found else "")


def block(*names: str) -> Markup:
    """Files of this package, as markup: their hash is in the policy, so they must not be changed on the way."""
    from markupsafe import Markup

    return Markup("".join((files("evalft.reporting") / name).read_text(encoding="utf-8") for name in names))


def _hash(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


def _visible(value: object) -> object:
    return text.visible(value) if type(value) is str else value  # markup is a kind of str
