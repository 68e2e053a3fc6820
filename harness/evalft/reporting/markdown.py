"""A run folder -> report.md, for a pull request or a job summary (GitHub-flavoured Markdown).

What others wrote is code (`text.markdown_code`), all other values are escaped prose. Jinja's own escaping is on and every
value reaches it as finished Markdown, so a template cannot forget.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from evalft.reporting import candidates, text, view

if TYPE_CHECKING:
    from jinja2 import Template

MAX_EXAMPLES = 20
MAX_CHARACTERS = 300


def render(run: Path) -> str:
    """Raises UserError where the folder has no readable summary."""
    return page(view.read(run))


def page(found: view.View) -> str:
    missed = [row for row in found.examples.rows if any(answer.mark != "right" for answer in row.answers)]
    return _template().render(
        view=found,
        symbols=view.SYMBOLS,
        stand_in=candidates.STAND_IN,
        missed=missed[:MAX_EXAMPLES],
        missed_total=len(missed),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def escaped(value: object) -> object:
        plain = isinstance(value, str) and not hasattr(value, "__html__")
        return Markup(text.markdown(str(value))) if plain else value

    def code(words: str) -> Markup:
        return Markup(text.markdown_code(text.shortened(words, MAX_CHARACTERS)))

    environment = Environment(
        loader=PackageLoader("evalft.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escaped,
    )
    environment.filters["code"] = code
    return environment.get_template("report.md.j2")
