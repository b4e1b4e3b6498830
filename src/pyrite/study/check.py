"""What fits together in a study of labels? Every mistake with its place in the file and what to write."""

from collections.abc import Iterator

from pyrite.config_base import Mistake, not_there
from pyrite.study.spec import START_ROWS, ArmSpec, StudySpec, as_pool
from pyrite.study.uses import data_of, file_trained_on, rows_of_judge, rows_of_start, rows_trained_on, shared_rows
from pyrite.tasks import WRITTEN_BY_GRAMMAR


def mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Every mistake in how the parts of a study name each other: where, and what is wrong."""
    for check in (names, sources, shared_pools, starts, arms, probes, judges, redrawn, one_method, cells, contrasts):
        yield from check(spec)


def names(spec: StudySpec) -> Iterator[Mistake]:
    """The word for the start is nobody's name; the human arm and the general task are there; seeds differ."""
    for where, some in (("data", spec.data), ("arms", spec.arms)):
        if START_ROWS in some:
            yield (where, START_ROWS), f"the name '{START_ROWS}' stands for the start; choose another"
    if spec.human_arm not in spec.all_arms():
        yield ("human_arm",), not_there(spec.human_arm, list(spec.all_arms()))
    if len(set(spec.seeds)) < len(spec.seeds) or min(spec.seeds) < 0:
        yield ("seeds",), "each once, 0 or more"
    if "general" not in spec.probes:
        yield ("probes",), "one of them must be called 'general', the general task"


def sources(spec: StudySpec) -> Iterator[Mistake]:
    """Generators learn from rows that no generator wrote, and so do their judges; a grammar writes the study's fields."""
    for name, source in spec.data.items():
        taught = source.train_on
        if taught and taught not in data_of(spec):
            yield ("data", name, "train_on"), not_there(taught, data_of(spec))
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


def shared_pools(spec: StudySpec) -> Iterator[Mistake]:
    """What pools say they share rows with is another pool of the source, and one that they can share rows with."""
    for name, source in spec.data.items():
        pools = {pool: as_pool(one) for pool, one in source.pools.items()}
        for pool, one in pools.items():
            where = ("data", name, "pools", pool, "shares_with")
            for other in one.shares_with:
                if other == pool or other not in pools:
                    yield where, not_there(other, [known for known in pools if known != pool])
                elif one.disjoint and pools[other].disjoint:
                    yield where, f"{pool} and {other} are both disjoint and share no row; one must say disjoint: false"


def starts(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there, and what they come after stands before them."""
    earlier: list[str] = []
    for name, start in spec.starts.items():
        for used in start.rows:
            if used not in data_of(spec):
                yield ("starts", name, "rows"), not_there(used, data_of(spec))
        if start.after is not None and start.after not in earlier:
            yield ("starts", name, "after"), f"an earlier start: {not_there(start.after, earlier)}"
        earlier.append(name)


def arms(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there; a bias has two fields to compare, noise an error rate that is known."""
    for name, arm in spec.all_arms().items():
        where = ("arms", name) if name in spec.arms else ("synthetic_share",)
        for used in arm.mix:
            if used not in (known := [*data_of(spec), START_ROWS]):
                yield (*where, "mix"), not_there(used, known)
        yield from biased(spec, name, arm)
        if isinstance(arm.noise, str):
            written = [one for one, source in spec.data.items() if source.synth]
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


def probes(spec: StudySpec) -> Iterator[Mistake]:
    """Each has its items, and no model, nor the generator of its rows, is trained on them."""
    known = data_of(spec)
    trained = sorted(rows_trained_on(spec) & set(known))
    for name, probe in spec.probes.items():
        if (probe.data is None) == (probe.file is None):
            yield ("probes", name), "give data or file"
        grammar = (probe.file or "").partition("grammar:")[2]
        if grammar and grammar not in WRITTEN_BY_GRAMMAR:
            yield ("probes", name, "file"), not_there(grammar, list(WRITTEN_BY_GRAMMAR))
        elif grammar:
            yield from of_grammar(spec, name, grammar)
        if probe.data is None:
            source = file_trained_on(spec, probe.file or "")
            if source:
                fix = f"give another file, or cut a pool out of data.{source.partition('.')[0]} for the probe (data: …)"
                yield ("probes", name, "file"), f"models are trained on {source}, rows of {probe.file}: {fix}"
        elif probe.data not in known:
            yield ("probes", name, "data"), not_there(probe.data, known)
        else:
            for why in filter(None, (shared_rows(spec, probe.data, used) for used in trained)):
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
    known = data_of(spec)
    for name, source in spec.data.items():
        if source.judge not in spec.starts:
            continue
        held = rows_of_judge(spec, source.train_on)
        for used in sorted(rows_of_start(spec, source.judge) & set(known)) if held in known else ():
            if held and (why := shared_rows(spec, held, used)):
                yield ("data", name, "judge"), f"start {source.judge} is tried as a judge on {held}: {why}"


def redrawn(spec: StudySpec) -> Iterator[Mistake]:
    """What each seed is to draw anew is there."""
    if spec.texts_vary and not any(source.synth for source in spec.data.values()):
        yield ("texts_vary",), "no data is written by a generator (synth)"
    one = [name for name, start in spec.starts.items() if start.seeds == "one" and start.rows]
    if spec.pools_vary and one:
        yield (
            ("starts", one[0], "seeds"),
            "with pools_vary each seed divides the rows anew, so its start is its own: seeds: each",
        )
    if spec.pools_vary and not any(source.pools for source in spec.data.values()):
        yield ("pools_vary",), "no data is divided into pools"


def one_method(spec: StudySpec) -> Iterator[Mistake]:
    """A model is trained further the way it was begun: one method, one set of adapters."""
    trained = [start.training or spec.training.start for start in spec.starts.values() if start.rows]
    first, *more = [*trained, spec.training.arm]
    if any(one.method != first.method or (one.method != "full" and one.lora != first.lora) for one in more):
        yield ("training",), "starts and arms must share one method and one set of lora options"


def cells(spec: StudySpec) -> Iterator[Mistake]:
    """Written-out cells name what is there, by a name of their own."""
    seen: set[tuple[str, str, int]] = set()
    for number, cell in enumerate(spec.cells):
        where = ("cells", number)
        if cell.name in (*spec.all_arms(), START_ROWS):
            yield where, f"the name '{cell.name}' is an arm's"
        if (cell.name, cell.start, cell.size) in seen:
            yield where, f"'{cell.name}' of size {cell.size} after {cell.start} is there twice"
        seen.add((cell.name, cell.start, cell.size))
        if cell.start not in spec.starts:
            yield (*where, "start"), not_there(cell.start, list(spec.starts))
        for step in cell.steps:
            if step not in spec.all_arms():
                yield (*where, "steps"), not_there(step, list(spec.all_arms()))


def contrasts(spec: StudySpec) -> Iterator[Mistake]:
    """Primary contrasts name arms, starts, sizes and probes that are there."""
    every = list(spec.all_arms())
    sizes = [*map(str, spec.sizes), *(str(cell.size) for cell in spec.cells)]
    for number, one in enumerate(spec.primary()):
        where = ("contrasts", number)
        asked = [("starts", name, list(spec.starts)) for name in one.starts or ()]
        asked += [("sizes", str(size), sizes) for size in one.sizes or ()]
        asked += [
            ("arm", one.arm, [*every, *(cell.name for cell in spec.cells)]),
            ("against", one.against, [*every, START_ROWS]),
            ("probe", one.probe, [*spec.probes, "gap"]),
        ]
        for key, name, known in asked:
            if name not in known:
                yield (*where, key), not_there(name, known)
        if one.probe == "gap" and len(spec.probes) < 2:
            yield where, "a gap needs a blind spot beside the general task"
