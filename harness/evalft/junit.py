"""A Gate as JUnit XML, which CI systems show as tests: one testcase per judged metric and slice, and one for coverage.

Written so that both schemas in wide use accept it, Jenkins' (junit-10.xsd) and Ant's (JUnit.xsd): they differ in how an
error is called, so everything that is not a pass is a `failure`, whose `type` says what kind. What only warns is
`skipped`: it is no pass, and it breaks no build.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from xml.etree import ElementTree

from evalft import errors, gate_words
from evalft.gate_judgement import Judgement
from evalft.gating import Gate

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, not even escaped (section 2.2, Char)."""


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    name: str
    said: str
    result: Literal["passed", "failure", "skipped"]
    why: str
    """The type of a failure."""


def page(gate: Gate) -> str:
    """The result of a gate."""
    cases = [_case(gate, "metrics", one) for one in gate.metrics]
    cases += [_case(gate, "slices", one) for one in gate.slices]
    covered = gate.status != errors.COVERAGE
    said = "" if covered else gate_words.sentence(gate)
    cases.append(Case("run", "coverage", said, "passed" if covered else "failure", "coverage"))
    return _page(cases, [gate_words.sentence(gate), *gate_words.facts(gate)])


def refused(faults: Sequence[str]) -> str:
    """What is shown where nothing could be compared (status 2): an earlier result must not stand for this one."""
    said = "\n".join(faults)
    return _page([Case("run", "comparable", said, "failure", "status 2")], faults)


def _case(gate: Gate, kind: str, one: Judgement) -> Case:
    said = gate_words.finding(gate, one)
    if one.verdict == "regression":
        return Case(kind, one.name, said, "failure", "regression")
    if one.verdict == "pass":
        return Case(kind, one.name, said, "passed", "")
    return Case(kind, one.name, said, "failure" if gate.status == errors.UNDECIDED else "skipped", "undecided")


def _page(cases: Sequence[Case], lines: Sequence[str]) -> str:
    counted = {kind: str(sum(case.result == kind for case in cases)) for kind in ("failure", "skipped")}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name="evalft gate",
        package="evalft",
        id="0",
        tests=str(len(cases)),
        failures=counted["failure"],
        errors="0",
        skipped=counted["skipped"],
        time="0",  # nothing is timed, and Ant's schema wants the attribute
        timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",  # which machine it was is nobody's business
    )
    ElementTree.SubElement(suite, "properties")
    for case in cases:
        found = ElementTree.SubElement(
            suite, "testcase", name=_writable(case.name), classname=f"evalft.gate.{case.kind}", time="0"
        )
        if case.result == "failure":
            ElementTree.SubElement(found, "failure", type=case.why, message=_writable(case.said)).text = _writable(
                case.said
            )
        elif case.result == "skipped":
            ElementTree.SubElement(found, "skipped", message=_writable(case.said))
    ElementTree.SubElement(suite, "system-out").text = _writable("\n".join(lines))
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _writable(text: str) -> str:
    return NOT_IN_XML.sub("\ufffd", text)
