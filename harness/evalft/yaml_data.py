"""YAML as plain data with places: a strict reader for files that people write and others may have written.

YAML 1.2 in spirit: only `true` and `false` are booleans, `012` and `1_000` stay text, a number remembers how it was
written. A key given twice, a tag, an alias are faults, each with its line, and all are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from evalft.errors import UserError

Place = tuple[str | int, ...]
"""Keys and indices from the top: ("candidates", 0, "model")."""

MAX_DEPTH = 50


class Number:
    """A YAML number that remembers how it was written, so that a label 1.10 stays "1.10"."""

    written: str


class WrittenInt(int, Number):
    pass


class WrittenFloat(float, Number):
    pass


class _Reader:
    """Plain data from YAML nodes, with the line of every key, and every fault gathered rather than raised."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Place, int] = {}
        self.faults: list[str] = []

    def read(self, node: yaml.Node, place: Place = ()) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, i)) for i, item in enumerate(node.value)]
        if node.tag not in ("tag:yaml.org,2002:str", "!") and node.tag.startswith(("!", "tag:yaml.org,2002:python")):
            self._fault(node, f"the tag {node.tag} is not allowed: a config is data")
        else:
            assert isinstance(node, yaml.ScalarNode)
            return _scalar(node)
        return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, "a key must be plain text")
                continue
            key = key_node.value
            if key in data:
                first = self.lines[(*place, key)]
                self._fault(key_node, f"key {dotted((*place, key))!r} is given twice (first on line {first})")
                continue
            self.lines[(*place, key)] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, (*place, key))
        return data

    def _fault(self, node: yaml.Node, what: str) -> None:
        self.faults.append(f"{self.source}:{node.start_mark.line + 1}: {what}")


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style is not None:  # quoted or a block: always text
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    number: WrittenInt | WrittenFloat
    if re.fullmatch(r"-?(0|[1-9][0-9]*)", text) and len(text) < 400:
        number = WrittenInt(text)
    elif re.fullmatch(r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?", text) and re.search(r"[0-9]", text):
        try:
            number = WrittenFloat(text)
        except ValueError:
            return text
    else:
        return text
    number.written = text
    return number


def parse(text: str, source: str) -> tuple[Any, dict[Place, int]]:
    """Data and the line of each place; raises UserError with every fault. Anchors and aliases are refused."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            where = f"{source}:{event.start_mark.line + 1}" if event.start_mark else source
            if isinstance(event, yaml.AliasEvent):
                raise UserError(f"{where}: aliases (*name) are not allowed; write it out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:  # the parser's time grows with the square of the depth
                raise UserError(f"{where}: not valid YAML: nested too deep")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deep"
        raise UserError(f"{source}: not valid YAML: {reason}") from None
    if node is None:
        return None, {}
    reader = _Reader(source)
    data = reader.read(node)
    if reader.faults:
        raise UserError(*reader.faults)
    return data, reader.lines


def dotted(place: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in place)
