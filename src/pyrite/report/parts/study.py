"""A study of starts × arms × sizes on the page: the verdicts, the panels, the table, the primary contrasts, the data."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pyrite.redact import redact_outside_paths, redact_path
from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Facts, Lines, Rows, Section, Table, Verdict
from pyrite.report.parts import repair, shared
from pyrite.report.parts.costs import cost_section
from pyrite.report.parts.shared import TONES, Column, Part, ReportKind
from pyrite.report.tables import stored
from pyrite.runs import Run
from pyrite.runs.schema import Interval, Plain
from pyrite.runs.study import (
    CutRows,
    LabelQuality,
    LookRecord,
    PrimaryContrast,
    SharedRows,
    SourceQuality,
    StudyFile,
    StudyRecord,
)

UNSAID = (
    "The unit is the training seed. An interval over seeds says what further seeds of this very study would give; it says "
    "nothing of another task model, another training, or another data set.",
    "Data of one generator speaks of that generator only.",
    "Every number that is not a primary contrast is exploratory: no p-value was adjusted for having looked at all of them.",
    "'Cannot tell yet' is no sign that there is no difference; 'equivalent' holds within the stated margin only.",
)


IntervalType = TypeVar("IntervalType", bound=Interval)
Row = Mapping[str, Any]
"""A row of the study's summary table."""


def study_part(run: Run[StudyRecord], config: ReportConfig, anchor: str) -> Part:
    """A study's share of the page."""
    record, spec = names.displayed_study(run.record), run.record.spec
    summary = stored(run, "summary.parquet")
    tables = probe_tables(summary, spec)
    sections = [
        Section(f"{anchor}-panels", "Every model, seed by seed", panel_figure(run, anchor)),
        Section(
            f"{anchor}-table",
            "Each arm against its start and against the human arm",
            tables,
            slice_section(summary, anchor),
        ),
        Section(f"{anchor}-primary", "Primary contrasts", contrast_table(record.primary, spec.margin)),
        *repair.frontier_section(record.frontier, anchor),
        *cost_section(run, anchor),
        Section(f"{anchor}-data", "The data", study_data(record)),
    ]
    return Part(
        title=f"Study {run.name}",
        verdicts=[contrast_verdict(contrast, spec) for contrast in record.primary],
        sections=sections,
        ran=study_facts(record),
        software=shared.software(record),
        again=study_again(run),
        unsaid=[*map(shared.note_sentence, record.notes), *UNSAID],
        settings=shared.settings_facts(spec.as_json()),
    )


def contrast_verdict(contrast: PrimaryContrast, spec: StudyFile) -> Verdict:
    """One primary contrast for somebody who was not there."""
    about, difference = contrast.contrast, clipped(contrast.difference, contrast)
    against = f"those trained on {about.against}" if spec.is_arm(about.against) else f"those of {about.against}"
    if about.against == "start":
        against = "their start"
    if is_gap(contrast):
        where = "on the gap between general task and blind spot (negative: it opened)"
    else:
        where = f"on {probe_title(about.probe, spec)}"
    seeds = f"{contrast.seed_count} training seed{'s' * (contrast.seed_count != 1)}"
    verdict = shared.supported_verdict(contrast.verdict, contrast.difference)
    label = shared.verdict_words(verdict)
    amount = shared.in_words(difference, contrast.is_share, signed=True)
    models = f"Models trained on {about.name}" if spec.is_arm(about.name) else f"The models of {about.name}"
    text = f"{models}, against {against}, {where}: {label} ({amount}; {seeds})."
    if cells := contrast.silent_cells:
        text += f" Left out, for they cannot answer: {'; '.join(cells)}."
    return Verdict(label, text, TONES.get(verdict, "plain"))


def is_gap(contrast: PrimaryContrast) -> bool:
    """Whether a contrast is about the gap between general task and blind spot."""
    return contrast.contrast.probe == "gap"


def probe_title(name: str, spec: StudyFile) -> str:
    """A probe with its headline slice."""
    probe = spec.probes.get(name)
    return f"{name} ({', '.join(probe.headline.values())})" if probe and probe.headline else name


def clipped(difference: IntervalType, contrast: PrimaryContrast) -> IntervalType:
    """A contrast's difference, of shares with its interval cut at what such a difference can be."""
    return clipped_at(2.0 if is_gap(contrast) else 1.0, difference) if contrast.is_share else difference


def clipped_at(limit: float, difference: IntervalType) -> IntervalType:
    """A difference whose interval is cut at `limit`, on both sides."""
    if difference.low is None or difference.high is None:
        return difference
    return difference.replaced_by(low=max(difference.low, -limit), high=min(difference.high, limit))


def panel_figure(run: Run[StudyRecord], anchor: str) -> list[Block]:
    """The figure, drawn from the stored numbers."""
    from pyrite.report.draw import SCREEN, page_figure
    from pyrite.study import tables as of_study
    from pyrite.study.grid_figure import alt_text, panels_in

    rows = of_study.panels(run.folder)
    if not rows:
        return [Lines(["No figure: the run folder does not hold its numbers (results/panels.parquet). Run the study again; "
                       "its finished steps are reused."])]  # fmt: skip
    chart = of_study.grid_figure(run.folder, run.record.spec.as_json(), SCREEN)
    return [page_figure(chart, anchor, alt_text(rows, panels_in(rows)), titled=False)]


def probe_tables(summary: Sequence[Row], spec: StudyFile) -> list[Block]:
    """A table for each probe: its headline slice."""
    from pyrite.study.tables import headline_rows

    blocks: list[Block] = []
    for name in spec.probes:
        rows = headline_rows([row for row in summary if row["probe"] == name], spec.as_json())
        title = probe_title(name, spec)
        if not rows:
            blocks.append(Lines([f"{title}: its headline slice is not among the stored slices."]))
            continue
        for metric in dict.fromkeys(row["metric"] for row in rows):
            lines = [row for row in rows if row["metric"] == metric]
            points, percent = (", points", ", %") if is_share(lines[0]) else ("", "")
            columns = ("start", "arm", "training rows", metric, f"against start{points}", f"against human arm{points}",
                       f"per seed{percent}")  # fmt: skip
            caption = f"{title}: {metric}, mean over seeds with 95 % t interval"
            note = f"Differences are taken within each seed{', in percentage points' if points else ''}."
            blocks.append(Table(columns, [summary_cells(row) for row in lines], caption, note))
    return blocks


def summary_cells(row: Row) -> list[Cell | str]:
    """A cell of the study as a line of the table."""
    return [
        row["start"],
        row["arm"],
        Cell(f"{row['size']:,}" if row["size"] else "", sort=row["size"]),
        shared.estimate_cell(mean_of(row), is_share(row), why=few_seeds(row)),
        difference_cell(row, "minus_start"),
        difference_cell(row, "minus_human"),
        " ".join(f"{float(value) * 100:.0f}" for value in row["per_seed"].split())
        if is_share(row)
        else row["per_seed"],
    ]


def is_share(row: Row) -> bool:
    """Whether a line of the summary is a share; those of older runs all are."""
    return bool(row.get("scale", "share") == "share")


def mean_of(row: Row) -> Interval:
    """A cell's mean over seeds with its bounds."""
    return Interval(value=row["mean"], low=row["low"], high=row["high"])


def difference_of(row: Row, name: str) -> Interval:
    """A difference of the summary with its bounds."""
    return Interval(value=row[name], low=row[f"{name}_low"], high=row[f"{name}_high"])


def few_seeds(row: Row) -> str:
    """Why there is no interval."""
    return "one seed" if row["n_seeds"] == 1 else "one shared seed, or the same in every seed"


def difference_cell(row: Row, name: str) -> Cell:
    """A difference, or a dash where there is nothing to compare with."""
    if row[name] is None:
        return Cell("–")
    return shared.estimate_cell(difference_of(row, name), is_share(row), signed=True, why=few_seeds(row))


def slice_section(summary: Sequence[Row], anchor: str) -> list[Section]:
    """Every slice of every cell, to be searched; templates stay in the run folder."""
    rows = [
        (row["probe"], row["metric"], row["by"], row["name"], row["gold"] or "", *summary_texts(row))
        for row in summary
        if "template" not in row["by"]
    ]
    columns = ("probe", "metric", "slice by", "slice", "gold label", "start", "arm", "training rows", "value",
               "against start, points", "against human arm", "per seed, %")  # fmt: skip
    caption = "Exploratory. Every slice, those by template too, stands in results/summary.csv."
    table = Rows(f"{anchor}-slices", columns, rows, len(rows), caption, ("probe", "metric", "slice by", "arm"))
    return [Section(f"{anchor}-slices", "Every slice", [table], folded=True)] if rows else []


def summary_texts(row: Row) -> list[str]:
    """The line without what it sorts by."""
    return [cell.text if isinstance(cell, Cell) else cell for cell in summary_cells(row)]


def contrast_table(primary: Sequence[PrimaryContrast], margin: float) -> list[Block]:
    """The questions that were named before the study ran."""
    if not primary:
        return [Lines(["The study file names no primary contrast: everything here is exploratory."])]
    rows: list[list[Cell | str]] = []
    for contrast in primary:
        over_items = "none for this contrast"
        if contrast.over_items:
            over_items = shared.format_estimate(clipped(contrast.over_items, contrast), contrast.is_share, signed=True)
        rows.append(
            [
                shared.contrast_name(contrast.contrast),
                shared.verdict_cell(shared.supported_verdict(contrast.verdict, contrast.difference)),
                shared.estimate_cell(clipped(contrast.difference, contrast), contrast.is_share, signed=True),
                over_items,
                shared.p_value_cell(contrast.p_difference_adjusted),
                shared.p_value_cell(contrast.p_equivalence_adjusted),
                shared.count(contrast.seed_count),
            ]
        )
    columns = ("contrast", "verdict", "difference [over seeds]", "difference [over seeds and templates]",
               "p of a difference", "p of equivalence", "seeds")  # fmt: skip
    note = (
        "Differences of shares are in percentage points, others in the metric's own unit; p-values are adjusted (Holm) over these "
        f"contrasts. Margin of shares: {margin * 100:g} points."
    )
    return [Table(columns, rows, note=note), *shared.verdict_sentences(primary)]


def study_data(record: StudyRecord) -> list[Block]:
    """What the rows were, how good the synthetic ones are, what they share, what was cut."""
    return [
        *shared.row_counts(record.counts),
        *quality_table(record.quality),
        *overlap_table(record.overlap),
        *cut_table(record.rows_cut),
    ]


def quality_table(sources: Mapping[str, SourceQuality]) -> list[Block]:
    """How far a judge agrees with synthetic labels."""
    rows = [
        (
            source,
            Cell(f"{quality.agreement:.1%} of {quality.n:,}", sort=quality.agreement),
            Cell(f"{quality.judge_accuracy_on_human:.1%} of {quality.n_human:,}", sort=quality.judge_accuracy_on_human),
            ", ".join(label_agreement(label, by) for label, by in quality.by_label.items()),
        )
        for source, quality in sources.items()
    ]
    if not rows:
        return []
    columns = ("source", "judge agrees with its labels", "judge agrees with human labels", "by label")
    note = "The judge is a model trained on human rows: what it gets wrong on human rows bounds what its view is worth."
    return [Table(columns, rows, "Labels of the synthetic data", note)]


def label_agreement(label: str, quality: LabelQuality) -> str:
    """'positive 75% of 8', or that no row has the label.

    >>> label_agreement("positive", LabelQuality(agreement=0.75, n=8))
    'positive 75% of 8'
    """
    return f"{label} no row" if quality.agreement is None else f"{label} {quality.agreement:.0%} of {quality.n}"


def overlap_table(pairs: Sequence[SharedRows]) -> list[Block]:
    """Rows that two sets share."""
    overlapping = [pair for pair in pairs if pair.shared]
    if not overlapping:
        none = f"No row stands in two of the study's sets ({len(pairs)} pairs were compared)."
        return [Lines([none])] if pairs else []
    rows = [
        (pair.a, pair.b, shared.count(pair.rows_a), shared.count(pair.rows_b), shared.count(pair.shared))
        for pair in overlapping
    ]
    note = f"{len(pairs)} pairs of sets were compared; those that share nothing are not listed."
    return [Table(("set", "and set", "rows", "rows of the other", "shared"), rows, "Rows that two sets share", note)]


def cut_table(steps: Mapping[str, CutRows]) -> list[Block]:
    """Rows that the model could not be given whole, or not at all."""
    rows: list[list[Cell | str]] = [
        [
            label,
            *map(shared.count, [cut.rows, cut.rows_cut, cut.rows_too_long, cut.rows_refused]),
        ]
        for label, cut in steps.items()
    ]
    columns = ("step", "rows", "cut", "too long", "refused")
    return [Table(columns, rows, "Rows that were cut or left out")] if rows else []


def study_facts(record: StudyRecord) -> list[Block]:
    """What was run, in a few facts."""
    spec, timing = record.spec, record.timing
    calls = f"{timing.steps_run:,} were run and {timing.steps_reused:,} reused at the last call"
    steps = f"{len(record.steps):,}, of which {calls}"
    time = f"{timing.seconds_of_all_steps:,.0f} s for all steps, {timing.this_run_seconds:,.0f} s at the last call"
    items = [
        ("question", spec.says or "not stated"),
        ("model", redact_path(spec.trained_model or "not stated")),
        ("seeds", ", ".join(map(str, spec.seeds))),
        ("steps", steps),
        ("time", time),
    ]
    return [Facts(items), *look_table(record.looks)]


def look_table(looks: Sequence[LookRecord]) -> list[Block]:
    """When the verdicts were looked at, with which seeds, and what of the question was changed since the look before."""
    if not looks:
        return []
    rows = [
        (look.at, seeds_cell(look), "; ".join(look.changed) or "nothing", (look.question or look.asked)[:12])
        for look in looks
    ]
    before = "The verdicts were looked at before; the p-values do not know it." * (len(rows) > 1)
    later = "The question was changed after results were seen." * any(look.changed for look in looks)
    columns = ("when", "seeds", "changed since the look before", "hash of the question")
    return [Table(columns, rows, "Looks at the verdicts", " ".join(filter(None, (before, later))))]


def seeds_cell(look: LookRecord) -> Cell:
    """The seeds of a look; their number where it tells no more."""
    seeds = look.seeds
    return Cell(", ".join(map(str, seeds)), sort=len(seeds)) if isinstance(seeds, list) else shared.count(seeds)


def study_again(run: Run[StudyRecord]) -> list[Block]:
    """The study file as it was resolved, and the command."""
    steps = [
        Lines([f"Save this as {run.name}.yaml, beside the data that it names:"]),
        Lines([as_yaml(run.record.spec.as_json())], "code"),
    ]
    text = run.record.command or f"pyrite study {run.name}.yaml --data ."
    return [Lines(["One command, with the study file below; finished steps in the store are not run again:"]),
            Lines([text], "code"), *steps]  # fmt: skip


def as_yaml(values: Plain) -> str:
    """Plain values as YAML; paths that lead out of the data's folder as names of files in it."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    sink = io.StringIO()
    yaml.dump(redact_outside_paths(values), sink)
    return sink.getvalue().rstrip()


def contrasts_column(run: Run[StudyRecord]) -> Column:
    """Every primary contrast of a study of labels."""
    return {
        shared.contrast_name(contrast.contrast): shared.change_cell(
            contrast.verdict, clipped(contrast.difference, contrast), contrast.is_share
        )
        for contrast in run.record.primary
    }


def cells_column(run: Run[StudyRecord]) -> Column:
    """Accuracy of every cell of a study of labels, on each probe's headline slice."""
    from pyrite.study.tables import headline_rows

    column = {}
    for row in headline_rows(stored(run, "summary.parquet"), run.record.spec.as_json()):
        size = f", {row['size']:,} rows" if row["size"] else ""
        name = f"{row['probe']}: {row['start']}, {row['arm']}{size}"
        column[name] = shared.estimate_cell(mean_of(row), is_share(row), why=few_seeds(row))
    return column


KIND = ReportKind(
    study_part, {"Primary contrasts": contrasts_column, "Accuracy of every cell, mean over seeds": cells_column}
)
