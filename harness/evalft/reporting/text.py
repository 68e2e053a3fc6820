"""Text that others wrote (model answers, rows, labels, names, messages) made safe to show.

What a terminal, a browser or a Markdown renderer would act on instead of showing is taken out or made visible:

- `visible`: control, bidirectional and invisible characters and lone surrogates become "[U+202E]"; for HTML, whose
  markup Jinja escapes (an escape sequence then reads "[U+001B][31m").
- `printable`: terminal escape sequences are removed first; for the terminal.
- `markdown`, `markdown_code`: printable, on one line, with nothing left that Markdown or HTML gives a meaning.
"""

from __future__ import annotations

import re

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clear
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS ...: title, clipboard, link
    r"|\x1b[ -/]*[0-~]"  # all others
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and newline
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # bidirectional and zero-width (joiners are letters' own)
    "\u2028\u2029\U000e0000-\U000e007f\ud800-\udfff]"  # line separators, invisible tags, lone surrogates
)
_MARKDOWN = re.compile(
    r"[\\`*_{}\[\]<>|~&$#!@]"  # structure anywhere (and GitHub's math, mentions and issue numbers)
    r"|(?<=:)//|(?<=\bwww)\."  # bare links
    r"|^[-+=]",  # a line's start: bullets, rules, headings
    re.IGNORECASE,
)
FORMULA_STARTS = tuple("=+-@\t\n＝＋－＠")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_PLAIN_CODE = re.compile(r"[\w .,:;/+=()%-]+")


def visible(text: str) -> str:
    if text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text.replace("\r\n", "\n"))


def printable(text: str) -> str:
    return visible(_ESCAPE_SEQUENCE.sub("", text))


def shortened(text: str, characters: int) -> str:
    """At most `characters` of it, and how many more there are."""
    more = len(text) - characters
    return text if more <= 0 else f"{text[:characters]} … [{more:,} more characters]"


def cell(text: str) -> str:
    """For a CSV: no spreadsheet computes it, and nothing in it is invisible."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(FORMULA_STARTS) else shown


def one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ⏎ ", text.strip())


def markdown(text: str) -> str:
    """Prose on one line, with a backslash before each character that has a meaning."""
    line = _MARKDOWN.sub(lambda found: "".join(f"\\{c}" for c in found[0]), one_line(printable(text)))
    return _NUMBERED.sub(r"\1\\\2", line)


def markdown_code(text: str) -> str:
    """Code: a backtick span where that is enough, else escaped <code> (a pipe in a span would end a table cell)."""
    line = one_line(printable(text))
    if not line:
        return "(empty)"
    return f"`{line}`" if _PLAIN_CODE.fullmatch(line) else f"<code>{markdown(line)}</code>"


def cut_in_the_middle(name: str, room: int) -> str:
    """At most `room` columns (8 at least; a Chinese or Korean character takes two), cut in the middle: how it begins, and
    as many of its last path parts as fit."""
    if columns(name) <= (room := max(8, room)):
        return name
    begin, _, rest = name.partition(":")
    begin = f"{begin}:…" if rest and columns(begin) <= room // 3 else f"{_within(name, room // 4)}…"
    end = _within(name[::-1], room - columns(begin))[::-1]
    cut = end.find("/")
    return begin + (end[cut:] if 0 <= cut < len(end) // 2 else end)


def columns(text: str) -> int:
    """That a terminal gives it."""
    from rich.cells import get_character_cell_size

    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def _within(text: str, room: int) -> str:
    """Its first characters, as many as fit."""
    size = next((size for size in range(len(text), 0, -1) if columns(text[:size]) <= room), 0)
    return text[:size]


# ---------------------------------------------------------------- scripts

_RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RUN_TO_THE_LEFT = re.compile(f"[{_RIGHT_TO_LEFT}](?:[^\\w]*[{_RIGHT_TO_LEFT}])*")
_SCRIPTS = {
    "ko": re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"),
    "ja": re.compile("[\u3041-\u3096\u30a1-\u30fa]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"),
}
"""Korean and Japanese before Chinese, whose characters they use too."""
_LATIN = re.compile("[A-Za-z]")


def language(text: str) -> str:
    """ko, ja or zh where so many characters are of its script that the text is (report.js tells alike); else "". One
    character is drawn and broken into lines in another way in each of them."""
    if text.isascii():
        return ""
    counts = {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}
    if 2 * sum(counts.values()) < len(_LATIN.findall(text)):
        return ""
    return next((name for name, count in counts.items() if count), "")


def runs_to_the_left(text: str) -> list[tuple[str, bool]]:
    """(part, whether it is read from right to left). In prose such parts are kept apart: a number behind an Arabic name
    would else be drawn before it (Unicode Standard Annex 9, rule W2)."""
    parts, start = [], 0
    for found in _RUN_TO_THE_LEFT.finditer(text):
        parts += [(text[start : found.start()], False), (found[0], True)]
        start = found.end()
    return [(part, rtl) for part, rtl in (*parts, (text[start:], False)) if part]
