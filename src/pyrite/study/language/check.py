"""What fits together in a study of a language model? Every mistake with its place in the file and what to write."""

from collections.abc import Iterator, Sequence

from pyrite.config_base import Mistake, Place, not_there
from pyrite.errors import UserError
from pyrite.study.language.spec import DAMAGE, HARNESS, LanguageProbe, LanguageSpec, pools_of
from pyrite.study.language.uses import (
    Use,
    chosen_and_judged,
    damage_in_part,
    damages,
    leaks,
    seen_by_pilot,
    shared_files,
    uses,
)


def mistakes(spec: LanguageSpec) -> Iterator[Mistake]:
    """Every mistake in how the parts of a study name each other: where, and what is wrong."""
    for check in (names, rows, shared_files, methods, cells, probes, contrasts, frontier, pilot):
        yield from check(spec)


def names(spec: LanguageSpec) -> Iterator[Mistake]:
    """Steps have different names; what `damage` names is there."""
    seen: set[str] = set()
    for where, some in (
        (("trainings",), list(spec.trainings)),
        (("pilot", "grid"), list(spec.pilot.grid) if spec.pilot else []),
        (("repairs",), list(spec.repairs)),
        (("quantise",), list(spec.quantise)),
        (("merge",), list(spec.merge)),
    ):
        for name in some:
            if name in seen or name == DAMAGE:
                yield (*where, name), f"the name '{name}' is taken"
            seen.add(name)
    if DAMAGE in spec.data:
        yield ("data", DAMAGE), f"the name '{DAMAGE}' stands for the rows of the chosen damage"
    if spec.damage is not None and spec.damage not in spec.all_trainings():
        yield ("damage",), not_there(spec.damage, list(spec.all_trainings()))
    if len(set(spec.seeds)) < len(spec.seeds) or min(spec.seeds) < 0:
        yield ("seeds",), "each once, 0 or more"


def rows(spec: LanguageSpec) -> Iterator[Mistake]:
    """Rows exist, a repair's four pools differ, and no pool is used for two things, whichever damage is chosen."""
    known = list(pools_of(spec))
    told: set[Place] = set()
    for damage in damages(spec):
        some = uses(spec, damage)
        checks = (
            unresolved(some, known, damage),
            four_pools(spec, some),
            leaks(use for use in some if use.pool in known),
            damage_in_part(some, spec, damage),
        )
        for place, why in (mistake for check in checks for mistake in check):
            if place not in told:
                told.add(place)
                yield place, why


def unresolved(some: Sequence[Use], known: Sequence[str], damage: str | None) -> Iterator[Mistake]:
    """Names of rows that stand for no pool."""
    for use in some:
        if (
            use.role == "trained"
            and use.place[0] in ("trainings", "pilot")
            and use.pool != use.named
            and use.place[-2] == damage
        ):
            yield use.place, "the damage cannot be trained on its own rows by that name: say which"
        elif use.place == ("pilot", "probe", "data") and use.named.partition(".")[0] == DAMAGE:
            yield use.place, "the pilot has still to say what the damage is: name DATA.POOL"
        elif use.pool not in known:
            lost = use.pool.partition(".")[0] == DAMAGE
            why = f"{use.pool}: damage: NAME must name a training on one pool" if lost else not_there(use.pool, known)
            yield use.place, why


def four_pools(spec: LanguageSpec, some: Sequence[Use]) -> Iterator[Mistake]:
    """The four pools of a repair differ."""
    for name in spec.repairs:
        four = [use.pool for use in some if use.place[:2] == ("repairs", name)]
        if len(set(four)) < len(four):
            yield ("repairs", name), f"forget, replay and the guard's rows must be different pools, not {four}"


def methods(spec: LanguageSpec) -> Iterator[Mistake]:
    """Repairs name a method that there is, with options that it has, and leave a whole model."""
    from pyrite.repair.methods import resolve_method

    for name, repair in spec.repairs.items():
        if repair.settings.save != "merged":
            yield ("repairs", name, "settings"), "a study goes on from whole models: leave out save, or say merged"
        if repair.settings.processes > 1 and repair.settings.kl_to == "before":
            yield ("repairs", name, "settings"), "kl_to: before is for one process"
        if repair.before is not None:
            yield from model_before(spec, ("repairs", name, "before"), repair.before)
        try:
            resolve_method(repair.settings.method, repair.settings.options)
        except UserError as error:
            yield ("repairs", name, "settings"), f"{error.what} {error.found}: {error.fix}"


def cells(spec: LanguageSpec) -> Iterator[Mistake]:
    """Cells name steps that there are."""
    steps = [DAMAGE, *spec.all_trainings(), *spec.repairs, *spec.quantise, *spec.merge]
    for name, one in spec.merge.items():
        if one.before is not None:
            yield from model_before(spec, ("merge", name, "before"), one.before)
    for name, path in spec.cells.items():
        if path and path[0] in spec.merge and spec.merge[path[0]].before is None:
            yield ("cells", name, 0), f"{path[0]} would mix the model as given with itself"
    for name, path in spec.cells.items():
        for number, step in enumerate(path):
            if step not in steps:
                yield ("cells", name, number), not_there(step, steps)
            elif step == DAMAGE and spec.damage is None and spec.pilot is None:
                yield ("cells", name, number), "damage: NAME must say which training this is"
    for number, name in enumerate(spec.compare_with or ()):
        if name not in spec.cells:
            yield ("compare_with", number), not_there(name, list(spec.cells))


def model_before(spec: LanguageSpec, place: Place, cell: str) -> Iterator[Mistake]:
    """The model before is a cell that trainings alone made: one that looks back itself could go round in a circle."""
    if cell not in spec.cells:
        yield place, not_there(cell, list(spec.cells))
        return
    back = {*spec.merge, *(name for name, one in spec.repairs.items() if one.before is not None)}
    looks_back = [step for step in spec.cells[cell] if step in back]
    if looks_back:
        yield place, f"the model before is trained: cell {cell} holds {looks_back[0]}, which looks back itself"


def probes(spec: LanguageSpec) -> Iterator[Mistake]:
    """Probes have plain names, and name cells that there are."""
    for name, probe in spec.probes.items():
        if "." in name:
            yield ("probes", name), "a probe's name has no dot in it"
        for number, cell in enumerate(probe.only_cells or ()):
            if cell not in spec.cells:
                yield ("probes", name, "only_cells", number), not_there(cell, list(spec.cells))


def known_metrics(probe: LanguageProbe) -> tuple[str, ...] | None:
    """The metrics of a probe's task; None where only its run can say."""
    from pyrite.probe import generative_steps, perplexity

    if probe.task.startswith(HARNESS):
        return None
    if probe.task == "perplexity":
        return tuple(metric.name for metric in perplexity.METRICS)
    generative = generative_steps.WRITTEN.get(probe.task)
    return None if generative is None else tuple(metric.name for metric in generative.metrics)


def contrasts(spec: LanguageSpec) -> Iterator[Mistake]:
    """Contrasts name cells, a probe that asks both, and a metric of it."""
    for number, contrast in enumerate(spec.contrasts):
        at = ("contrasts", number)
        for key in ("cell", "against"):
            if getattr(contrast, key) not in spec.cells:
                yield (*at, key), not_there(getattr(contrast, key), list(spec.cells))
        if contrast.cell == contrast.against:
            yield (*at, "against"), f"{contrast.cell} is compared with itself"
        name, _, metric = contrast.probe.partition(".")
        if name not in spec.probes:
            yield (*at, "probe"), not_there(name, list(spec.probes))
            continue
        probe = spec.probes[name]
        known = known_metrics(probe)
        if known is not None and metric not in known:
            yield (*at, "probe"), f"{name}: {not_there(metric, known)}"
        for cell in (contrast.cell, contrast.against):
            if probe.only_cells is not None and cell not in probe.only_cells:
                yield (*at, "probe"), f"the probe {name} does not ask the cell {cell} (only_cells)"
    for name, probe in spec.probes.items():
        known = known_metrics(probe)
        for number, metric in enumerate(probe.metrics if known is not None else ()):
            if metric not in (known or ()):
                yield ("probes", name, "metrics", number), not_there(metric, known or ())


def frontier(spec: LanguageSpec) -> Iterator[Mistake]:
    """A frontier names cells, and probes with metrics that ask them; what chooses asks other items than what judges."""
    found = spec.frontier
    if found is None:
        return
    for key in ("before", "harmed"):
        if getattr(found, key) not in spec.cells:
            yield ("frontier", key), not_there(getattr(found, key), list(spec.cells))
    ends = (found.before, found.harmed)
    asked: list[tuple[Place, str, Sequence[str]]] = [(("frontier", key), getattr(found, key), ends) for key in SIDES]
    if found.choose is not None:
        for number, cell in enumerate(found.choose.among):
            if cell not in spec.cells or cell in ends:
                why = "it is an end of the frontier" if cell in ends else not_there(cell, list(spec.cells))
                yield ("frontier", "choose", "among", number), why
        several = (*ends, *found.choose.among)
        asked += [(("frontier", "choose", key), getattr(found.choose, key), several) for key in SIDES]
        yield from chosen_and_judged(spec)
    for place, named, some in asked:
        yield from probe_of_cells(spec, place, named, some)


SIDES = ("lost", "gained")


def probe_of_cells(spec: LanguageSpec, place: Place, named: str, some: Sequence[str]) -> Iterator[Mistake]:
    """A PROBE.METRIC that is there, and asks these cells."""
    name, _, metric = named.partition(".")
    if name not in spec.probes:
        yield place, not_there(name, list(spec.probes))
        return
    probe = spec.probes[name]
    known = known_metrics(probe)
    if known is not None and metric not in known:
        yield place, f"{name}: {not_there(metric, known)}"
    for cell in some:
        if probe.only_cells is not None and cell not in probe.only_cells:
            yield place, f"the probe {name} does not ask the cell {cell} (only_cells)"


def pilot(spec: LanguageSpec) -> Iterator[Mistake]:
    """The pilot's items and seed are not the study's, its metric exists, and it compares with a cell."""
    if spec.pilot is None:
        return
    first = spec.pilot.probe
    if spec.pilot.against not in spec.cells:
        yield ("pilot", "against"), not_there(spec.pilot.against, list(spec.cells))
    elif DAMAGE in spec.cells[spec.pilot.against]:
        yield ("pilot", "against"), "a damage is compared with a cell that has none"
    known = known_metrics(first)
    if known is not None and spec.pilot.metric not in known:
        yield ("pilot", "metric"), not_there(spec.pilot.metric, known)
    if spec.pilot.seed in spec.seeds:
        why = f"{spec.pilot.seed} is a seed of the study too, so a model that was picked for its result would come back"
        yield ("pilot", "seed"), f"{why} as a replicate: name another"
    yield from seen_by_pilot(spec)
