"""A study of labels on the page: the verdicts, the panels, the table, the primary contrasts, the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.names import redact_outside_paths, redact_path
from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.objects import stored
from pyrite.report.page import Block, Cell, Facts, Lines, Rows, Section, Table, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import TONES, Part, Told
from pyrite.runs import Run

UNSAID = (
    "The unit is the training seed. An interval over seeds says what further seeds of this very study would give; it says "
    "nothing of another task model, another training, or another data set.",
    "Data of one generator speaks of that generator only.",
    "Every number that is not a primary contrast is exploratory: no p-value was adjusted for having looked at all of them.",
    "'Cannot tell yet' is no sign that there is no difference; 'equivalent' holds within the stated margin only.",
)


def part(run: Run, config: ReportConfig, anchor: str) -> Part:
    """A study's share of the page."""
    told, spec = names.of_study(run).told, run.told["spec"]
    summary = stored(run, "summary.parquet")
    sections = [
        Section(f"{anchor}-panels", "Every model, seed by seed", panels(run, anchor)),
        Section(f"{anchor}-table", "Each arm against its start and against the human arm", tables(summary, spec),
                slices(summary, anchor)),
        Section(f"{anchor}-primary", "Primary contrasts", contrasts(told["primary"], spec["margin"])),
        Section(f"{anchor}-data", "The data", data(told)),
    ]  # fmt: skip
    return Part(
        title=f"Study {run.name}",
        verdicts=[verdict(one, spec) for one in told["primary"]],
        sections=sections,
        ran=ran(told),
        software=shared.software(told),
        again=again(run),
        unsaid=[*map(sentence, told["notes"]), *UNSAID],
        settings=shared.settings(spec),
    )


def sentence(note: str) -> str:
    """A note with a capital and a full stop."""
    return f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}"


def verdict(one: Told, spec: Told) -> Verdict:
    """One primary contrast for somebody who was not there."""
    about, difference = one["contrast"], cut(one["difference"], one["contrast"]["probe"] == "gap")
    other = "their start" if about["against"] == "start" else f"those trained on {about['against']}"
    if about["probe"] != "gap":
        where = f"on {probe_name(about['probe'], spec)}"
    else:
        where = "on the gap between general task and blind spot (negative: it opened)"
    seeds = f"{one['seeds']} training seed{'s' * (one['seeds'] != 1)}"
    judged = shared.judged(one["verdict"], one["difference"])
    label = shared.words(judged)
    text = f"Models trained on {about['arm']}, against {other}, {where}: {label} ({shared.in_words(difference, True, signed=True)}; {seeds})."
    if cells := [cell["cell"] for cell in one.get("left_out") or () if one.get("cell_names")]:
        text += f" Left out, for they cannot answer: {'; '.join(cells)}."
    return Verdict(label, text, TONES.get(judged, "plain"))


def probe_name(name: str, spec: Told) -> str:
    """A probe with its headline slice."""
    headline = spec["probes"].get(name, {}).get("headline")
    return f"{name} ({', '.join(headline.values())})" if headline else name


def cut(difference: Told, is_gap: bool) -> Told:
    """A difference of shares, its interval cut at what such a difference can be."""
    if difference["low"] is None:
        return difference
    limit = 2.0 if is_gap else 1.0
    return {**difference, "low": max(difference["low"], -limit), "high": min(difference["high"], limit)}


def panels(run: Run, anchor: str) -> list[Block]:
    """The figure, drawn from the stored numbers."""
    from pyrite.report.draw import SCREEN, figure
    from pyrite.study import objects
    from pyrite.study.figure import alt_text, panels_in

    rows = objects.panels(run.folder)
    if not rows:
        return [Lines(["No figure: the run folder does not hold its numbers (results/panels.parquet). Run the study again; "
                       "its finished steps are reused."])]  # fmt: skip
    chart = objects.figure(run.folder, run.told["spec"], SCREEN)
    return [figure(chart, anchor, alt_text(rows, panels_in(rows)), titled=False)]


def tables(summary: Sequence[Told], spec: Told) -> list[Block]:
    """A table for each probe: its headline slice."""
    from pyrite.study.objects import headline_rows

    made: list[Block] = []
    for name in spec["probes"]:
        rows = headline_rows([row for row in summary if row["probe"] == name], spec)
        title = probe_name(name, spec)
        if not rows:
            made.append(Lines([f"{title}: its headline slice is not among the stored slices."]))
            continue
        lines = [line(row) for row in rows]
        columns = (
            "start",
            "arm",
            "training rows",
            "accuracy",
            "against start, points",
            "against human arm, points",
            "per seed, %",
        )
        caption = f"{title}: accuracy, mean over seeds with 95 % t interval"
        made.append(Table(columns, lines, caption, "Differences are taken within each seed, in percentage points."))
    return made


def line(row: Told) -> list[Cell | str]:
    """A cell of the study as a line of the table."""
    return [
        row["start"],
        row["arm"],
        Cell(f"{row['size']:,}" if row["size"] else "", sort=row["size"]),
        shared.cell(of(row, "mean"), True, why=few(row)),
        against(row, "minus_start"),
        against(row, "minus_human"),
        " ".join(f"{float(value) * 100:.0f}" for value in row["per_seed"].split()),
    ]


def of(row: Told, name: str) -> dict[str, Any]:
    """A value of the summary with its bounds."""
    low, high = ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")
    return {"value": row[name], "low": row[low], "high": row[high]}


def few(row: Told) -> str:
    """Why there is no interval."""
    return "one seed" if row["n_seeds"] == 1 else "one shared seed, or the same in every seed"


def against(row: Told, name: str) -> Cell:
    """A difference, or a dash where there is nothing to compare with."""
    return Cell("–") if row[name] is None else shared.cell(of(row, name), True, signed=True, why=few(row))


def slices(summary: Sequence[Told], anchor: str) -> list[Section]:
    """Every slice of every cell, to be searched; templates stay in the run folder."""
    rows = [
        (row["probe"], row["metric"], row["by"], row["name"], row["gold"] or "", *texts(row))
        for row in summary
        if "template" not in row["by"]
    ]
    columns = ("probe", "metric", "slice by", "slice", "gold label", "start", "arm", "training rows", "value",
               "against start, points", "against human arm", "per seed, %")  # fmt: skip
    caption = "Exploratory. Every slice, those by template too, stands in results/summary.csv."
    found = Rows(f"{anchor}-slices", columns, rows, len(rows), caption, ("probe", "metric", "slice by", "arm"))
    return [Section(f"{anchor}-slices", "Every slice", [found], folded=True)] if rows else []


def texts(row: Told) -> list[str]:
    """The line without what it sorts by."""
    return [one.text if isinstance(one, Cell) else one for one in line(row)]


def contrasts(primary: Sequence[Told], margin: float) -> list[Block]:
    """The questions that were named before the study ran."""
    if not primary:
        return [Lines(["The study file names no primary contrast: everything here is exploratory."])]
    rows: list[list[Cell | str]] = []
    for one in primary:
        about, is_gap = one["contrast"], one["contrast"]["probe"] == "gap"
        items = "none for this contrast"
        if one["over_items"]:
            items = shared.estimate(cut(one["over_items"], is_gap), True, signed=True)
        rows.append(
            [
                f"{about['arm']} against {about['against']} on {about['probe']}",
                shared.of_verdict(shared.judged(one["verdict"], one["difference"])),
                shared.cell(cut(one["difference"], is_gap), True, signed=True),
                items,
                shared.p_value(one["p_difference_adjusted"]),
                shared.p_value(one["p_equivalence_adjusted"]),
                shared.count(one["seeds"]),
            ]
        )
    columns = ("contrast", "verdict", "difference [over seeds]", "difference [over seeds and templates]",
               "p of a difference", "p of equivalence", "seeds")  # fmt: skip
    note = f"Differences in percentage points; p-values are adjusted (Holm) over these contrasts. Margin: {margin * 100:g} points."
    return [Table(columns, rows, note=note), *shared.sentences(primary)]


def data(told: Told) -> list[Block]:
    """What the rows were, how good the synthetic ones are, what they share, what was cut."""
    return [
        *shared.counts(told["counts"]),
        *quality(told.get("quality", {})),
        *overlap(told["overlap"]),
        *rows_cut(told.get("rows_cut", {})),
    ]


def quality(told: Mapping[str, Told]) -> list[Block]:
    """How far a judge agrees with synthetic labels."""
    rows = [
        (
            source,
            Cell(f"{one['agreement']:.1%} of {one['n']:,}", sort=one["agreement"]),
            Cell(f"{one['judge_accuracy_on_human']:.1%} of {one['n_human']:,}", sort=one["judge_accuracy_on_human"]),
            ", ".join(f"{label} {some['agreement']:.0%} of {some['n']}" for label, some in one["by_label"].items()),
        )
        for source, one in told.items()
    ]
    if not rows:
        return []
    columns = ("source", "judge agrees with its labels", "judge agrees with human labels", "by label")
    note = "The judge is a model trained on human rows: what it gets wrong on human rows bounds what its view is worth."
    return [Table(columns, rows, "Labels of the synthetic data", note)]


def overlap(told: Sequence[Told]) -> list[Block]:
    """Rows that two sets share."""
    shares = [one for one in told if one["shared"]]
    if not shares:
        return [Lines([f"No row stands in two of the study's sets ({len(told)} pairs were compared)."])] if told else []
    rows = [(share["a"], share["b"], shared.count(share["rows_a"]), shared.count(share["rows_b"]), shared.count(share["shared"]))
            for share in shares]  # fmt: skip
    note = f"{len(told)} pairs of sets were compared; those that share nothing are not listed."
    return [Table(("set", "and set", "rows", "rows of the other", "shared"), rows, "Rows that two sets share", note)]


def rows_cut(told: Mapping[str, Told]) -> list[Block]:
    """Rows longer than what the model reads."""
    rows = [(label, shared.count(one["rows"]), shared.count(one.get("rows_cut", 0)), shared.count(one.get("rows_too_long", 0)))
            for label, one in told.items()]  # fmt: skip
    return [Table(("step", "rows", "cut", "left out"), rows, "Rows longer than max_tokens")] if rows else []


def ran(told: Told) -> list[Block]:
    """What was run, in a few facts."""
    spec, timing = told["spec"], told["timing"]
    model = spec["task_model"]["model"] if "task_model" in spec else spec["model"]
    told_facts = [
        ("question", spec["says"] or "not stated"),
        ("model", redact_path(model)),
        ("seeds", ", ".join(map(str, spec["seeds"]))),
        ("steps", f"{len(told['steps']):,}, of which {timing['steps_run']:,} were run and {timing['steps_reused']:,} reused at the last call"),
        ("time", f"{timing['seconds_of_all_steps']:,.0f} s for all steps, {timing['this_run_seconds']:,.0f} s at the last call"),
    ]  # fmt: skip
    return [Facts(told_facts), *looks(told.get("looks", ()))]


def looks(told: Sequence[Told]) -> list[Block]:
    """When the verdicts were looked at, with which seeds, and what of the question was changed since the look before."""
    if not told:
        return []
    rows = [(one["at"], seeds_of(one), "; ".join(one.get("changed") or ()) or "nothing", str(one.get("question") or one["asked"])[:12])
            for one in told]  # fmt: skip
    before = "The verdicts were looked at before; the p-values do not know it." * (len(rows) > 1)
    later = "The question was changed after results were seen." * any(one.get("changed") for one in told)
    columns = ("when", "seeds", "changed since the look before", "hash of the question")
    return [Table(columns, rows, "Looks at the verdicts", " ".join(filter(None, (before, later))))]


def seeds_of(look: Told) -> Cell:
    """The seeds of a look; their number where it tells no more."""
    seeds = look["seeds"]
    return Cell(", ".join(map(str, seeds)), sort=len(seeds)) if isinstance(seeds, list) else shared.count(seeds)


def again(run: Run) -> list[Block]:
    """The study file as it was resolved, and the command."""
    told = run.told
    steps = [
        Lines([f"Save this as {run.name}.yaml, beside the data that it names:"]),
        Lines([as_yaml(told["spec"])], "code"),
    ]
    text = told.get("command") or f"pyrite study {run.name}.yaml --data ."
    return [Lines(["One command, with the study file below; finished steps in the store are not run again:"]),
            Lines([text], "code"), *steps]  # fmt: skip


def as_yaml(spec: Told) -> str:
    """Plain values as YAML; paths that lead out of the data's folder as names of files in it."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    sink = io.StringIO()
    yaml.dump(redact_outside_paths(spec), sink)
    return sink.getvalue().rstrip()
