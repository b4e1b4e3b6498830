"""A study of cells that are not a grid on the page: verdicts, every cell on every metric, contrasts over seeds and items, costs."""

import csv
from collections.abc import Sequence
from typing import Any

from pyrite.errors import UserError
from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.objects import stored
from pyrite.report.page import Block, Cell, Lines, Section, Table, Verdict
from pyrite.report.parts import repair, shared, study
from pyrite.report.parts.shared import TONES, Part, Told
from pyrite.runs import AGAIN, Run
from pyrite.study import cells_figure as drawing
from pyrite.study.tables import references, shown_rows

UNSAID = (
    "Few seeds give wide intervals over seeds. Those over items are narrower because they speak of these very models only, "
    "not of training others alike.",
    "Higher perplexity of damage rows says that they became less likely, not whether pattern or content was unlearned.",
    "Every number that is not a primary contrast is exploratory.",
    "What is not in the tables was not measured: other languages and tasks, facts, safety.",
)
SEEDS, ITEMS = "seeds", "items"


def part(run: Run, config: ReportConfig, anchor: str) -> Part:
    """A language study's share of the page."""
    told, spec = names.of_study(run).told, run.told["spec"]
    results, summary = (shown_rows(stored(run, f"{name}.parquet"), spec) for name in ("results", "summary"))
    scales = {f"{row['probe']}.{row['metric']}": row["scale"] == "share" for row in summary}
    primary = [(one, scales.get(one["contrast"]["probe"], False)) for one in told["primary"]]
    cells = [(f"{anchor}-cells", "Every cell on every metric", tables(summary, spec))]
    sections = [
        Section(f"{anchor}-panels", "Every cell, seed by seed", panels(results, summary, spec, anchor)),
        Section(f"{anchor}-primary", "Primary contrasts", contrasts(primary)),
        *repair.frontier(told, anchor),
        *(Section(*cell) for cell in cells),
        *costs(run, anchor),
        Section(f"{anchor}-data", "The data", data(told)),
    ]
    return Part(
        title=f"Study {run.name}",
        verdicts=[verdict(one, share) for one, share in primary],
        sections=sections,
        ran=study.ran(told),
        software=shared.software(told),
        again=study.again(run),
        unsaid=[*map(study.sentence, told["notes"]), *UNSAID],
        settings=shared.settings(spec),
    )


def verdict(one: Told, share: bool) -> Verdict:
    """One primary contrast for somebody who was not there."""
    about, judged = one["contrast"], shared.judged(one["verdict"], one["difference"])
    label = shared.words(judged)
    seeds = f"{len(one['seeds'])} training seed{'s' * (len(one['seeds']) != 1)}"
    told = shared.in_words(bounded(one["difference"], share), share, signed=True)
    text = f"{about['cell']} against {about['against']} on {about['probe']}: {label} ({told}; {seeds})."
    return Verdict(label, text, TONES.get(judged, "plain"))


def bounded(difference: Told, share: bool) -> Told:
    """A difference of shares, its interval cut at what such a difference can be."""
    return study.cut(difference, False) if share else difference


def panels(results: Sequence[Told], summary: Sequence[Told], spec: Told, anchor: str) -> list[Block]:
    """The figure, drawn from the stored numbers."""
    from pyrite.report.draw import SCREEN, figure

    if not drawing.headline_metrics(spec, summary):
        return [Lines(["No metric was measured."])]
    chart = drawing.draw(results, summary, spec, SCREEN)
    return [figure(chart, anchor, drawing.alt_text(summary, spec), titled=False)]


def contrasts(primary: Sequence[tuple[Told, bool]]) -> list[Block]:
    """The questions that were named before the study ran: over seeds, on which the verdict rests, and over items."""
    if not primary:
        return [Lines(["The study file names no primary contrast: everything here is exploratory."])]
    rows: list[list[Cell | str]] = []
    for one, share in primary:
        about = one["contrast"]
        pairs = zip(one["seeds"], one["over_items_per_seed"], strict=False)
        each = "; ".join(
            f"seed {seed}: {shared.estimate(bounded(some, share), share, signed=True)}" for seed, some in pairs
        )
        rows.append(
            [
                f"{about['cell']} against {about['against']} on {about['probe']}",
                shared.of_verdict(shared.judged(one["verdict"], one["difference"])),
                shared.cell(bounded(one["difference"], share), share, signed=True),
                shared.cell(bounded(one["over_items"], share), share, signed=True),
                each or "none",
                shared.p_value(one["p_difference_adjusted"]),
                shared.p_value(one["p_equivalence_adjusted"]),
                shared.number(one["margin"], share),
            ]
        )
    columns = ("contrast", "verdict", "difference [over seeds]", "these models [over items]", "each seed's models [over items]",
               "p of a difference", "p of equivalence", "margin")  # fmt: skip
    note = "Differences of shares are in percentage points. The verdict rests on seeds; p-values are adjusted (Holm) over these contrasts."
    return [Table(columns, rows, note=note), *shared.sentences([one for one, _ in primary])]


def tables(summary: Sequence[Told], spec: Told) -> list[Block]:
    """One table for each metric: every cell, its mean, its difference to the reference cells."""
    made: list[Block] = []
    against = references(spec)
    for probe, metric in drawing.headline_metrics(spec, summary):
        rows = drawing.rows_of(summary, probe, metric, spec)
        share = rows[0]["scale"] == "share"
        better = drawing.BETTER.get(rows[0]["direction"], "neither way is better")
        columns = ["cell", "mean [95 % t interval over seeds]"]
        columns += [f"against {name} [over seeds; over items]{', points' * share}" for name in against]
        made.append(
            Table(
                [*columns, "per seed", "seeds", "items"],
                [line(row, against, share) for row in rows],
                f"{probe}.{metric} ({better})",
            )
        )
    return made


def line(row: Told, against: Sequence[str], share: bool) -> list[Cell | str]:
    """One cell of the study."""
    why = study.few(row)
    mean = {"value": row["mean"], "low": row["low"], "high": row["high"]}
    each = (shared.number(float(value), share).removesuffix(" %") for value in row["per_seed"].split())
    return [
        row["cell"],
        shared.cell(mean, share, why=why),
        *(difference(row, f"minus_{name}", share, why) for name in against),
        " ".join(each),
        shared.count(row["n_seeds"]),
        shared.count(row["n_items"]),
    ]


def difference(row: Told, name: str, share: bool, why: str) -> Cell:
    """A difference with both its intervals, or a dash where there is nothing to compare with."""
    if row[name] is None:
        return Cell("–")
    over: dict[str, Any] = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    items = shared.between(row[f"{name}_items_low"], row[f"{name}_items_high"], share, signed=True)
    told = shared.cell(over, share, signed=True, why=why).text
    return Cell(f"{told}; items [{items or 'no interval'}]", sort=row[name])


def costs(run: Run, anchor: str) -> list[Section]:
    """What each training and repair took, and as a share of the damage that it undoes."""
    file = run.result("costs.csv")
    if not file.is_file():
        return []
    rows: list[list[Cell | str]] = []
    try:
        with file.open(encoding="utf-8", newline="") as source:
            for row in csv.DictReader(source):
                rows.append(cost(row))
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "A table of the run cannot be read.", f"{file}, line {len(rows) + 2}: {error}", AGAIN
        ) from error
    columns = ("step", "first cell", "seed", "method", "steps", "tokens", "of the damage's tokens", "FLOPs",
               "of the damage's FLOPs", "seconds", "peak, GiB", "stopped")  # fmt: skip
    note = "Tokens of a repair are those to forget, to replay and to prefer, without the guard's."
    return [Section(f"{anchor}-costs", "What it cost", [Table(columns, rows, note=note)])] if rows else []


def cost(row: dict[str, str]) -> list[Cell | str]:
    """One training or repair."""

    def of(name: str, form: str = "{:,.0f}", scale: float = 1.0) -> Cell:
        text = row.get(name) or ""
        return Cell(form.format(float(text) * scale), sort=float(text)) if text else Cell("not counted")

    def part_of(name: str) -> Cell:
        text = row.get(name) or ""
        return Cell(f"{float(text):.1%}", sort=float(text)) if text else Cell("–")

    return [
        row["step"],
        row["cell"],
        row["seed"],
        row["method"] or "",
        of("steps"),
        of("tokens"),
        part_of("share_of_damage_tokens"),
        of("flops", "{:.3g}"),
        part_of("share_of_damage_flops"),
        of("seconds"),
        of("peak_bytes", "{:.2f}", 2**-30),
        row["stopped"] or "no",
    ]


def data(told: Told) -> list[Block]:
    """What the rows were, which pools they fill, what stands in two places, and what must be known of the probes."""
    pools = [(name, shared.reasons(one["pools"])) for name, one in told["counts"].items() if one.get("pools")]
    table = [Table(("source", "rows of each pool"), pools)] if pools else []
    shared_rows = [one for one in told["overlap"] if one.get("shared")]
    columns = list(shared_rows[0]) if shared_rows else []
    both: list[Block] = [Table(columns, [[str(one[name]) for name in columns] for one in shared_rows],
                               "Rows that are used for two things")] if shared_rows else []  # fmt: skip
    notes = [f"{probe}: {note} ({models[0]}{f' and {len(models) - 1} more' if len(models) > 1 else ''})"
             for probe, some in told["probes"].items() for note, models in some.items()]  # fmt: skip
    return [*shared.counts(told["counts"]), *table, *both, *([Lines(notes, "list")] if notes else [])]
