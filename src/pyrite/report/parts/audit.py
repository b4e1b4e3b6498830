"""An audit on the page: findings worst first with their evidence, the figures, what is fine, what was not measured."""

from collections.abc import Sequence

from pyrite.audit.show import NAMED, beyond, by_flaw, number, p_value, reference_name, rows_read
from pyrite.names import redact_path
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Figure, Finding, Lines, Rows, Section, Table, Tone, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import Part, Told
from pyrite.runs import Run, count_results, read_results

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


def part(run: Run, config: ReportConfig, anchor: str) -> Part:
    """An audit's share of the page."""
    record = run.told
    standing_out = [one for one in record["findings"] if one["severity"] in NAMED]
    fine = [one for one in record["findings"] if one["severity"] == "ok" and not one["why"]]
    sections = [
        Section(
            f"{anchor}-findings",
            "Findings, worst first",
            [finding(one, config) for one in standing_out] or nothing(record),
        ),
        *figures(run, config, anchor),
        *flagged(run, config, anchor),
        Section(f"{anchor}-fine", "ItemScore and fine", measured(fine), folded=bool(standing_out)),
        Section(f"{anchor}-missing", "Not measured", missing(record)),
        *shared.gates(record["gates"], anchor),
    ]
    return Part(
        title=f"Audit of {', '.join(names(record))}",
        verdicts=[verdict(record, standing_out)],
        sections=sections,
        ran=ran(record),
        software=shared.software(record),
        again=shared.command(record.get("command")),
        unsaid=[*(f"{note[:1].upper()}{note[1:]}." for note in record["notes"]), NO_HARM, *UNSAID],
        settings=shared.settings(record["settings"]),
    )


def names(record: Told) -> list[str]:
    """The data's files, without their folders."""
    return [redact_path(one) for one in record["data"]]


def verdict(record: Told, standing_out: Sequence[Told]) -> Verdict:
    """How many findings there are, and the worst with its interval."""
    counts = {name: sum(one["severity"] == name for one in standing_out) for name in ("fail", "warn")}
    many = f"{plural(counts['fail'], 'failure')} and {plural(counts['warn'], 'warning')}"
    untested = sum(one["severity"] == "ok" and bool(one["why"]) for one in record["findings"])
    fine = len(record["findings"]) - len(standing_out) - untested
    if not standing_out:
        lacking = len(record["not_measured"]) + untested
        left = f"; {lacking} could not be measured" if lacking else ""
        return Verdict(
            "nothing found", f"Nothing stands out in {fine} measures{left}.", "unsure" if lacking else "good"
        )
    one = standing_out[0]
    label = "FAIL" if counts["fail"] else "WARN"
    text = f"{many}; {plural(fine, 'measure')} fine. The worst: {one['question']} {worst(one)}"
    return Verdict(label, text, TONES[one["severity"]])


def plural(many: int, what: str) -> str:
    """'1 failure', '2 failures'."""
    return f"{many} {what}" if many == 1 else f"{many} {what}s"


def worst(one: Told) -> str:
    """A finding's value and excess in half a sentence."""
    excess, unit = one["excess"] or {"value": None, "low": None}, one["unit"]
    amount = f"{number(one['value'], unit)} in {one['n']:,} rows"
    return f"{amount}." if excess["value"] is None else f"{amount}: {excess_of(one)}."


def yardstick(one: Told) -> str:
    """What the excess is an excess over."""
    return beyond(one["between_human"]) or ("chance" if one["null"] else "the threshold")


def finding(one: Told, config: ReportConfig) -> Finding:
    """One flaw: numbers, advice, and the evidence that a reader opens."""
    label = NAMED[one["severity"]][0]
    head = Verdict(label, worst(one), TONES[one["severity"]])
    return Finding(head, one["question"], [Facts(numbers(one)), *evidence(one, config)])


def numbers(one: Told) -> list[tuple[str, str]]:
    """A finding's name, both yardsticks, and what to do."""
    unit, null, human = one["unit"], one["null"], one["between_human"]
    facts = [("measure", f"{one['flaw']}.{one['measure']}")]
    if human:
        said = f"this data by {number(human['value_of_data'], unit)} at the same {human['n']:,} rows"
        if human["value"] is not None:
            said = f"differ by up to {number(human['value'], unit)} ({redact_path(human['source'])}); {said}"
        if human.get("high") is not None:
            table = " and the table of human sources" if human.get("table") else ""
            said += f"; one more would hardly show more than {number(human['high'], unit)} (by {human['sources']} of them{table})"
        facts.append(("human sources", said))
    else:
        facts.append(("human sources", f"unknown how much they differ: {one['why'] or 'no two human sources'}"))
    if null:
        p = null["p"] if null.get("p_adjusted") is None else null["p_adjusted"]
        facts.append(
            ("chance", f"stays below {number(null['high'], unit)} in 95 of 100 draws (adjusted p {p_value(p)})")
        )
    else:
        facts.append(("chance", "not asked: this is measured on the data alone"))
    if counted := one.get("counted"):
        most = f"{number(counted['threshold'], unit)} would pass"
        facts.append(("over all rows", f"{number(counted['value'], unit)} of {counted['rows']:,} ({most})"))
    if one["why"]:
        facts.append(("no worse, because", one["why"]))
    return [*facts, *([("do this next", one["advice"])] if one["advice"] else [])]


def evidence(one: Told, config: ReportConfig) -> list[Block]:
    """Templates and other lines, then example rows; all of it is text of the data."""
    evidence = one["evidence"]
    if config.no_rows:
        return []
    blocks: list[Block] = [Lines(evidence["lines"][:SHOWN], "list")] if evidence["lines"] else []
    blocks += [Lines(evidence["lines"][SHOWN:], "quote")] if evidence["lines"][SHOWN:] else []
    rows = [(str(row["id"]), row["excerpt"]) for row in evidence["rows"][: config.rows]]
    caption = "Rows that show it" + (
        f" (the first {len(rows)} of {len(evidence['rows'])})" if len(rows) < len(evidence["rows"]) else ""
    )
    return [*blocks, *([Table(("row", "begins"), rows, caption)] if rows else [])]


def nothing(record: Told) -> list[Block]:
    """What is said where there is no finding."""
    return [Lines([f"No finding in {plural(len(record['findings']), 'measure')}."])]


def figures(run: Run, config: ReportConfig, anchor: str) -> list[Section]:
    """Densities, the map, and (text of the data) the commonest shapes."""
    from pyrite.audit.figures import alt_text, charts
    from pyrite.report.draw import SCREEN, figure

    drawn = charts(run.told, SCREEN, shapes=not config.no_rows, points=POINTS)
    drawings: list[Figure] = [
        figure(chart, f"{anchor}-{name}", alt_text(run.told, name)) for name, chart in drawn.items()
    ]
    return [Section(f"{anchor}-figures", "Data and references, drawn", drawings)] if drawings else []


def flagged(run: Run, config: ReportConfig, anchor: str) -> list[Section]:
    """Which rows show a finding: how many by finding, and the rows."""
    counts = run.told["flagged"]
    if counts is None:
        return []
    by = [(name, shared.count(many)) for name, many in sorted(counts["by"].items(), key=lambda one: (-one[1], one[0]))]
    said = f"{counts['flagged']:,} of {counts['rows']:,} rows show a finding at least so strongly as {run.told['settings']['flag_at']:g}; a row can show several."
    table = [Table(("finding", "rows"), by, "Rows flagged by each finding")] if by else []
    blocks: list[Block] = [Lines([said]), *table, *([] if config.no_rows else rows_of(run, config, anchor))]
    return [Section(f"{anchor}-flagged", "Flagged rows", blocks)]


def rows_of(run: Run, config: ReportConfig, anchor: str) -> list[Block]:
    """The flagged rows, the first of them."""
    file = run.result(FLAGGED)
    if not file.is_file():
        return [Lines(["The rows themselves are not in the run folder."])]
    total = count_results(file)
    some = read_results(file, ("id", "flagged_by", "prompt", "answer"), first=config.rows)
    labelled = any(row.get("label") is not None for row in some)
    names = ["id", "flagged_by", *(["label"] if labelled else []), "prompt", "answer"]
    rows = [tuple(str(row[name] or "") for name in names) for row in some]
    caption = f"The first {len(rows):,} of {total:,} flagged rows" if len(rows) < total else "All flagged rows"
    caption += f"; the table results/{FLAGGED} of the run has all of them"
    columns = tuple(name.replace("_", " ") for name in names)
    return [Rows(f"{anchor}-flagged-rows", columns, rows, total, caption, ("flagged by",))] if total else []


def measured(fine: Sequence[Told]) -> list[Block]:
    """What was looked at and found fine."""
    rows = [
        (
            f"{one['flaw']}.{one['measure']}",
            one["question"],
            number(one["value"], one["unit"]),
            excess_of(one),
            Cell(f"{one['n']:,}", sort=one["n"]),
        )
        for one in fine
    ]
    columns = ("measure", "question", "value", "excess", "rows")
    return [Table(columns, rows)] if rows else [Lines(["No measure was found fine."])]


def excess_of(one: Told) -> str:
    """The excess with its interval, the unit said once."""
    excess, unit = one["excess"], one["unit"]
    if not excess or excess["value"] is None:
        return "no excess"
    way = "below" if excess["value"] < 0 else "over"
    amount = f"{over(abs(excess['value']), unit)} {way} {yardstick(one)}"
    if excess["low"] is None:
        return (
            f"{amount} (no interval: {'counted over all rows' if one.get('counted') else 'measured on the data alone'})"
        )
    ends = excess["low"], excess["high"]
    if way == "below":
        ends = -excess["high"], -excess["low"]
    low, high = (over(end, unit) for end in ends)
    return f"{amount} (95 % interval {low.partition(' ')[0]} to {high})"


def over(value: float, unit: str) -> str:
    """A difference: of shares in points.

    >>> over(0.25, "share"), over(0.25, "bits")
    ('25.0 points', '0.25 bits')
    """
    return number(value, unit).replace(" %", " points")


def missing(record: Told) -> list[Block]:
    """What could not be measured, and why."""
    rows = [(one["measure"], one["why"]) for one in record["not_measured"]]
    return [Table(("measure", "why not"), rows)] if rows else [Lines(["Every measure that was asked for was taken."])]


def ran(record: Told) -> list[Block]:
    """Data, references, counts and the sample."""
    sample = record["sample"]
    references = ", ".join(
        reference_name({**reference, "source": redact_path(reference["source"])}) for reference in record["references"]
    )
    fine = [one for one in record["findings"] if one["severity"] == "ok" and not one["why"]]
    items = [
        ("data", f"{', '.join(names(record))}: {rows_read(record['rows'])}"),
        ("references", f"{references}: {rows_read(record['reference_rows'])}" if record["references"] else "none"),
        ("sample", f"{sample['n']:,} of {sample['of']:,} rows ({sample['precision']}); the model read {sample['model_n']:,}"),
        ("seed", str(record["settings"]["seed"])),
        ("level", f"chance of any false warning at most {record['settings']['alpha']:g} (Holm over all measures)"),
        ("found fine", by_flaw(fine) or "nothing"),
    ]  # fmt: skip
    return [Facts(items), *shared.files(record.get("files", ()))]
