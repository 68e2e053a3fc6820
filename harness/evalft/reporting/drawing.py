"""A Vega-Lite chart (altair) -> SVG in the page's own colours and fonts (vl-convert; no network, no script).

The SVG keeps the light colours that stand here as presentation attributes, which a strict content security policy allows
and a style sheet overrides: report.css maps each of them to a variable, for dark pages and for print. So a chart may use
no other colours. What Vega says to screen readers mark by mark is left out: the chart is one picture with a description, and
its figures stand in a table beside it.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

INK, SOFT, LINE, ACCENT = "#1c2126", "#5b6570", "#dde1e5", "#0f5c7a"
STATUS = {"pass": "#1d6b3f", "fail": "#a5301f", "undecided": "#7a5900"}
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe & Ito (2008), "Color universal design": apart for all kinds of colour vision. Black and yellow are left out, which
vanish on a dark and on a light page."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 4))
"""Shapes, dashes and colours have lengths without a common factor, so that many candidates differ in one of them."""
COLOURS = frozenset((INK, SOFT, LINE, ACCENT, *STATUS.values(), *SERIES))

_FONT = "Liberation Sans"
"""Part of vl-convert: room is left for texts of this width on every machine, and report.css asks for fonts as wide."""
_CONFIG: dict[str, Any] = {
    "aria": False,
    "background": None,
    "font": _FONT,
    "view": {"stroke": LINE},
    "axis": {
        "labelColor": INK,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelLimit": 260,
    },
    "legend": {"labelColor": INK, "titleColor": SOFT, "labelFontSize": 12, "labelLimit": 620, "symbolSize": 90},
    "header": {"labelColor": INK, "labelFontSize": 12, "labelLimit": 300, "title": None},
    "text": {"color": INK, "fontSize": 12, "font": _FONT},
    "rule": {"color": SOFT},
}
_OPENING = re.compile(r'<svg\b[^>]* (width="[^"]*" height="[^"]*" viewBox="[^"]*")>')
_UNUSED = re.compile(r' (?:role|class|version|pointer-events|font-family|aria-[a-z]+)="[^"]*"| opacity="1"')
_LONG = re.compile(r"(\d+\.\d\d)\d+")


def svg(chart: alt.TopLevelMixin, description: str) -> str:
    """The <svg> element. `description` is what those hear who do not see it."""
    import altair
    import vl_convert

    spec = chart.to_dict(validate=False) | {"config": _CONFIG}  # the tests hold charts against Vega-Lite's schema
    major_minor = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=major_minor)
    opening = _OPENING.match(drawn)
    assert opening, "vl-convert writes an <svg> with its size"
    body = re.sub(r"<[^>]*>", lambda tag: _LONG.sub(r"\1", _UNUSED.sub("", tag[0])), drawn[opening.end() :])
    return f'<svg class="chart" {opening[1]} role="img" aria-label="{html.escape(description)}">{body}'
