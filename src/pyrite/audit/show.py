"""An audit on the terminal: worst first, each finding beside its null and baseline, and what to do next."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from pyrite.audit.wording import NEEDS_REFERENCE, rows_left_out

WIDEST = 100
"""Columns that a line takes at most, however wide the terminal is."""
LINES = 4
"""Lines of evidence that are shown for each finding; --json has all."""
EXCERPT = 160
SO_FAR = 8
"""Findings that are shown before the models have read."""
NAMED = {"fail": ("FAIL", "bold red"), "warn": ("WARN", "bold yellow")}


def show_audit(audit: Mapping[str, Any]) -> None:
    """Print an audit, as `Audit.as_json` tells it.

    Text of the data is hostile: it is printed without control and direction characters, and never as markup.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    heading(console, audit)
    findings = audit["findings"]
    for finding in findings:
        if finding["severity"] in NAMED:
            headline(console, finding)
    if fine := [finding for finding in findings if finding["severity"] == "ok" and not finding["why"]]:
        put(console, f"Looked at and found fine: {by_flaw(fine)}.", after=1)
    if untested := [finding for finding in findings if finding["severity"] == "ok" and finding["why"]]:
        put(
            console,
            f"Not fine, and not flawed: {by_flaw(untested)}. {upper(untested[0]['why'])}.",
            style="bold",
            after=1,
        )
    missing(console, audit)
    closing(console, audit)


def brief(audit: Mapping[str, Any], title: str) -> None:
    """The same in a line for each finding, without the rows."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    standing_out = [finding for finding in audit["findings"] if finding["severity"] in NAMED]
    put(console, title, style="bold")
    for finding in standing_out:
        name, style = NAMED[finding["severity"]]
        value = format_number(finding["value"], finding["unit"])
        put(
            console,
            f"{finding['flaw']}.{finding['measure']} {value}: {finding['question']}",
            mark=f"{name} ",
            style=style,
        )
        for line in finding["evidence"]["lines"][:1]:
            put(console, line, indent=5, mark="- ")
    fine = len(audit["findings"]) - len(standing_out)
    put(console, f"{counted(len(standing_out), 'finding')}, {fine} measures fine; pyrite audit shows the rows", after=1)


def put(console: Console, text: str, *, indent: int = 0, mark: str = "", style: str = "", after: int = 0) -> None:
    """A paragraph, wrapped; its later lines stand under the first, after `mark`."""
    lines = Text(clean(text), style=style).wrap(console, max(20, console.width - indent - len(mark)))
    for at, line in enumerate(lines):
        line.rstrip()
        console.print(Text(" " * indent + (mark if at == 0 else " " * len(mark))) + line)
    console.print("\n" * after, end="")


def clean(text: str) -> str:
    """Text on one line, without what a terminal would obey: control, direction and other unseen characters.

    >>> clean("red \\x1b[31m, \\u202eturned\\nround")
    'red [31m, turned round'
    """
    squeezed = " ".join(str(text).split())
    return "".join(
        "\ufffd" if kind == "Cs" else "" if kind in ("Cc", "Cf", "Co", "Cn") else letter
        for letter in squeezed
        for kind in (unicodedata.category(letter),)
    )


def heading(console: Console, audit: Mapping[str, Any]) -> None:
    """What was read, what it was compared with, and how many findings there are."""
    left_out = rows_left_out(audit["rows"])
    first = f"{upper(left_out)}. " if left_out else ""
    put(console, f"{first}{', '.join(map(str, as_list(audit['data'])))}: {rows_read(audit['rows'])}", style="bold")  # fmt: skip
    show_read_as(console, audit.get("read_as", ()))
    if audit["references"]:
        names = ", ".join(reference_name(reference) for reference in audit["references"])
        put(console, f"against {names}: {rows_read(audit['reference_rows'])}")
    elif any(entry["why"].startswith(f"{NEEDS_REFERENCE} whose") for entry in audit.get("not_measured", ())):
        put(console, "no row of the references has what was measured: what only a comparison can tell was not measured")
    else:
        put(console, "without a reference: what only a comparison can tell was not measured")
    sample = audit["sample"]
    put(console, f"{sample['n']:,} rows of the data were sampled for what is compared: {sample['precision']}", after=1)
    counts = {
        name: sum(finding["severity"] == name for finding in audit["findings"]) for name in ("fail", "warn", "ok")
    }
    untested = sum(finding["severity"] == "ok" and bool(finding["why"]) for finding in audit["findings"])
    words = [counted(counts["fail"], "failure"), counted(counts["warn"], "warning"), f"{counts['ok'] - untested} fine"]
    words += [f"{untested} could not be tested"] if untested else []
    put(console, ", ".join(words), style="bold", after=1)
    if task := audit.get("another_task"):
        put(console, f"{upper(task)}: nothing below is called a failure.", style="bold", after=1)


def show_read_as(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    """How each file was read; files that were read alike in one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry.get("words"):
            alike.setdefault((entry["role"], entry["words"]), []).append(entry["file"])
    for (role, words), files in alike.items():
        names = f"{', '.join(files[:3])}{f' and {len(files) - 3} more' if len(files) > 3 else ''}"
        put(console, f"{role} {names}: {words}", indent=2)


def upper(text: str) -> str:
    """With a capital."""
    return f"{text[:1].upper()}{text[1:]}"


def as_list(value: Any) -> Sequence[Any]:
    """One or several as several."""
    return [value] if isinstance(value, str) else list(value)


def reference_name(reference: Any) -> str:
    """A source, with its rows in the sample where they are told."""
    if not isinstance(reference, Mapping):
        return str(reference)
    rows = reference.get("rows_sampled")
    return str(reference["source"]) + ("" if rows is None else f" ({rows:,} rows sampled)")


def counted(n: int, what: str) -> str:
    """'1 warning', '2 warnings'."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def rows_read(rows: Mapping[str, Any]) -> str:
    """How many rows were read and kept, and why others were not."""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items())
    return f"{rows['read']:,} rows read, {rows['kept']:,} kept" + (f" (dropped: {dropped})" if dropped else "")


def headline(console: Console, finding: Mapping[str, Any]) -> None:
    """One finding: its question, its value beside null and baseline, evidence, an example, what to do."""
    name, style = NAMED[finding["severity"]]
    put(console, f"{name}  {finding['question']}", style=style)
    value = format_number(finding["value"], finding["unit"])
    put(console, f"{finding['flaw']}.{finding['measure']}: {value} ({finding['n']:,} rows)", indent=6)
    for line in comparison_lines(finding):
        put(console, line, indent=8)
    if finding["why"]:
        put(console, f"Only a warning, because: {finding['why']}.", indent=6)
    evidence = finding["evidence"]
    for line in evidence["lines"][:LINES]:
        put(console, line, indent=6, mark="- ")
    more = len(evidence["lines"]) - LINES
    if more > 0:
        put(console, f"and {counted(more, 'more line')} of evidence (--json)", indent=8)
    if evidence["rows"]:
        row = evidence["rows"][0]
        excerpt = clean(row["excerpt"])
        excerpt = excerpt if len(excerpt) <= EXCERPT else excerpt[: EXCERPT - 1] + "…"
        put(console, f"{row['id']}: “{excerpt}”", indent=6, mark="row ")
    put(console, f"Do this next: {finding['advice']}", indent=6, style="bold", after=1)


def comparison_lines(finding: Mapping[str, Any]) -> list[str]:
    """What chance gives, what human sources differ by, and the excess, in words."""
    unit, lines = finding["unit"], []
    null, between, excess = finding["null"], finding["between_human"], finding["excess"]
    if null:
        p = null["p"] if null.get("p_adjusted") is None else null["p_adjusted"]
        lines.append(
            f"chance alone stays below {format_number(null['high'], unit)} in 95 of 100 draws (adjusted p {p_value(p)})"
        )
    if between:
        words = f"this data by {format_number(between['value_of_data'], unit)} at the same {between['n']:,} rows"
        if between["value"] is not None:
            words = (
                f"human sources differ by up to {format_number(between['value'], unit)} ({between['source']}), {words}"
            )
        if between.get("high") is not None:
            table = " and the table of human sources" if between.get("table") else ""
            words += f"; by these{table} one more human source would hardly show more than {format_number(between['high'], unit)}"
        lines.append(words)
    if excess and excess["value"] is not None:
        above = beyond(between) or ("chance" if null else "the threshold")
        ends = excess["low"], excess["high"]
        if excess["value"] < 0 and None not in ends:
            ends = -excess["high"], -excess["low"]
        interval = "" if None in ends else f" (95 %: {format_number(ends[0], unit)} to {format_number(ends[1], unit)})"
        name = "below" if excess["value"] < 0 else "excess over"
        lines.append(f"{name} {above}: {format_number(abs(excess['value']), unit)}{interval}")
    if counted := finding.get("counted"):
        most = f"{format_number(counted['threshold'], unit)} would pass"
        lines.append(f"over all {counted['rows']:,} rows: {format_number(counted['value'], unit)} ({most})")
    return lines


def beyond(between: Mapping[str, Any] | None) -> str:
    """What an excess is over where human sources were compared: the next one, or (in audits of an older Pyrite) the
    farthest; empty where neither is known."""
    if between is None:
        return ""
    if "high" in between:
        return "what one more human source would show" if between["high"] is not None else ""
    return "the farthest human source (audited by an older Pyrite)" if between.get("value") is not None else ""


def format_number(value: float | None, unit: str) -> str:
    """A share in percent, anything else with three figures and its unit.

    >>> format_number(0.314, "share"), format_number(0.02514, "bits"), format_number(None, "bits")
    ('31.4 %', '0.0251 bits', 'unknown')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    if unit == "share":
        return f"{value * 100:.1f} %" if abs(value) >= 0.001 or value == 0 else f"{value * 100:.2g} %"
    return f"{value:.3g}" + ("" if unit in ("", "-", "ratio") else f" {unit}")


def p_value(p: float | None) -> str:
    """Three decimals or fewer."""
    return "unknown" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def by_flaw(findings: Sequence[Mapping[str, Any]]) -> str:
    """'format (closing, skeleton), tokens (zipf)'."""
    grouped: dict[str, list[str]] = {}
    for finding in findings:
        grouped.setdefault(finding["flaw"], []).append(finding["measure"])
    return ", ".join(f"{flaw} ({', '.join(names)})" for flaw, names in grouped.items())


def missing(console: Console, audit: Mapping[str, Any]) -> None:
    """What could not be measured, and why."""
    particular = {entry["measure"] for entry in audit.get("not_measured", ()) if entry["why"] != NEEDS_REFERENCE}
    if needed := [measure for measure in audit["needs_reference"] if measure not in particular]:
        put(console, f"Needs a reference (--reference FILE): {', '.join(needed)}.", after=1)
    reasons: dict[str, list[str]] = {}
    for entry in audit.get("not_measured", ()):
        if entry["measure"] not in needed:
            reasons.setdefault(entry["why"], []).append(entry["measure"])
    for why, names in reasons.items():
        put(console, f"Not measured ({why}): {', '.join(names)}.", after=1)


def closing(console: Console, audit: Mapping[str, Any]) -> None:
    """Flagged rows, gates, notes."""
    if flagged := audit["flagged"]:
        most = sorted(flagged.get("by", {}).items(), key=lambda item: (-item[1], item[0]))
        parts = ", ".join(f"{name} {count:,}" for name, count in most)
        number_of = flagged.get("flagged", flagged["rows"])
        put(console, f"{number_of:,} rows are flagged" + (f": {parts}" if parts else ""))
    for gate in audit["gates"]:
        put(console, f"gate {gate['outcome']}: {gate['gate']}: {gate['why']}")
    for note in audit["notes"]:
        put(console, f"note: {note}")


def show_so_far(findings: Sequence[Mapping[str, Any]], flaws: Sequence[str]) -> None:
    """What the flaws show for which no model reads, on stderr, before the models have read."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    standing_out = [finding for finding in findings if finding["severity"] in NAMED]
    console.print(
        f"so far ({', '.join(flaws)}; before any model has read, so not the last word): "
        f"{len(standing_out)} of {len(findings)} measures stand out",
        soft_wrap=True,
    )
    for finding in standing_out[:SO_FAR]:
        value, name = format_number(finding["value"], finding["unit"]), f"{finding['flaw']}.{finding['measure']}"
        console.print(f"  {NAMED[finding['severity']][0]} {name} {value}: {finding['question']}", soft_wrap=True)
    if len(standing_out) > SO_FAR:
        console.print(f"  and {len(standing_out) - SO_FAR} more")
