"""Outcomes of gates as a JUnit file, which CI systems show: a test suite for the run, a test case for each gate."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

from pyrite.conditions import GateOutcome
from pyrite.io import atomic_write

if TYPE_CHECKING:
    from pyrite.gate.run import Gated

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, escaped or not."""
MARK = re.compile(rb'\s*(<\?xml[^>]*\?>)?\s*<testsuites name="pyrite gate"')
"""How every file of ours begins: only such a file is written over."""


def write_junit(gated: "Gated", name: str, path: Path, undecided: Literal["pass", "fail"] | None) -> None:
    """Write the file: failed gates are failures; undecided ones errors, or as `undecided` settles it: skipped (pass), or
    failures (fail). No times are told, so that the same run gives the same bytes."""
    suite = ElementTree.Element("testsuite", name=xml_text(f"pyrite gate {name}"), tests=str(len(gated.outcomes)))
    for gate in gated.outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=xml_text(class_name(gated.verb, gate)), name=xml_text(gate.gate)
        )
        tag = tag_of(gate, undecided)
        if tag is None:
            ElementTree.SubElement(case, "system-out").text = xml_text(gate.why)
        elif tag == "skipped":
            ElementTree.SubElement(case, tag, message=xml_text(f"undecided: {gate.why}"))
        else:
            ElementTree.SubElement(case, tag, message=xml_text(gate.why), type=gate.outcome).text = xml_text(gate.why)
    for tag, name_ in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name_, str(len(suite.findall(f"testcase/{tag}"))))
    root = ElementTree.Element("testsuites", name="pyrite gate")
    root.append(suite)
    ElementTree.indent(root)
    with atomic_write(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def class_name(verb: str, gate: GateOutcome) -> str:
    """What a CI system groups cases by: the verb, and of a loop the part."""
    return f"pyrite.{verb}" if gate.part is None else f"pyrite.{verb}.{gate.part}"


def tag_of(gate: GateOutcome, undecided: Literal["pass", "fail"] | None) -> str | None:
    """How JUnit says an outcome; None where the gate passed."""
    if gate.outcome == "undecided":
        return {"pass": "skipped", "fail": "failure", None: "error"}[undecided]
    return "failure" if gate.outcome == "failed" else None


def xml_text(text: str) -> str:
    """Text without the characters that XML forbids.

    >>> xml_text("a\\x00b\\x1b[31m")
    'ab[31m'
    """
    return _FORBIDDEN.sub("", text)
