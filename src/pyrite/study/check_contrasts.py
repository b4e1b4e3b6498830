"""What do probes ask of which cells, and what do contrasts, frontier and pilot read? Every mistake with its place in the file."""

from collections.abc import Iterator, Sequence

from pyrite.config_base import Mistake, Place, not_there
from pyrite.study import chat_uses
from pyrite.study.check_cells import types_of_cells
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import GAP, HARNESS, ContrastSpec, ProbeSpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS

SIDES = ("lost", "gained")


def asked_of_cells(spec: StudySpec) -> Iterator[Mistake]:
    """Probes name cells that there are, and ask for text only where a model writes it."""
    types = types_of_cells(spec)
    for name, probe in spec.probes.items():
        for number, cell in enumerate(probe.only_cells or ()):
            if cell not in types:
                yield ("probes", name, "only_cells", number), not_there(cell, list(types))
        cells_asked = [cell for cell in (probe.only_cells or types) if cell in types]
        silent = next((cell for cell in cells_asked if types[cell] == "classifier"), None)
        if not probe.names_labels and silent:
            why = f"{probe.task} asks a language model, and {silent} is a classifier: name the cells that it asks (only_cells)"
            yield ("probes", name, "task"), why


def known_metrics(probe: ProbeSpec, spec: StudySpec) -> tuple[str, ...] | None:
    """The metrics of a probe's task; None where only its run can say."""
    from pyrite.probe import perplexity
    from pyrite.study.label_probes import task_of
    from pyrite.tasks.generative_tasks import GENERATIVE
    from pyrite.tasks.scoring import label_metrics

    if probe.names_labels:
        return tuple(metric.name for metric in label_metrics(task_of(probe, spec)))
    if probe.task.startswith(HARNESS):
        return None
    if probe.task == "perplexity":
        return tuple(metric.name for metric in perplexity.METRICS)
    generative = GENERATIVE.get(probe.task)
    return None if generative is None else tuple(metric.name for metric in generative.metrics)


def contrast_mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Primary contrasts name arms, cells, starts, sizes and probes that are there."""
    every = list(spec.all_arms()) if spec.has_grid else []
    written = list(dict.fromkeys(cell.name for cell in spec.cells))
    sizes = [*map(str, spec.sizes), *(str(cell.size) for cell in spec.cells)]
    for number, contrast in enumerate(spec.primary()):
        where = ("contrasts", number)
        if question_of(spec, contrast) in [question_of(spec, other) for other in spec.primary()[:number]]:
            yield where, "the same question is there twice: each counts in the correction for the others"
        if bool(contrast.arm) != spec.has_grid:
            yield where, "with starts say arm: NAME, without say cell: NAME"
            continue
        looked_up = [("starts", name, list(spec.starts)) for name in contrast.starts or ()]
        looked_up += [("sizes", str(size), sizes) for size in contrast.sizes or ()]
        looked_up += [
            ("arm" if contrast.arm else "cell", contrast.about, [*every, *written]),
            ("against", contrast.against, [*every, *written, *([START_ROWS] if spec.has_grid else [])]),
            ("probe", contrast.probe_name, [*spec.probes, *([GAP] if spec.has_grid else [])]),
        ]
        wrong = [
            ((*where, key), not_there(name, available)) for key, name, available in looked_up if name not in available
        ]
        yield from wrong
        if wrong:
            continue
        if contrast.about == contrast.against:
            yield (*where, "against"), f"{contrast.about} is compared with itself"
        yield from probe_of_contrast(spec, number)


def question_of(spec: StudySpec, contrast: ContrastSpec) -> tuple[object, ...]:
    """What a contrast asks, however it is written: two sides in any order, a metric or the probe's first, starts and sizes
    by name or all. The margin is no part of it: it decides which difference matters, not which is looked at."""
    probe = spec.probes.get(contrast.probe_name)
    metrics = known_metrics(probe, spec) if probe is not None else None
    metric = contrast.metric or (metrics[0] if metrics else "")
    starts = frozenset(contrast.starts or spec.starts)
    sizes = frozenset(contrast.sizes or spec.sizes)
    return frozenset((contrast.about, contrast.against)), contrast.probe_name, metric, starts, sizes


def probe_of_contrast(spec: StudySpec, number: int) -> Iterator[Mistake]:
    """A contrast's probe asks both sides, and has its metric."""
    contrast, where = spec.primary()[number], ("contrasts", number)
    if contrast.probe == GAP:
        if len(spec.probes) < 2:
            yield where, "a gap needs a blind spot beside the general task"
        spots = [name for name in spec.probes if name != "general"][:1]
        if any(not spec.probes[name].names_labels for name in ("general", *spots)):
            yield (*where, "probe"), "a gap is one of labels: the general task and the first blind spot name labels"
        for name in ("general", *spots):
            yield from asks_both(spec, number, name)
        return
    probe = spec.probes[contrast.probe_name]
    metrics = known_metrics(probe, spec)
    if contrast.metric and metrics is not None and contrast.metric not in metrics:
        yield (*where, "probe"), f"{contrast.probe_name}: {not_there(contrast.metric, metrics)}"
    if not contrast.metric and metrics is None:
        yield (*where, "probe"), f"{contrast.probe_name}: say which metric: PROBE.METRIC"
    yield from asks_both(spec, number, contrast.probe_name)


def asks_both(spec: StudySpec, number: int, name: str) -> Iterator[Mistake]:
    """A probe asks both sides of a contrast; a start may be named by `start` or by its name."""
    contrast, only_cells = spec.primary()[number], spec.probes[name].only_cells
    for cell in (contrast.about, contrast.against):
        names = {cell, *(contrast.starts or spec.starts)} if cell == START_ROWS and spec.has_grid else {cell}
        if only_cells is not None and not names & set(only_cells):
            yield ("contrasts", number, "probe"), f"the probe {name} does not ask the cell {cell} (only_cells)"


def frontier_mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """A frontier names cells, and probes with metrics that ask them; what chooses asks other items than what judges."""
    spec_of_frontier = spec.frontier
    if spec_of_frontier is None:
        return
    cells = [name for name in types_of_cells(spec) if name not in spec.starts]  # a start is called `start` here
    if spec_of_frontier.before == spec_of_frontier.harmed:
        yield ("frontier", "harmed"), "the cell before and the harmed one are two cells"
    if spec_of_frontier.lost == spec_of_frontier.gained:
        yield ("frontier", "gained"), "what was lost and what was gained are two metrics"
    for key in ("before", "harmed"):
        if getattr(spec_of_frontier, key) not in cells:
            yield ("frontier", key), not_there(getattr(spec_of_frontier, key), cells)
    ends = (spec_of_frontier.before, spec_of_frontier.harmed)
    named: list[tuple[Place, str, Sequence[str]]] = [
        (("frontier", key), getattr(spec_of_frontier, key), ends) for key in SIDES
    ]
    if spec_of_frontier.choose is not None:
        for number, cell in enumerate(spec_of_frontier.choose.among):
            if cell not in cells or cell in ends:
                why = "it is an end of the frontier" if cell in ends else not_there(cell, cells)
                yield ("frontier", "choose", "among", number), why
        several = (*ends, *spec_of_frontier.choose.among)
        named += [(("frontier", "choose", key), getattr(spec_of_frontier.choose, key), several) for key in SIDES]
        yield from chat_uses.chosen_and_judged(spec)
    for place, text, some in named:
        yield from probe_of_cells(spec, place, text, some)
    if spec.has_grid:
        yield from points_of_grid(spec)


def points_of_grid(spec: StudySpec) -> Iterator[Mistake]:
    """With starts, the points of a frontier are the written-out cells, each with a cell before and a harmed one of its start
    and size; a choice is among cells that are there once."""
    wanted = spec.frontier
    assert wanted is not None
    if not spec.cells:
        yield (
            ("frontier",),
            "its points are the cells that are written out, and there are none: cells: {NAME: {start, steps, size}}",
        )
    grid = {(arm, start, size) for arm in spec.all_arms() for start in spec.starts for size in spec.sizes}
    keys = grid | {(cell.name, cell.start or "", cell.size) for cell in spec.cells}
    ends = (wanted.before, wanted.harmed)
    points = [
        cell.name
        for cell in spec.cells
        if cell.name not in ends
        and all(end == START_ROWS or (end, cell.start or "", cell.size) in keys for end in ends)
    ]
    if spec.cells and not points:
        yield ("frontier",), f"no written-out cell has {' and '.join(ends)} beside it, of its own start and size"
    for number, name in enumerate(wanted.choose.among if wanted.choose else ()):
        if sum(cell.name == name for cell in spec.cells) != 1 or (name not in points and name not in ends):
            yield (
                ("frontier", "choose", "among", number),
                f"{name} is there for several starts or sizes, or is no point of the frontier",
            )


def probe_of_cells(spec: StudySpec, place: Place, named: str, cells: Sequence[str]) -> Iterator[Mistake]:
    """A PROBE.METRIC that is there, and asks these cells."""
    name, _, metric = named.partition(".")
    if name not in spec.probes:
        yield place, not_there(name, list(spec.probes))
        return
    probe = spec.probes[name]
    metrics = known_metrics(probe, spec)
    if metrics is not None and metric not in metrics:
        yield place, f"{name}: {not_there(metric, metrics)}"
    for cell in cells:
        if probe.only_cells is not None and cell not in probe.only_cells:
            yield place, f"the probe {name} does not ask the cell {cell} (only_cells)"


def pilot_mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """The pilot's items and seed are not the study's, its metric exists, and it compares with a cell."""
    if spec.pilot is None:
        return
    first = spec.pilot.probe
    if spec.pilot.against not in spec.paths:
        yield ("pilot", "against"), not_there(spec.pilot.against, list(spec.paths))
    elif DAMAGE in spec.paths[spec.pilot.against]:
        yield ("pilot", "against"), "a damage is compared with a cell that has none"
    metrics = known_metrics(first, spec)
    if metrics is not None and spec.pilot.metric not in metrics:
        yield ("pilot", "metric"), not_there(spec.pilot.metric, metrics)
    if spec.pilot.seed in spec.seeds:
        why = f"{spec.pilot.seed} is a seed of the study too, so a model that was picked for its result would come back"
        yield ("pilot", "seed"), f"{why} as a replicate: name another"
    yield from chat_uses.seen_by_pilot(spec)
