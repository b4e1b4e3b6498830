"""What fits together in a study? Every mistake with its place in the file and what to write."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from pyrite.config_base import Mistake, Place, not_there
from pyrite.errors import UserError
from pyrite.repair.model_type import check_classifier
from pyrite.repair.settings import RepairSettings
from pyrite.study import chat_uses, labelled_uses
from pyrite.study.check_cells import cell_mistakes, model_before, share_rows
from pyrite.study.check_contrasts import (
    asked_of_cells,
    contrast_mistakes,
    frontier_mistakes,
    known_metrics,
    pilot_mistakes,
)
from pyrite.study.check_names import names, written_names
from pyrite.study.spec import StudySpec, chat_pools
from pyrite.study.spec_data import PoolSpec, as_pool
from pyrite.study.spec_probes import GAP, ProbeSpec
from pyrite.study.spec_steps import START_ROWS, TRAINED, ArmSpec
from pyrite.tasks import WRITTEN_BY_GRAMMAR
from pyrite.train.settings import ClassifierSettings


def mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Every mistake in how the parts of a study name each other: where, and what is wrong."""
    so_far = [mistake for check in (model, grid, written_names, names) for mistake in check(spec)]
    yield from so_far
    if so_far:
        return  # what follows reads the model and the grid
    for check in (
        sources, shared_pools, starts, trainings, arms, repairs, chat_uses.mistakes, chat_uses.shared_files, probes, judges, redrawn,
        one_method, cell_mistakes, asked_of_cells, contrast_mistakes, frontier_mistakes, pilot_mistakes,
    ):  # fmt: skip
        for mistake in check(spec):
            if mistake not in so_far:  # one of a grid's damages may say what another said
                so_far.append(mistake)
                yield mistake


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
    yield from unread_keys(spec)


def unread_keys(spec: StudySpec) -> Iterator[Mistake]:
    """Keys that this sort of study does not read: what they say would not happen."""
    of_grid = "of studies with starts, arms and sizes"
    unread = {
        "precision": spec.task_model is not None and "under task_model",
        "parameters": spec.task_model is not None and "under task_model",
        "human_arm": not spec.has_grid and of_grid,
        "training": not spec.has_grid and of_grid,
        "arm_rows_vary": not spec.has_grid and of_grid,
        "compare_with": spec.has_grid and "of studies without starts; contrasts compare the cells of one with starts",
        "pilot": spec.has_grid and "of studies without starts",
    }
    every_probe = [*spec.probes.values(), *([spec.pilot.probe] if spec.pilot else [])]
    reads_labels = any(spec.holds(name) == "labelled" for name in spec.data) or any(
        probe.names_labels for probe in every_probe
    )
    of_labels = "of studies with labelled rows, and nothing here reads any"
    unread |= dict.fromkeys(("fields", "tokens_per_row"), not reads_labels and of_labels)
    fields = type(spec).model_fields
    for key, where in unread.items():
        if where and getattr(spec, key) != fields[key].get_default(call_default_factory=True):
            yield (key,), f"not read here: it is {where}"
    if not spec.labels:
        settings: dict[Place, ClassifierSettings] = {
            ("training", "start"): spec.training.start,
            ("training", "arm"): spec.training.arm,
        }
        settings |= {
            ("starts", name, "training"): start.training for name, start in spec.starts.items() if start.training
        }
        for place, values in settings.items():
            if values.freeze != type(values).model_fields["freeze"].default:
                yield (*place, "freeze"), "of classifiers only, and this study trains a language model"


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


def sources(spec: StudySpec) -> Iterator[Mistake]:
    """Generators learn from rows that no generator wrote, and so do their judges; a grammar writes the study's fields; chats
    come from files and are used by pool."""
    labelled = labelled_uses.data_of(spec)
    for name, source in spec.data.items():
        if spec.holds(name) == "chats":
            yield from chats(spec, name)
            continue
        if not spec.labels:
            yield ("data", name, "holds"), "labelled rows need the study's labels: labels: [...]"
        taught = source.train_on
        if taught and taught not in labelled:
            yield ("data", name, "train_on"), not_there(taught, labelled)
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
            for shared_pool in rows.shares_with:
                if shared_pool == pool or shared_pool not in pools:
                    yield (
                        where,
                        not_there(shared_pool, [name_of_pool for name_of_pool in pools if name_of_pool != pool]),
                    )
                elif rows.disjoint and pools[shared_pool].disjoint:
                    yield (
                        where,
                        f"{pool} and {shared_pool} are both disjoint and share no row; one must say disjoint: false",
                    )


def starts(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there, and what they come after stands before them."""
    earlier: list[str] = []
    trainable = rows_for_training(spec)
    for name, start in spec.starts.items():
        for used in start.rows:
            if used not in trainable:
                yield ("starts", name, "rows"), not_there(used, trainable)
            elif isinstance(start.rows[used], int):
                yield from first_rows(spec, ("starts", name, "rows", used), used, int(start.rows[used]))
        if not spec.labels and len(start.rows) > 1:
            yield ("starts", name, "rows"), "a start of a language model has one pool: several are an arm, or trainings"
        if start.after is not None and start.after not in earlier:
            yield ("starts", name, "after"), f"an earlier start: {not_there(start.after, earlier)}"
        earlier.append(name)


def trainings(spec: StudySpec) -> Iterator[Mistake]:
    """What reads the first rows of a pool finds so many there."""
    for place, named in ((("trainings",), spec.trainings), (("pilot", "grid"), spec.pilot.grid if spec.pilot else {})):
        for name, training in named.items():
            if training.first is None:
                continue
            for damage in chat_uses.damages(spec):
                where, pools = (*place, name, "first"), [spec.rows(rows, damage) for rows in training.pools()]
                there = [rows_said(spec, rows) for rows in pools]
                if len(pools) == 1:
                    yield from first_rows(spec, where, pools[0], training.first)
                elif (total := sum(count or 0 for count in there)) < training.first and None not in there:
                    yield where, f"{training.first:,} rows of {' and '.join(pools)}, which have {total:,}"


def first_rows(spec: StudySpec, place: Place, rows: str, count: int) -> Iterator[Mistake]:
    """Are there so many rows where the file says how many there are?"""
    there = rows_said(spec, rows)
    if there is not None and there < count:
        yield place, f"{count:,} rows of {rows}, which has {there:,}"


def rows_said(spec: StudySpec, rows: str) -> int | None:
    """How many rows the file says that a pool, or what a grammar writes, has; None where only reading it can say."""
    source, _, pool = rows.partition(".")
    if source not in spec.data or (pool and pool not in spec.data[source].pools):
        return None
    if pool and isinstance(count := as_pool(spec.data[source].pools[pool]).rows, int):
        return count
    grammar = spec.data[source].grammar
    return grammar.rows if grammar is not None and not pool else None


def rows_for_training(spec: StudySpec) -> list[str]:
    """The rows that starts and arms can be trained on."""
    return labelled_uses.data_of(spec) if spec.labels else list(chat_pools(spec))


def arms(spec: StudySpec) -> Iterator[Mistake]:
    """Their rows are there; a bias has two fields to compare, noise an error rate that is known."""
    trainable = [*rows_for_training(spec), START_ROWS]
    wanted: dict[tuple[Place, str], int] = {}  # an axis is several arms, and says what is wrong with it once
    for name, arm in spec.all_arms().items():
        sizes = [*spec.sizes, *(cell.size for cell in spec.cells if name in cell.steps)]
        largest = arm.counts(max(sizes, default=1))
        for used in arm.mix:
            where: Place = ("arms", name, "mix")
            if name not in spec.arms and spec.synthetic_share:
                where = ("synthetic_share", "human" if used == spec.synthetic_share.human else "synthetic")
            wanted[where, used] = max(wanted.get((where, used), 0), largest.get(used, 0))
    for (where, used), count in wanted.items():
        if used not in trainable:
            yield where, not_there(used, trainable)
        elif used == START_ROWS:
            yield from own_rows(spec, where, count)
        else:
            yield from first_rows(spec, where, used, count)
    for name, arm in spec.all_arms().items():
        yield from biased(spec, name, arm)
        if isinstance(arm.noise, str):
            written = [source_name for source_name, source in spec.data.items() if source.synth]
            if arm.noise not in written:
                yield ("arms", name, "noise"), not_there(arm.noise, written)
            elif not spec.data[arm.noise].judge:
                yield ("arms", name, "noise"), f"data.{arm.noise} has no judge, so its error rate is unknown"


def own_rows(spec: StudySpec, place: Place, count: int) -> Iterator[Mistake]:
    """Has every start learned so many rows as an arm takes of them again?"""
    for name, start in spec.starts.items():
        learned = [rows for rows in start.rows.values() if isinstance(rows, int)]
        if len(learned) == len(start.rows) and 0 < sum(learned) < count:
            yield place, f"{count:,} rows of the start's own, and start {name} has {sum(learned):,}"


def biased(spec: StudySpec, name: str, arm: ArmSpec) -> Iterator[Mistake]:
    """An arm's bias is on a label of the study, which has the fields that the heuristic looks at, and on rows of its mix."""
    if arm.bias_on is not None and arm.bias is None:
        yield ("arms", name, "bias_on"), "says which rows the bias is on, and there is no bias"
    elif arm.bias_on is not None and arm.bias_on not in arm.mix:
        yield ("arms", name, "bias_on"), not_there(arm.bias_on, list(arm.mix))
    if arm.bias and arm.bias.label not in spec.labels:
        yield ("arms", name, "bias", "label"), not_there(arm.bias.label, spec.labels)
    if arm.bias and not arm.bias.fits(spec.fields):
        yield ("arms", name, "bias"), f"{arm.bias.heuristic} compares two fields, this study has {spec.fields}"


def repairs(spec: StudySpec) -> Iterator[Mistake]:
    """Repairs name a method that there is, with options that it has, rows that differ and are of one sort, and leave a whole
    model."""
    from pyrite.repair.methods import resolve_method

    labelled = labelled_uses.data_of(spec)
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
        pools = repair.pools()
        for damage in chat_uses.damages(spec):
            resolved = [spec.rows(rows, damage) for rows in {"forget": spec.forgets(repair), **pools}.values()]
            if any(share_rows(rows, other_rows) for rows, other_rows in combinations(resolved, 2)):
                yield ("repairs", name), f"forget, replay and the guard's rows must be different pools, not {resolved}"
                break
        for role in ("guard_forget", "guard_replay"):
            rows = pools.get(role)
            if rows == TRAINED:
                yield ("repairs", name, role), "a guard watches rows that nothing is trained on"
            elif rows in labelled:
                yield from watched(spec, name, role, rows)
        for role, rows in pools.items():
            if rows not in labelled and rows.partition(".")[0] in labelled:  # of chats, chat_uses says so
                yield ("repairs", name, role), not_there(rows, labelled)
        of_labels = [role for role, rows in pools.items() if rows in labelled]
        if of_labels and repair.self_replay:
            yield ("repairs", name, "self_replay"), "a classifier writes no answers of its own"
        unlabelled = [role for role, rows in pools.items() if rows not in labelled and rows != TRAINED]
        if of_labels:
            yield from of_classifier(name, repair.settings)
        if of_labels and unlabelled:
            yield (
                ("repairs", name, unlabelled[0]),
                f"{of_labels[0]} has labelled rows, so this must have, too: {not_there(pools[unlabelled[0]], labelled)}",
            )


def of_classifier(repair: str, settings: RepairSettings) -> Iterator[Mistake]:
    """A repair of a classifier says nothing that has no meaning for one."""
    from pyrite.repair.methods import resolve_method

    try:
        check_classifier(settings, resolve_method(settings.method, settings.options))
    except UserError as error:
        yield ("repairs", repair, "settings"), f"{error.what} {error.found}"


def watched(spec: StudySpec, repair: str, role: str, rows: str) -> Iterator[Mistake]:
    """Labelled rows that a guard watches are not trained on, nor unlearned or replayed."""
    learned = labelled_uses.rows_trained_on(spec, guards=False) & set(labelled_uses.data_of(spec))
    for why in filter(None, (labelled_uses.shared_rows(spec, rows, trained) for trained in sorted(learned))):
        yield ("repairs", repair, role), why
    for name, probe in spec.probes.items():
        if probe.names_labels and probe.data and share_rows(rows, probe.data):
            yield ("repairs", repair, role), f"probes.{name} asks {probe.data}: take another pool"


def probes(spec: StudySpec) -> Iterator[Mistake]:
    """Each has its items, and no model, nor the generator of its rows, is trained on them."""
    labelled = labelled_uses.data_of(spec)
    trained = sorted(labelled_uses.rows_trained_on(spec, guards=False) & set(labelled))
    for name, probe in spec.probes.items():
        if name == GAP:
            yield ("probes", name), f"the name '{GAP}' stands for a contrast's gap; choose another"
        if probe.names_labels:
            yield from label_probe_mistakes(spec, name, probe, labelled, trained)
        if known_metrics(probe, spec) is not None:
            for number, metric in enumerate(probe.metrics):
                if metric not in (metrics := known_metrics(probe, spec) or ()):
                    yield ("probes", name, "metrics", number), not_there(metric, metrics)


def label_probe_mistakes(
    spec: StudySpec, name: str, probe: ProbeSpec, labelled: Sequence[str], trained: Sequence[str]
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
    elif probe.data not in labelled:
        yield ("probes", name, "data"), not_there(probe.data, labelled)
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
    labelled = labelled_uses.data_of(spec)
    for name, source in spec.data.items():
        if source.judge not in spec.starts:
            continue
        held = labelled_uses.rows_of_judge(spec, source.train_on)
        for used in sorted(labelled_uses.rows_of_start(spec, source.judge) & set(labelled)) if held in labelled else ():
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
