"""Which labelled rows does a study use, and what for? What it trains on, and what its probes and judges read.

Rows are named as in the study file: a whole source, or SOURCE.POOL.
"""

from pyrite.study.spec import StudySpec
from pyrite.study.spec_data import as_pool, file_name

HELD_OUT = ("test", "validation")
"""Names of disjoint pools that no other pool draws from, whether a probe reads them or not."""


def data_of(spec: StudySpec) -> list[str]:
    """Whatever can be named as data: whole sources and their pools."""
    labelled = {name: source for name, source in spec.data.items() if spec.holds(name) == "labelled"}
    return [*labelled, *(f"{name}.{pool}" for name, source in labelled.items() for pool in source.pools)]


def rows_trained_on(spec: StudySpec, *, guards: bool = True) -> set[str]:
    """The rows that starts and arms are trained on, repairs and their guards read, and generators are trained on or shown."""
    trained = {name for start in spec.starts.values() for name in start.rows}
    trained |= {name for arm in spec.all_arms().values() for name in arm.mix}
    trained |= {
        name
        for repair in spec.repairs.values()
        for role, name in {"forget": spec.rows(spec.forgets(repair)), **repair.pools()}.items()
        if guards or "guard" not in role
    }
    return trained | {source.train_on for source in spec.data.values() if source.train_on}


def rows_of_start(spec: StudySpec, start: str) -> set[str]:
    """The rows that a start was trained on, with those of the starts that it comes after."""
    rows: set[str] = set()
    passed: set[str] = set()
    following: str | None = start
    while following in spec.starts and following not in passed:
        passed.add(following)
        rows |= set(spec.starts[following].rows)
        following = spec.starts[following].after
    return rows


def rows_of_judge(spec: StudySpec, train_on: str | None) -> str | None:
    """Rows that no generator wrote, for a judge to be tried on: a validation pool, first that of the source that the
    generator learned from (`train_on`); else the general probe's data; None where there is neither."""
    human_sources = [source for source, data in spec.data.items() if not data.synth]
    for source in sorted(human_sources, key=lambda source: source != (train_on or "").partition(".")[0]):
        if "validation" in spec.data[source].pools:
            return f"{source}.validation"
    general = spec.probes["general"].data if "general" in spec.probes else None
    return general if general is not None and general.partition(".")[0] in human_sources else None


def pools_read(spec: StudySpec, source: str) -> set[str]:
    """The pools of a source that a probe or a judge reads."""
    rows = {probe.data for probe in spec.probes.values()}
    rows |= {rows_of_judge(spec, data.train_on) for data in spec.data.values() if data.synth and data.judge}
    return {pool for pool in spec.data[source].pools if f"{source}.{pool}" in rows}


def pools_watched(spec: StudySpec, source: str) -> set[str]:
    """The pools of a source that the guard of a repair reads."""
    watched = {rows for repair in spec.repairs.values() for role, rows in repair.pools().items() if "guard" in role}
    return {pool for pool in spec.data[source].pools if f"{source}.{pool}" in watched}


def pools_held_out(spec: StudySpec, source: str) -> set[str]:
    """The disjoint pools of a source from which its other pools do not draw, unless they say so (`shares_with`)."""
    pools = {name: as_pool(pool) for name, pool in spec.data[source].pools.items()}
    held_out = {*HELD_OUT, *pools_read(spec, source), *pools_watched(spec, source)}
    return {name for name in held_out if name in pools and pools[name].disjoint}


def pools_kept(spec: StudySpec, source: str) -> set[str]:
    """The pools of a source that hold the same rows for every seed: what probes and judges read, and what a generator
    learns from, unless it is sampled anew for each seed (`texts_vary`)."""
    learned = {data.train_on for data in spec.data.values() if data.synth and not spec.texts_vary}
    return pools_read(spec, source) | {pool for pool in spec.data[source].pools if f"{source}.{pool}" in learned}


def shared_rows(spec: StudySpec, held: str, trained: str) -> str | None:
    """How can rows of `held`, which a probe or judge reads, be among those of `trained`? None where they cannot be, or
    where the pool that is trained on says by name that they may (`shares_with`)."""
    source, _, pool = held.partition(".")
    other_source, _, trained_pool = trained.partition(".")
    if trained in (held, source) or other_source == held:
        return f"models are trained on {trained}, which shares rows with {held}"
    if other_source != source:
        return shared_file(spec, held, trained)
    pools = {name: as_pool(pool_spec) for name, pool_spec in spec.data[source].pools.items()}
    if pools[pool].disjoint or pool in pools[trained_pool].shares_with:
        return None
    apart = (
        "leave out its disjoint: false" if pools[pool].rows != "all" else "give it a number of rows that are disjoint"
    )
    return (
        f"models are trained on {trained}, and {held} (disjoint: false) may hold the same rows: {apart} "
        f"(data.{source}.pools.{pool}), or say that they may be shared (data.{source}.pools.{trained_pool}: shares_with: [{pool}])"
    )


def shared_file(spec: StudySpec, held: str, trained: str) -> str | None:
    """The same for two sources: do they read one file?"""
    sources = held.partition(".")[0], trained.partition(".")[0]
    files, files_trained_on = ({file_name(file) for file in spec.data[source].files} for source in sources)
    if not files & files_trained_on:
        return None
    return (
        f"models are trained on {trained}, and {held} reads the same file ({min(files & files_trained_on)}): "
        "one source with more pools keeps them apart"
    )


def file_trained_on(spec: StudySpec, file: str) -> str | None:
    """What is trained on of the rows of this file: the first source or pool that reads it; None where nothing is."""
    for trained in sorted(rows_trained_on(spec)):
        source = spec.data.get(trained.partition(".")[0])
        if source and file_name(file) in map(file_name, source.files):
            return trained
    return None
