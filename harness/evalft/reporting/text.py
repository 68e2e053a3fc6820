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
    """At most `room` characters (8 at least), cut in the middle: how it begins, and as many of its last path parts as fit."""
    if len(name) <= (room := max(8, room)):
        return name
    begin, _, rest = name.partition(":")
    begin = f"{begin}:…" if rest and len(begin) <= room // 3 else f"{name[: room // 4]}…"
    end = name[-(room - len(begin)) :]
    cut = end.find("/")
    return begin + (end[cut:] if 0 <= cut < len(end) // 2 else end)
