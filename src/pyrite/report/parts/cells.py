"""A study of cells that are not a grid on the page: verdicts, every cell on every metric, contrasts over seeds and items, costs."""

from collections.abc import Sequence

from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Lines, Section, Table, Verdict
from pyrite.report.parts import repair, shared, study
from pyrite.report.parts.costs import cost_section
from pyrite.report.parts.shared import TONES, Column, Part, ReportKind
from pyrite.report.parts.study import Row
from pyrite.report.tables import stored
from pyrite.runs import Run
from pyrite.runs.study import PrimaryContrast, SeedDifference, StudyRecord
from pyrite.study import cells_figure as drawing
from pyrite.study.tables import reference_cells, shown_rows

UNSAID = (
    "Few seeds give wide intervals over seeds. Those over items are narrower because they speak of these very models only, "
    "not of training others alike.",
    "Higher perplexity of damage rows says that they became less likely, not whether pattern or content was unlearned.",
    "Every number that is not a primary contrast is exploratory.",
    "What is not in the tables was not measured: other languages and tasks, facts, safety.",
)


def cells_part(run: Run[StudyRecord], config: ReportConfig, anchor: str) -> Part:
    """Such a study's share of the page."""
    record, spec = names.displayed_study(run.record), run.record.spec.as_json()
    results, summary = (shown_rows(stored(run, f"{name}.parquet"), spec) for name in ("results", "summary"))
    shares = probe_shares(summary)
    primary = [(contrast, shares.get(contrast.contrast.probe, False)) for contrast in record.primary]
    sections = [
        Section(f"{anchor}-panels", "Every cell, seed by seed", cells_figure(results, summary, spec, anchor)),
        Section(f"{anchor}-primary", "Primary contrasts", cells_contrasts(primary)),
        *repair.frontier_section(record.frontier, anchor),
        Section(f"{anchor}-cells", "Every cell on every metric", metric_tables(summary, spec)),
        *cost_section(run, anchor),
        Section(f"{anchor}-data", "The data", cells_data(record)),
    ]
    return Part(
        title=f"Study {run.name}",
        verdicts=[cells_verdict(contrast, share) for contrast, share in primary],
        sections=sections,
        ran=study.study_facts(record),
        software=shared.software(record),
        again=study.study_again(run),
        unsaid=[*map(shared.note_sentence, record.notes), *UNSAID],
        settings=shared.settings_facts(spec),
    )


def probe_shares(summary: Sequence[Row]) -> dict[str, bool]:
    """PROBE.METRIC -> whether its value is a share."""
    return {f"{row['probe']}.{row['metric']}": row["scale"] == "share" for row in summary}


def cells_verdict(contrast: PrimaryContrast, share: bool) -> Verdict:
    """One primary contrast for somebody who was not there."""
    verdict = shared.supported_verdict(contrast.verdict, contrast.difference)
    label = shared.verdict_words(verdict)
    seeds = f"{contrast.seed_count} training seed{'s' * (contrast.seed_count != 1)}"
    amount = shared.in_words(bounded(contrast.difference, share), share, signed=True)
    text = f"{shared.contrast_name(contrast.contrast)}: {label} ({amount}; {seeds})."
    return Verdict(label, text, TONES.get(verdict, "plain"))


def bounded(difference: SeedDifference, share: bool) -> SeedDifference:
    """A difference of shares, its interval cut at what such a difference can be."""
    return study.clipped_at(1.0, difference) if share else difference


def cells_figure(results: Sequence[Row], summary: Sequence[Row], spec: Row, anchor: str) -> list[Block]:
    """The figure, drawn from the stored numbers."""
    from pyrite.report.draw import SCREEN, page_figure

    if not drawing.headline_metrics(spec, summary):
        return [Lines(["No metric was measured."])]
    chart = drawing.draw(results, summary, spec, SCREEN)
    return [page_figure(chart, anchor, drawing.alt_text(summary, spec), titled=False)]


def cells_contrasts(primary: Sequence[tuple[PrimaryContrast, bool]]) -> list[Block]:
    """The questions that were named before the study ran: over seeds, on which the verdict rests, and over items."""
    if not primary:
        return [Lines(["The study file names no primary contrast: everything here is exploratory."])]
    rows: list[list[Cell | str]] = []
    for contrast, share in primary:
        each_seed = "; ".join(
            f"seed {seed}: {shared.format_estimate(bounded(difference, share), share, signed=True)}"
            for seed, difference in zip(contrast.seed_list, contrast.over_items_per_seed, strict=False)
        )
        over_items = contrast.over_items
        rows.append(
            [
                shared.contrast_name(contrast.contrast),
                shared.verdict_cell(shared.supported_verdict(contrast.verdict, contrast.difference)),
                shared.estimate_cell(bounded(contrast.difference, share), share, signed=True),
                shared.estimate_cell(bounded(over_items, share), share, signed=True) if over_items else "none",
                each_seed or "none",
                shared.p_value_cell(contrast.p_difference_adjusted),
                shared.p_value_cell(contrast.p_equivalence_adjusted),
                shared.format_number(contrast.margin, share),
            ]
        )
    columns = ("contrast", "verdict", "difference [over seeds]", "these models [over items]", "each seed's models [over items]",
               "p of a difference", "p of equivalence", "margin")  # fmt: skip
    note = "Differences of shares are in percentage points. The verdict rests on seeds; p-values are adjusted (Holm) over these contrasts."
    return [Table(columns, rows, note=note), *shared.verdict_sentences([contrast for contrast, _ in primary])]


def metric_tables(summary: Sequence[Row], spec: Row) -> list[Block]:
    """One table for each metric: every cell, its mean, its difference to the reference cells."""
    tables: list[Block] = []
    against = reference_cells(spec)
    for probe, metric in drawing.headline_metrics(spec, summary):
        rows = drawing.rows_of(summary, probe, metric, spec)
        share = rows[0]["scale"] == "share"
        better = drawing.BETTER.get(rows[0]["direction"], drawing.BETTER["none"])
        columns = ["cell", "mean [95 % t interval over seeds]"]
        columns += [f"against {name} [over seeds; over items]{', points' * share}" for name in against]
        tables.append(
            Table(
                [*columns, "per seed", "seeds", "items"],
                [cell(row, against, share) for row in rows],
                f"{probe}.{metric} ({better})",
            )
        )
    return tables


def cell(row: Row, against: Sequence[str], share: bool) -> list[Cell | str]:
    """One cell of the study as a line of the table."""
    each_seed = (shared.format_number(float(value), share).removesuffix(" %") for value in row["per_seed"].split())
    return [
        row["cell"],
        shared.estimate_cell(study.mean_of(row), share, why=study.few_seeds(row)),
        *(two_intervals(row, f"minus_{name}", share) for name in against),
        " ".join(each_seed),
        shared.count(row["n_seeds"]),
        shared.count(row["n_items"]),
    ]


def two_intervals(row: Row, name: str, share: bool) -> Cell:
    """A difference with both its intervals, or a dash where there is nothing to compare with."""
    if row[name] is None:
        return Cell("–")
    items = shared.between(row[f"{name}_items_low"], row[f"{name}_items_high"], share, signed=True)
    over_seeds = shared.estimate_cell(study.difference_of(row, name), share, signed=True, why=study.few_seeds(row))
    return Cell(f"{over_seeds.text}; items [{items or 'no interval'}]", sort=row[name])


def cells_data(record: StudyRecord) -> list[Block]:
    """What the rows were, which pools they fill, what stands in two places, and what must be known of the probes."""
    pools = [(name, shared.reasons(rows.pools)) for name, rows in record.counts.items() if rows.pools]
    pool_table = [Table(("source", "rows of each pool"), pools)] if pools else []
    overlap = [pair.as_json() for pair in record.overlap if pair.shared]
    columns = list(overlap[0]) if overlap else []
    lines = [[str(pair[name]) for name in columns] for pair in overlap]
    both: list[Block] = [Table(columns, lines, "Rows that are used for two things")] if overlap else []
    notes = [f"{probe}: {note} ({models[0]}{f' and {len(models) - 1} more' if len(models) > 1 else ''})"
             for probe, by_note in record.probes.items() for note, models in by_note.items()]  # fmt: skip
    return [*shared.row_counts(record.counts), *pool_table, *both, *([Lines(notes, "list")] if notes else [])]


def cells_contrasts_column(run: Run[StudyRecord]) -> Column:
    """Every primary contrast of a study of cells that are not a grid."""
    shares = probe_shares(stored(run, "summary.parquet"))
    return {
        shared.contrast_name(contrast.contrast): shared.change_cell(
            contrast.verdict, contrast.difference, shares.get(contrast.contrast.probe, False)
        )
        for contrast in run.record.primary
    }


def cell_column(run: Run[StudyRecord]) -> Column:
    """Every cell and metric of a study of cells that are not a grid."""
    return {
        f"{row['probe']}.{row['metric']}: {row['cell']}": shared.estimate_cell(
            study.mean_of(row), row["scale"] == "share", why=study.few_seeds(row)
        )
        for row in shown_rows(stored(run, "summary.parquet"), run.record.spec.as_json())
    }


KIND = ReportKind(
    cells_part,
    {"Primary contrasts": cells_contrasts_column, "Every cell, mean over seeds": cell_column},
)
