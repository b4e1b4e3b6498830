"""An audit on the page: findings worst first with their evidence, the figures, what is fine, what was not measured."""

from collections.abc import Sequence

from pyrite.audit.show import NAMED, beyond, by_flaw, format_number, p_value, reference_name, rows_read
from pyrite.errors import UserError
from pyrite.redact import redact_path
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Figure, Finding, Lines, Rows, Section, Table, Tone, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import Column, Part, ReportKind
from pyrite.runs import Run, count_results, read_results
from pyrite.runs.audit import AuditRecord, FindingRecord
from pyrite.runs.read import AGAIN

TONES: dict[str, Tone] = {"fail": "bad", "warn": "unsure", "ok": "good"}
POINTS = 1500
"""Points of the map on the page, at most."""
FLAGGED = "flagged.parquet"
SHOWN = 3
"""Lines of evidence that are read at once; the rest is opened."""
NO_HARM = (
    "A finding is a difference from what people write, or from chance. Whether training on this data does harm, only a "
    "study can tell (pyrite study)."
)
UNSAID = (
    "What was compared is a sample of the rows; what is rarer than its precision can be missed there.",
    "The references stand for people. Rows that these people would not write can be good rows, and the other way round.",
    "Facts, safety and the rightness of answers were not looked at.",
)


def audit_part(run: Run[AuditRecord], config: ReportConfig, anchor: str) -> Part:
    """An audit's share of the page."""
    record = run.record
    standing_out = [finding for finding in record.findings if finding.severity in NAMED]
    fine = fine_findings(record)
    sections = [
        Section(
            f"{anchor}-findings",
            "Findings, worst first",
            [finding_block(finding, config) for finding in standing_out] or no_finding(record),
        ),
        *figure_section(run, config, anchor),
        *flagged_section(run, config, anchor),
        Section(f"{anchor}-fine", "Measured and fine", fine_table(fine), folded=bool(standing_out)),
        Section(f"{anchor}-missing", "Not measured", missing_table(record)),
        *shared.gate_section(record.gates, anchor),
    ]
    return Part(
        title=f"Audit of {', '.join(data_names(record))}",
        verdicts=[audit_verdict(record, standing_out)],
        sections=sections,
        ran=audit_facts(record),
        software=shared.software(record),
        again=shared.command_lines(record.command),
        unsaid=[*map(shared.note_sentence, record.notes), NO_HARM, *UNSAID],
        settings=shared.settings_facts(record.settings.as_json()),
    )


def fine_findings(record: AuditRecord) -> list[FindingRecord]:
    """The measures that were tested and found fine."""
    return [finding for finding in record.findings if finding.severity == "ok" and not finding.why]


def data_names(record: AuditRecord) -> list[str]:
    """The data's files, without their folders."""
    return [redact_path(name) for name in record.data]


def audit_verdict(record: AuditRecord, standing_out: Sequence[FindingRecord]) -> Verdict:
    """How many findings there are, and the worst with its interval."""
    counts = {name: sum(finding.severity == name for finding in standing_out) for name in ("fail", "warn")}
    many = f"{plural(counts['fail'], 'failure')} and {plural(counts['warn'], 'warning')}"
    untested = sum(finding.severity == "ok" and bool(finding.why) for finding in record.findings)
    fine = len(record.findings) - len(standing_out) - untested
    if not standing_out:
        lacking = len(record.not_measured) + untested
        left = f"; {lacking} could not be measured" if lacking else ""
        return Verdict(
            "nothing found", f"Nothing stands out in {fine} measures{left}.", "unsure" if lacking else "good"
        )
    worst = standing_out[0]
    label = "FAIL" if counts["fail"] else "WARN"
    text = f"{many}; {plural(fine, 'measure')} fine. The worst: {worst.question} {amount_sentence(worst)}"
    return Verdict(label, text, TONES[worst.severity])


def plural(many: int, what: str) -> str:
    """'1 failure', '2 failures'."""
    return f"{many} {what}" if many == 1 else f"{many} {what}s"


def amount_sentence(finding: FindingRecord) -> str:
    """A finding's value and excess in half a sentence."""
    amount = f"{format_number(finding.value, finding.unit)} in {finding.n:,} rows"
    if finding.excess is None or finding.excess.value is None:
        return f"{amount}."
    return f"{amount}: {excess_words(finding)}."


def yardstick(finding: FindingRecord) -> str:
    """What the excess is an excess over."""
    human = finding.between_human
    return beyond(human.as_json() if human else None) or ("chance" if finding.null else "the threshold")


def finding_block(finding: FindingRecord, config: ReportConfig) -> Finding:
    """One flaw: numbers, advice, and the evidence that a reader opens."""
    label = NAMED[finding.severity][0]
    head = Verdict(label, amount_sentence(finding), TONES[finding.severity])
    return Finding(head, finding.question, [Facts(finding_facts(finding)), *evidence_blocks(finding, config)])


def finding_facts(finding: FindingRecord) -> list[tuple[str, str]]:
    """A finding's name, both yardsticks, and what to do."""
    facts = [("measure", finding.full_name), ("human sources", human_words(finding)), ("chance", chance_words(finding))]
    if counted := finding.counted:
        most = f"{format_number(counted.threshold, finding.unit)} would pass"
        facts.append(("over all rows", f"{format_number(counted.value, finding.unit)} of {counted.rows:,} ({most})"))
    if finding.why:
        facts.append(("no worse, because", finding.why))
    return [*facts, *([("do this next", finding.advice)] if finding.advice else [])]


def human_words(finding: FindingRecord) -> str:
    """What human sources differ by, and this data from them."""
    human, unit = finding.between_human, finding.unit
    if not human:
        return f"unknown how much they differ: {finding.why or 'no two human sources'}"
    words = f"this data by {format_number(human.value_of_data, unit)} at the same {human.n:,} rows"
    if human.value is not None:
        words = f"differ by up to {format_number(human.value, unit)} ({redact_path(human.source)}); {words}"
    if human.high is not None:
        table = " and the table of human sources" if human.table else ""
        words += f"; one more would hardly show more than {format_number(human.high, unit)} (by {human.sources} of them{table})"
    return words


def chance_words(finding: FindingRecord) -> str:
    """What chance stays below."""
    null = finding.null
    if not null:
        return "not asked: this is measured on the data alone"
    p = null.p if null.p_adjusted is None else null.p_adjusted
    return f"stays below {format_number(null.high, finding.unit)} in 95 of 100 draws (adjusted p {p_value(p)})"


def evidence_blocks(finding: FindingRecord, config: ReportConfig) -> list[Block]:
    """Templates and other lines, then example rows; all of it is text of the data."""
    evidence = finding.evidence
    if config.no_rows:
        return []
    blocks: list[Block] = [Lines(evidence.lines[:SHOWN], "list")] if evidence.lines else []
    blocks += [Lines(evidence.lines[SHOWN:], "quote")] if evidence.lines[SHOWN:] else []
    rows = [(str(row.id), row.excerpt) for row in evidence.rows[: config.rows]]
    caption = "Rows that show it" + (
        f" (the first {len(rows)} of {len(evidence.rows)})" if len(rows) < len(evidence.rows) else ""
    )
    return [*blocks, *([Table(("row", "begins"), rows, caption)] if rows else [])]


def no_finding(record: AuditRecord) -> list[Block]:
    """What is said where there is no finding."""
    return [Lines([f"No finding in {plural(len(record.findings), 'measure')}."])]


def figure_section(run: Run[AuditRecord], config: ReportConfig, anchor: str) -> list[Section]:
    """Densities, the map, and (text of the data) the commonest shapes."""
    from pyrite.audit.figures import alt_text, charts
    from pyrite.report.draw import SCREEN, page_figure

    values = run.record.as_json()
    try:
        drawn = charts(values, SCREEN, shapes=not config.no_rows, points=POINTS)
        drawings: list[Figure] = [
            page_figure(chart, f"{anchor}-{name}", alt_text(values, name)) for name, chart in drawn.items()
        ]
    except Exception as error:  # what evidence holds is each flaw's own, and no part of the record's schema
        detail = f"{run.folder}: evidence that cannot be drawn: {type(error).__name__}: {str(error)[:200]}"
        raise UserError("The run is not whole.", detail, AGAIN) from error
    return [Section(f"{anchor}-figures", "Data and references, drawn", drawings)] if drawings else []


def flagged_section(run: Run[AuditRecord], config: ReportConfig, anchor: str) -> list[Section]:
    """Which rows show a finding: how many by finding, and the rows."""
    counts = run.record.flagged
    if counts is None:
        return []
    by = [(name, shared.count(rows)) for name, rows in sorted(counts.by.items(), key=lambda by: (-by[1], by[0]))]
    strength = f"{run.record.settings.flag_at:g}"
    summary = (
        f"{counts.flagged:,} of {counts.rows:,} rows show a finding at least so strongly as {strength}; a row can show "
        "several."
    )
    table = [Table(("finding", "rows"), by, "Rows flagged by each finding")] if by else []
    blocks: list[Block] = [Lines([summary]), *table, *([] if config.no_rows else flagged_rows(run, config, anchor))]
    return [Section(f"{anchor}-flagged", "Flagged rows", blocks)]


def flagged_rows(run: Run[AuditRecord], config: ReportConfig, anchor: str) -> list[Block]:
    """The flagged rows, the first of them."""
    file = run.result(FLAGGED)
    if not file.is_file():
        return [Lines(["The rows themselves are not in the run folder."])]
    total = count_results(file)
    first = read_results(file, ("id", "flagged_by", "prompt", "answer"), first=config.rows)
    labelled = any(row.get("label") is not None for row in first)
    names = ["id", "flagged_by", *(["label"] if labelled else []), "prompt", "answer"]
    rows = [tuple(str(row[name] or "") for name in names) for row in first]
    caption = f"The first {len(rows):,} of {total:,} flagged rows" if len(rows) < total else "All flagged rows"
    caption += f"; the table results/{FLAGGED} of the run has all of them"
    columns = tuple(name.replace("_", " ") for name in names)
    return [Rows(f"{anchor}-flagged-rows", columns, rows, total, caption, ("flagged by",))] if total else []


def fine_table(fine: Sequence[FindingRecord]) -> list[Block]:
    """What was looked at and found fine."""
    rows = [
        (
            finding.full_name,
            finding.question,
            format_number(finding.value, finding.unit),
            excess_words(finding),
            Cell(f"{finding.n:,}", sort=finding.n),
        )
        for finding in fine
    ]
    columns = ("measure", "question", "value", "excess", "rows")
    return [Table(columns, rows)] if rows else [Lines(["No measure was found fine."])]


def excess_words(finding: FindingRecord) -> str:
    """The excess with its interval, the unit said once."""
    excess, unit = finding.excess, finding.unit
    if excess is None or excess.value is None:
        return "no excess"
    way = "below" if excess.value < 0 else "over"
    amount = f"{over(abs(excess.value), unit)} {way} {yardstick(finding)}"
    if excess.low is None or excess.high is None:
        return f"{amount} (no interval: {'counted over all rows' if finding.counted else 'measured on the data alone'})"
    ends = (-excess.high, -excess.low) if way == "below" else (excess.low, excess.high)
    low, high = (over(end, unit) for end in ends)
    return f"{amount} (95 % interval {low.partition(' ')[0]} to {high})"


def over(value: float, unit: str) -> str:
    """A difference: of shares in points.

    >>> over(0.25, "share"), over(0.25, "bits")
    ('25.0 points', '0.25 bits')
    """
    return format_number(value, unit).replace(" %", " points")


def missing_table(record: AuditRecord) -> list[Block]:
    """What could not be measured, and why."""
    rows = [(missing.measure, missing.why) for missing in record.not_measured]
    return [Table(("measure", "why not"), rows)] if rows else [Lines(["Every measure that was asked for was taken."])]


def audit_facts(record: AuditRecord) -> list[Block]:
    """Data, references, counts and the sample."""
    sample = record.sample
    references = ", ".join(
        reference_name(reference.as_json() | {"source": redact_path(reference.source)})
        for reference in record.references
    )
    fine = [finding.as_json() for finding in fine_findings(record)]
    reference_rows = rows_read(record.reference_rows.as_json())
    items = [
        ("data", f"{', '.join(data_names(record))}: {rows_read(record.rows.as_json())}"),
        ("references", f"{references}: {reference_rows}" if record.references else "none"),
        ("sample", f"{sample.n:,} of {sample.of:,} rows ({sample.precision}); the model read {sample.model_n:,}"),
        ("seed", str(record.settings.seed)),
        ("level", f"chance of any false warning at most {record.settings.alpha:g} (Holm over all measures)"),
        ("found fine", by_flaw(fine) or "nothing"),
    ]
    return [Facts(items), *shared.input_files(record.files)]


def measures_column(run: Run[AuditRecord]) -> Column:
    """Every measure: its mark, value and excess."""
    return {finding.full_name: measure_cell(finding) for finding in run.record.findings}


def measure_cell(finding: FindingRecord) -> Cell:
    """A measure's mark, value and excess."""
    mark, excess, unit = NAMED.get(finding.severity, ("fine",))[0], finding.excess, finding.unit
    amount = "none" if excess is None or excess.value is None else over(excess.value, unit)
    if excess is not None and excess.low is not None and excess.high is not None:
        amount += f" [{' to '.join(over(end, unit).partition(' ')[0] for end in (excess.low, excess.high))}]"
    tone = TONES[finding.severity] if finding.severity in NAMED else "plain"
    return Cell(f"{mark}: {format_number(finding.value, unit)}; excess {amount}", tone)


KIND = ReportKind(
    audit_part, {"Measures: mark, value, excess over chance or over what human sources differ by": measures_column}
)
