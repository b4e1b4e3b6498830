"""What fits together in a study? Every mistake with its place in the file and what to write."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pyrite.config_base import Mistake, Place, not_there
from pyrite.errors import UserError
from pyrite.study import chat_uses, labelled_uses
from pyrite.study.spec import (
    DAMAGE,
    GAP,
    HARNESS,
    START_ROWS,
    TRAINED,
    ArmSpec,
    CellSpec,
    PoolSpec,
    ProbeSpec,
    StudySpec,
    as_pool,
    chat_pools,
)
from pyrite.tasks import WRITTEN_BY_GRAMMAR

ModelType = Literal["given", "classifier", "language"]
"""What stands at a point of a cell's path: the model as given, or what a training made of it."""
SIDES = ("lost", "gained")


def mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Every mistake in how the parts of a study name each other: where, and what is wrong."""
    first = [mistake for check in (model, grid, names) for mistake in check(spec)]
    yield from first
    if first:
        return  # what follows reads the model and the grid
    for check in (
        sources, shared_pools, starts, arms, repairs, chat_uses.mistakes, chat_uses.shared_files, probes, judges, redrawn,
        one_method, cells, asked_of_cells, contrasts, frontier, pilot,
    ):  # fmt: skip
        yield from check(spec)


def model(spec: StudySpec) -> Iterator[Mistake]:
    """There is one model; what `about` says fits."""
    if (spec.task_model is None) == (spec.model is None):
        yield (
            ("task_model",) if spec.task_model else (),
            "name the model once: task_model: {model: NAME}, or model: NAME",
        )
    if spec.about is not None and (spec.about == "labels") != bool(spec.labels):
        why = "a study about labels names them (labels: [...])" if spec.about == "labels" else "labels: leave them out"
        yield ("about",), f"{why}; about is not needed"
    if len(spec.labels) == 1:
        yield ("labels",), "a classifier has two labels or more"


def grid(spec: StudySpec) -> Iterator[Mistake]:
    """Starts, arms and sizes go together; a study has cells; the grid of a language model is plain."""
    parts = {"starts": spec.starts, "arms": spec.all_arms(), "sizes": spec.sizes}
    lacking = [name for name, part in parts.items() if not part]
    if len(lacking) < len(parts) and lacking:
        yield (), f"starts, arms and sizes go together, and there is no {lacking[0]}"
    elif lacking and not spec.cells:
        yield (), "a study has cells: starts, arms and sizes, or cells: {NAME: [steps]}"
    if spec.labels or not spec.starts:
        return
    for name, arm in spec.all_arms().items():
        strange = next((key for key in ("bias", "bias_on", "noise") if getattr(arm, key) is not None), None)
        if strange:
            yield ("arms", name, strange), "of labelled rows only, and this study has no labels"
        if arm.combine == "add":
            yield ("arms", name, "combine"), "arms of chats are mixed by replace"


def names(spec: StudySpec) -> Iterator[Mistake]:
    """Words that stand for something are nobody's name; no two steps share one; seeds differ."""
    for where, some in (("data", spec.data), ("arms", spec.arms)):
        if START_ROWS in some:
            yield (where, START_ROWS), f"the name '{START_ROWS}' stands for the start; choose another"
    for word, stands_for in (
        (DAMAGE, "the rows of the chosen damage"),
        (TRAINED, "the rows of a cell's last training"),
    ):
        if word in spec.data:
            yield ("data", word), f"the name '{word}' stands for {stands_for}"
    seen = set(spec.all_arms())
    for where_, steps in step_tables(spec):
        for name in steps:
            if name in seen or name == DAMAGE:
                yield (*where_, name), f"the name '{name}' is taken"
            seen.add(name)
    if spec.damage is not None and spec.damage not in spec.all_trainings():
        yield ("damage",), not_there(spec.damage, list(spec.all_trainings()))
    if len(set(spec.seeds)) < len(spec.seeds) or min(spec.seeds) < 0:
        yield ("seeds",), "each once, 0 or more"
    if not spec.has_grid:
        return
    if spec.human_arm not in spec.all_arms():
        yield ("human_arm",), not_there(spec.human_arm, list(spec.all_arms()))
    if "general" not in spec.probes:
        yield ("probes",), "one of them must be called 'general', the general task"


def step_tables(spec: StudySpec) -> list[tuple[Place, list[str]]]:
    """Where steps of cells are written, but for arms, and their names."""
    return [
        (("trainings",), list(spec.trainings)),
        (("pilot", "grid"), list(spec.pilot.grid) if spec.pilot else []),
        (("repairs",), list(spec.repairs)),
        (("quantise",), list(spec.quantise)),
        (("merge",), list(spec.merge)),
    ]


def sources(spec: StudySpec) -> Iterator[Mistake]:
    """Generators learn from rows that no generator wrote, and so do their judges; a grammar writes the study's fields; chats
    come from files and are used by pool."""
    known = labelled_uses.data_of(spec)
    for name, source in spec.data.items():
        if spec.holds(name) == "chats":
            yield from chats(spec, name)
            continue
        if not spec.labels:
            yield ("data", name, "holds"), "labelled rows need the study's labels: labels: [...]"
        taught = source.train_on
        if taught and taught not in known:
            yield ("data", name, "train_on"), not_there(taught, known)
        elif taught and spec.data[taught.partition(".")[0]].synth:
            yield ("data", name, "train_on"), "a generator learns from files or a grammar, not from a generator"
        if source.grammar and tuple(spec.fields) != source.grammar.fields:
            written = " and ".join(source.grammar.fields)
            yield ("data", name), f"the grammar '{source.grammar.name}' writes {written}, this study has {spec.fields}"
        if source.judge and source.judge not in spec.starts:
            yield ("data", name, "judge"), not_there(source.judge, list(spec.starts))
        elif source.judge:
            judged_on = {used.partition(".")[0] for used in spec.starts[source.judge].rows}
            if any(used in spec.data and spec.data[used].synth for used in judged_on):
                yield ("data", name, "judge"), f"start {source.judge} is itself trained on synthetic rows"


def chats(spec: StudySpec, name: str) -> Iterator[Mistake]:
    """A source of chats is files, divided into plain pools."""
    source = spec.data[name]
    for key in ("grammar", "synth", "train_on", "judge", "label_map"):
        if getattr(source, key) is not None:
            yield ("data", name, key), "of labelled rows, and this data holds chats"
    if source.duplicates == "drop_all":
        yield ("data", name, "duplicates"), "of chats: drop or keep"
    if not source.pools:
        yield ("data", name), "chats are used by pool: pools: {NAME: rows}"
    for pool, rows in source.pools.items():
        if isinstance(rows, PoolSpec):
            yield ("data", name, "pools", pool), "a pool of chats is a number of rows, or rest"
        elif isinstance(rows, int) and rows < 1:
            yield ("data", name, "pools", pool), "a pool has one row or more"
    if source.group is not None and source.duplicates == "keep":
        why = "a copy that is kept may be of another group than its row; leave out duplicates: keep"
        yield ("data", name, "group"), why


def shared_pools(spec: StudySpec) -> Iterator[Mistake]:
    """What pools say they share rows with is another pool of the source, and one that they can share rows with."""
    for name, source in spec.data.items():
        pools = {pool: as_pool(rows) for pool, rows in source.pools.items()}
        for pool, rows in pools.items():
            where = ("data", name, "pools", pool, "shares_with")
            for other in rows.shares_with:
                if other == pool or other not in pools:
                    yield where, not_there(other, [known for known in pools if known != pool])
                elif rows.disjoint and pools[other].disjoint:
                    yield where, f"{pool} and {other} are both disjoint and share no row; one must say disjoint: false"


def starts(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there, and what they come after stands before them."""
    earlier: list[str] = []
    known = rows_for_training(spec)
    for name, start in spec.starts.items():
        for used in start.rows:
            if used not in known:
                yield ("starts", name, "rows"), not_there(used, known)
        if not spec.labels and len(start.rows) > 1:
            yield ("starts", name, "rows"), "a start of a language model has one pool: several are an arm, or trainings"
        if start.after is not None and start.after not in earlier:
            yield ("starts", name, "after"), f"an earlier start: {not_there(start.after, earlier)}"
        earlier.append(name)


def rows_for_training(spec: StudySpec) -> list[str]:
    """The rows that starts and arms can be trained on."""
    return labelled_uses.data_of(spec) if spec.labels else list(chat_pools(spec))


def arms(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there; a bias has two fields to compare, noise an error rate that is known."""
    for name, arm in spec.all_arms().items():
        where = ("arms", name) if name in spec.arms else ("synthetic_share",)
        for used in arm.mix:
            if used not in (known := [*rows_for_training(spec), START_ROWS]):
                yield (*where, "mix"), not_there(used, known)
        yield from biased(spec, name, arm)
        if isinstance(arm.noise, str):
            written = [source_name for source_name, source in spec.data.items() if source.synth]
            if arm.noise not in written:
                yield ("arms", name, "noise"), not_there(arm.noise, written)
            elif not spec.data[arm.noise].judge:
                yield ("arms", name, "noise"), f"data.{arm.noise} has no judge, so its error rate is unknown"


def biased(spec: StudySpec, name: str, arm: ArmSpec) -> Iterator[Mistake]:
    """An arm's bias is on a label of the study, which has the fields that the heuristic looks at."""
    if arm.bias and arm.bias.label not in spec.labels:
        yield ("arms", name, "bias", "label"), not_there(arm.bias.label, spec.labels)
    if arm.bias and not arm.bias.fits(spec.fields):
        yield ("arms", name, "bias"), f"{arm.bias.heuristic} compares two fields, this study has {spec.fields}"


def repairs(spec: StudySpec) -> Iterator[Mistake]:
    """Repairs name a method that there is, with options that it has, rows that differ and are of one sort, and leave a whole
    model."""
    from pyrite.repair.methods import resolve

    labelled = labelled_uses.data_of(spec)
    for name, repair in spec.repairs.items():
        if repair.settings.save != "merged":
            yield ("repairs", name, "settings"), "a study goes on from whole models: leave out save, or say merged"
        if repair.settings.processes > 1 and repair.settings.kl_to == "before":
            yield ("repairs", name, "settings"), "kl_to: before is for one process"
        if repair.before is not None:
            yield from model_before(spec, ("repairs", name, "before"), repair.before)
        try:
            resolve(repair.settings.method, repair.settings.options)
        except UserError as error:
            yield ("repairs", name, "settings"), f"{error.what} {error.found}: {error.fix}"
        pools = repair.pools()
        if len(set(pools.values())) < len(pools):
            why = f"forget, replay and the guard's rows must be different pools, not {list(pools.values())}"
            yield ("repairs", name), why
        of_labels = [role for role, rows in pools.items() if rows in labelled]
        if of_labels and repair.self_replay:
            yield ("repairs", name, "self_replay"), "a classifier writes no answers of its own"
        others = [role for role, rows in pools.items() if rows not in labelled and rows != TRAINED]
        if of_labels and others:
            yield (
                ("repairs", name, others[0]),
                f"{of_labels[0]} has labelled rows, so this must have, too: {not_there(pools[others[0]], labelled)}",
            )


def is_labelled(spec: StudySpec, repair: str) -> bool:
    """Are the rows of a repair labelled, so that it is one of a classifier?"""
    return spec.repairs[repair].replay in labelled_uses.data_of(spec)


def probes(spec: StudySpec) -> Iterator[Mistake]:
    """Each has its items, and no model, nor the generator of its rows, is trained on them."""
    known = labelled_uses.data_of(spec)
    trained = sorted(labelled_uses.rows_trained_on(spec) & set(known))
    for name, probe in spec.probes.items():
        if "." in name or name == GAP:
            yield ("probes", name), f"a probe's name has no dot in it, and is not {GAP}"
        if probe.names_labels:
            yield from of_labels(spec, name, probe, known, trained)
        if known_metrics(probe, spec) is not None:
            for number, metric in enumerate(probe.metrics):
                if metric not in (there := known_metrics(probe, spec) or ()):
                    yield ("probes", name, "metrics", number), not_there(metric, there)


def of_labels(
    spec: StudySpec, name: str, probe: ProbeSpec, known: Sequence[str], trained: Sequence[str]
) -> Iterator[Mistake]:
    """A probe whose answers are labels has items of the study's fields, on which nothing is trained."""
    grammar = (probe.file or "").partition("grammar:")[2]
    if probe.task == "labelled" and not spec.labels:
        yield ("probes", name, "task"), "labels: [...] must say which labels there are"
    if grammar and grammar not in WRITTEN_BY_GRAMMAR:
        yield ("probes", name, "file"), not_there(grammar, list(WRITTEN_BY_GRAMMAR))
    elif grammar:
        yield from of_grammar(spec, name, grammar)
    if probe.data is None:
        source = labelled_uses.file_trained_on(spec, probe.file or "")
        if source:
            fix = f"give another file, or cut a pool out of data.{source.partition('.')[0]} for the probe (data: …)"
            yield ("probes", name, "file"), f"models are trained on {source}, rows of {probe.file}: {fix}"
    elif probe.data not in known:
        yield ("probes", name, "data"), not_there(probe.data, known)
    else:
        for why in filter(None, (labelled_uses.shared_rows(spec, probe.data, used) for used in trained)):
            yield ("probes", name), why


def of_grammar(spec: StudySpec, name: str, grammar: str) -> Iterator[Mistake]:
    """A grammar's items have fields, labels and a task of their own."""
    probe, is_nli = spec.probes[name], grammar == "heuristics"
    fields = ("premise", "hypothesis") if is_nli else ("text",)
    if tuple(spec.fields) != fields:
        yield ("probes", name, "file"), f"its items have {' and '.join(fields)}, this study has {spec.fields}"
    if is_nli != (probe.task == "hans"):
        yield ("probes", name, "task"), f"{grammar} is a task of its own: task: {'hans' if is_nli else 'labelled'}"
    merged = {(probe.merge or {}).get(label, label) for label in spec.labels}
    lacking = [label for label in WRITTEN_BY_GRAMMAR[grammar].labels if label not in merged]
    if not is_nli and lacking:
        fix = "call them so (data: label_map), or name them in merge"
        yield ("probes", name, "file"), f"its labels are positive and negative, this study has {spec.labels}: {fix}"


def judges(spec: StudySpec) -> Iterator[Mistake]:
    """A judge is tried on rows that it was not trained on."""
    known = labelled_uses.data_of(spec)
    for name, source in spec.data.items():
        if source.judge not in spec.starts:
            continue
        held = labelled_uses.rows_of_judge(spec, source.train_on)
        for used in sorted(labelled_uses.rows_of_start(spec, source.judge) & set(known)) if held in known else ():
            if held and (why := labelled_uses.shared_rows(spec, held, used)):
                yield ("data", name, "judge"), f"start {source.judge} is tried as a judge on {held}: {why}"


def redrawn(spec: StudySpec) -> Iterator[Mistake]:
    """What each seed is to draw anew is there."""
    if spec.texts_vary and not any(source.synth for source in spec.data.values()):
        yield ("texts_vary",), "no data is written by a generator (synth)"
    shared = [name for name, start in spec.starts.items() if start.seeds == "one" and start.rows]
    if spec.pools_vary and shared:
        yield (
            ("starts", shared[0], "seeds"),
            "with pools_vary each seed divides the rows anew, so its start is its own: seeds: each",
        )
    if spec.pools_vary and not any(
        source.pools for name, source in spec.data.items() if spec.holds(name) == "labelled"
    ):
        yield ("pools_vary",), "no labelled data is divided into pools"


def one_method(spec: StudySpec) -> Iterator[Mistake]:
    """A model is trained further the way it was begun: one method, one set of adapters; what is repaired or mixed is whole."""
    if not spec.has_grid:
        return
    trained = [start.training or spec.training.start for start in spec.starts.values() if start.rows]
    first, *more = [*trained, spec.training.arm]
    if any(
        settings.method != first.method or (settings.method != "full" and settings.lora != first.lora)
        for settings in more
    ):
        yield ("training",), "starts and arms must share one method and one set of lora options"
    if spec.labels and first.method != "full":
        changing = {*spec.repairs, *spec.merge}
        for number, cell in enumerate(spec.cells):
            step = next((step for step in cell.steps if step in changing), None)
            if step:
                why = (
                    f"{step} works on whole classifiers, and {first.method} trains adapters: training: {{method: full}}"
                )
                yield ("cells", number, "steps"), why


def cells(spec: StudySpec) -> Iterator[Mistake]:
    """Written-out cells name what is there, by a name of their own, in an order that makes sense."""
    seen: set[tuple[str, str | None, int]] = set()
    known = [
        *spec.all_arms(),
        *([DAMAGE] if spec.damage or spec.pilot else []),
        *(name for _, some in step_tables(spec) for name in some),
    ]
    for name, merge in spec.merge.items():
        if merge.before is not None:
            yield from model_before(spec, ("merge", name, "before"), merge.before)
    for number, cell in enumerate(spec.cells):
        where = place_of(spec, number)
        if spec.has_grid and cell.name in (*spec.all_arms(), START_ROWS):
            yield where, f"the name '{cell.name}' is an arm's"
        if (cell.name, cell.start, cell.size) in seen:
            yield where, f"'{cell.name}' of size {cell.size} after {cell.start} is there twice"
        seen.add((cell.name, cell.start, cell.size))
        if cell.start is not None and cell.start not in spec.starts:
            yield (*where, "start"), not_there(cell.start, list(spec.starts))
            continue
        if spec.has_grid and cell.start is None:
            yield where, "with starts, a cell says where it begins: start: NAME"
        if not cell.size and any(step in spec.all_arms() for step in cell.steps):
            yield where, "an arm has so many rows: size: N"
        for at, step in enumerate(cell.steps):
            lost = step_place(spec, number, at)
            if step == DAMAGE and spec.damage is None and spec.pilot is None:
                yield lost, "damage: NAME must say which training this is"
            elif step not in known:
                yield lost, not_there(step, known)
        yield from path_of_types(spec, number, cell)
    for number, name in enumerate(spec.compare_with or ()):
        if name not in spec.paths:
            yield ("compare_with", number), not_there(name, list(spec.paths))


def place_of(spec: StudySpec, number: int) -> Place:
    """Where a cell is written: by its name where all are."""
    cell = spec.cells[number]
    in_short = all(one.start is None and not one.size for one in spec.cells)
    return ("cells", cell.name) if in_short else ("cells", number)


def step_place(spec: StudySpec, number: int, at: int) -> Place:
    """Where a step of a cell is written."""
    where = place_of(spec, number)
    return (*where, at) if where[1:] != (number,) else (*where, "steps")


def path_of_types(spec: StudySpec, number: int, cell: CellSpec) -> Iterator[Mistake]:
    """Every step of a cell can work on the model that it is given."""
    standing = type_of_start(spec, cell.start)
    for at, step in enumerate(cell.steps):
        where = step_place(spec, number, at)
        if step in spec.all_arms() and spec.labels and standing == "language":
            yield (
                where,
                f"arm {step} trains a classifier, from the model as given or another classifier, not from a language model",
            )
        elif (step == DAMAGE or step in spec.all_trainings()) and standing == "classifier":
            yield where, f"{step} trains a language model, and what it is given here is a classifier"
        elif step in spec.repairs and is_labelled(spec, step) != (standing == "classifier"):
            rows = "labelled rows, for a classifier" if is_labelled(spec, step) else "chats, for a language model"
            yield (
                where,
                f"{step} has {rows}, and is given {'the model as given' if standing == 'given' else f'a {standing}'}",
            )
        elif (
            step in spec.repairs and spec.forgets(spec.repairs[step]) == TRAINED and not trained_before(spec, cell, at)
        ):
            yield where, f"{step} unlearns the rows of the last training, and there is none before it"
        elif step in spec.quantise and standing == "classifier":
            yield where, "rounding is for language models; a classifier is not rounded"
        elif step in spec.merge and at == 0 and spec.merge[step].before is None:
            yield where, f"{step} would mix the model as given with itself"
        standing = type_after(spec, step, standing)


def trained_before(spec: StudySpec, cell: CellSpec, at: int) -> bool:
    """Does an arm stand before this step of a cell?"""
    return any(step in spec.all_arms() for step in cell.steps[:at])


def type_of_start(spec: StudySpec, start: str | None) -> ModelType:
    """What a start is."""
    if start is None:
        return "given"
    own = spec.starts[start]
    if not own.is_given:
        return "classifier" if spec.labels else "language"
    return type_of_start(spec, own.after if own.after in spec.starts and own.after != start else None)


def type_after(spec: StudySpec, step: str, standing: ModelType) -> ModelType:
    """What a step leaves."""
    if step in spec.all_arms():
        return "classifier" if spec.labels else "language"
    return "language" if step == DAMAGE or step in spec.all_trainings() else standing


def type_of_cell(spec: StudySpec, cell: CellSpec) -> ModelType:
    """What a written-out cell comes to."""
    standing = type_of_start(spec, cell.start)
    for step in cell.steps:
        standing = type_after(spec, step, standing)
    return standing


def types_of_cells(spec: StudySpec) -> Mapping[str, ModelType]:
    """What every cell is, by the name that `only_cells` calls it by."""
    types: dict[str, ModelType] = {}
    if spec.has_grid:
        ends = {type_of_start(spec, start) for start in spec.starts}
        types[START_ROWS] = "classifier" if "classifier" in ends else next(iter(ends))
        types |= {start: type_of_start(spec, start) for start in spec.starts}
        types |= dict.fromkeys(spec.all_arms(), "classifier" if spec.labels else "language")
    return types | {cell.name: type_of_cell(spec, cell) for cell in spec.cells}


def model_before(spec: StudySpec, place: Place, cell: str) -> Iterator[Mistake]:
    """The model before is a cell that trainings alone made: one that looks back itself could go round in a circle."""
    if cell not in spec.paths:
        yield place, not_there(cell, list(spec.paths))
        return
    back = {*spec.merge, *(name for name, repair in spec.repairs.items() if repair.before is not None)}
    looks_back = [step for step in spec.paths[cell] if step in back]
    if looks_back:
        yield place, f"the model before is trained: cell {cell} holds {looks_back[0]}, which looks back itself"


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
    from pyrite.probe import generative_steps, perplexity
    from pyrite.study.label_probes import task_of
    from pyrite.tasks.summary import label_metrics

    if probe.names_labels:
        return tuple(metric.name for metric in label_metrics(task_of(probe, spec)))
    if probe.task.startswith(HARNESS):
        return None
    if probe.task == "perplexity":
        return tuple(metric.name for metric in perplexity.METRICS)
    generative = generative_steps.WRITTEN.get(probe.task)
    return None if generative is None else tuple(metric.name for metric in generative.metrics)


def contrasts(spec: StudySpec) -> Iterator[Mistake]:
    """Primary contrasts name arms, cells, starts, sizes and probes that are there."""
    every = list(spec.all_arms()) if spec.has_grid else []
    written = list(dict.fromkeys(cell.name for cell in spec.cells))
    sizes = [*map(str, spec.sizes), *(str(cell.size) for cell in spec.cells)]
    for number, contrast in enumerate(spec.primary()):
        where = ("contrasts", number)
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
        wrong = [((*where, key), not_there(name, known)) for key, name, known in looked_up if name not in known]
        yield from wrong
        if wrong:
            continue
        if contrast.about == contrast.against:
            yield (*where, "against"), f"{contrast.about} is compared with itself"
        yield from probe_of_contrast(spec, number)


def probe_of_contrast(spec: StudySpec, number: int) -> Iterator[Mistake]:
    """A contrast's probe asks both sides, and has its metric."""
    contrast, where = spec.primary()[number], ("contrasts", number)
    if contrast.probe == GAP:
        if len(spec.probes) < 2:
            yield where, "a gap needs a blind spot beside the general task"
        spots = [name for name in spec.probes if name != "general"][:1]
        if any(not spec.probes[name].names_labels for name in ("general", *spots)):
            yield (*where, "probe"), "a gap is one of labels: the general task and the first blind spot name labels"
        return
    probe = spec.probes[contrast.probe_name]
    known = known_metrics(probe, spec)
    if contrast.metric and known is not None and contrast.metric not in known:
        yield (*where, "probe"), f"{contrast.probe_name}: {not_there(contrast.metric, known)}"
    if not contrast.metric and known is None:
        yield (*where, "probe"), f"{contrast.probe_name}: say which metric: PROBE.METRIC"
    for cell in (contrast.about, contrast.against):
        if probe.only_cells is not None and cell not in probe.only_cells:
            yield (*where, "probe"), f"the probe {contrast.probe_name} does not ask the cell {cell} (only_cells)"


def frontier(spec: StudySpec) -> Iterator[Mistake]:
    """A frontier names cells, and probes with metrics that ask them; what chooses asks other items than what judges."""
    wanted = spec.frontier
    if wanted is None:
        return
    known = list(types_of_cells(spec))
    for key in ("before", "harmed"):
        if getattr(wanted, key) not in known:
            yield ("frontier", key), not_there(getattr(wanted, key), known)
    ends = (wanted.before, wanted.harmed)
    named: list[tuple[Place, str, Sequence[str]]] = [(("frontier", key), getattr(wanted, key), ends) for key in SIDES]
    if wanted.choose is not None:
        for number, cell in enumerate(wanted.choose.among):
            if cell not in known or cell in ends:
                why = "it is an end of the frontier" if cell in ends else not_there(cell, known)
                yield ("frontier", "choose", "among", number), why
        several = (*ends, *wanted.choose.among)
        named += [(("frontier", "choose", key), getattr(wanted.choose, key), several) for key in SIDES]
        yield from chat_uses.chosen_and_judged(spec)
    for place, text, some in named:
        yield from probe_of_cells(spec, place, text, some)


def probe_of_cells(spec: StudySpec, place: Place, named: str, some: Sequence[str]) -> Iterator[Mistake]:
    """A PROBE.METRIC that is there, and asks these cells."""
    name, _, metric = named.partition(".")
    if name not in spec.probes:
        yield place, not_there(name, list(spec.probes))
        return
    probe = spec.probes[name]
    known = known_metrics(probe, spec)
    if known is not None and metric not in known:
        yield place, f"{name}: {not_there(metric, known)}"
    for cell in some:
        if probe.only_cells is not None and cell not in probe.only_cells:
            yield place, f"the probe {name} does not ask the cell {cell} (only_cells)"


def pilot(spec: StudySpec) -> Iterator[Mistake]:
    """The pilot's items and seed are not the study's, its metric exists, and it compares with a cell."""
    if spec.pilot is None:
        return
    first = spec.pilot.probe
    if spec.pilot.against not in spec.paths:
        yield ("pilot", "against"), not_there(spec.pilot.against, list(spec.paths))
    elif DAMAGE in spec.paths[spec.pilot.against]:
        yield ("pilot", "against"), "a damage is compared with a cell that has none"
    known = known_metrics(first, spec)
    if known is not None and spec.pilot.metric not in known:
        yield ("pilot", "metric"), not_there(spec.pilot.metric, known)
    if spec.pilot.seed in spec.seeds:
        why = f"{spec.pilot.seed} is a seed of the study too, so a model that was picked for its result would come back"
        yield ("pilot", "seed"), f"{why} as a replicate: name another"
    yield from chat_uses.seen_by_pilot(spec)
