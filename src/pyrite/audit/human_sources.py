"""Step: which references are human sources of their own, and which could not be told from each other."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from pyrite.audit.baselines import LEAST, DrawSettings, measure_difference
from pyrite.audit.flaw import Difference, Extras, Flaw
from pyrite.audit.flaws.registry import flaw_of
from pyrite.audit.gather import Sampled, sample_extras
from pyrite.audit.rows import Row
from pyrite.steps import Context, Step, StepType, Store

DRAWS_APART = 199
"""Draws of the null of each pair of sources."""
APART_AT = 0.05
"""p-value at which two sources are told apart."""


def sources_step(context: Context) -> None:
    """Step: `sources.json`: places of each human source's rows in the sample, and which references could not be told
    apart.

    Two files of one source are no two sources: between them people seem not to differ at all, and anything else looks
    far. So each pair of sources is compared by some statistics of each flaw (permutation null, Bonferroni over them, 5
    %); those that nothing tells apart are one source, but never two that were told apart. References of fewer than
    fifty rows say nothing of it: they stay as they are, and count as no source."""
    config = context.config
    sampled = Sampled.read(context.inputs["sample"])
    sources = sampled.human_sources(LEAST)
    large = [name for name, rows in sources.items() if len(rows) >= LEAST]
    flaws = [flaw_of(name, config) for name in config["flaws"]] if len(large) > 1 else []
    tests = source_tests(flaws, sampled.rows, sample_extras(context))
    p_values: dict[tuple[str, str], float] = {}
    draws = DrawSettings(permutations=DRAWS_APART, subsamples=1, halves=2, seed=config["seed"])
    for pair in itertools.combinations(large, 2):
        first, second = (sources[name] for name in pair)
        p = min(
            pair_p(difference, second, first, sampled, draws)
            if reverse
            else pair_p(difference, first, second, sampled, draws)
            for difference, reverse in tests
        )
        p_values[pair] = min(1.0, p * len(tests))
        context.report_progress(len(p_values), len(large) * (len(large) - 1) / 2, "pairs of sources")
    joined = one_source_each(large, p_values)
    joined += [[name] for name in sources if name not in large]
    places = {" + ".join(names): [at for name in names for at in sources[name]] for names in joined}
    one_source = [names for names in joined if len(names) > 1]
    pairs = [{"a": a, "b": b, "p": p} for (a, b), p in p_values.items()]
    (context.out / "sources.json").write_bytes(
        orjson.dumps({"places": places, "pairs": pairs, "one_source": one_source})
    )


def source_tests(flaws: Sequence[Flaw], rows: Sequence[Row], extras: Extras) -> list[tuple[Difference, bool]]:
    """The differences by which two sources are told apart, each as it is and, where it is no distance, in reverse."""
    tests = []
    for flaw in flaws:
        for difference in flaw.differences(rows, extras) if flaw.tells_sources_apart else ():
            if (symmetric := flaw.tells_sources_apart.get(difference.measure.name)) is not None:
                tests += [(difference, reverse) for reverse in ((False,) if symmetric else (False, True))]
    return tests


def one_source_each(names: Sequence[str], p_values: Mapping[tuple[str, str], float]) -> list[list[str]]:
    """Sources in groups of which no two were told apart (p at most 5 %), the least distinguishable pairs joined first.

    >>> one_source_each(["a", "b", "c"], {("a", "b"): 0.9, ("a", "c"): 0.01, ("b", "c"): 0.5})
    [['a', 'b'], ['c']]
    """
    groups = [[name] for name in names]

    def group_of(name: str) -> list[str]:
        return next(group for group in groups if name in group)

    for (name_a, name_b), p in sorted(p_values.items(), key=lambda pair: (-pair[1], pair[0])):
        first, second = group_of(name_a), group_of(name_b)
        apart = any(p_values.get((a, b), p_values.get((b, a), 1.0)) <= APART_AT for a in first for b in second)
        if p > APART_AT and first is not second and not apart:
            first.extend(second)
            groups.remove(second)
    return groups


def pair_p(
    difference: Difference, rows: Sequence[int], other_rows: Sequence[int], sampled: Sampled, draws: DrawSettings
) -> float:
    """The p-value of the distance of two sources under a null where their rows change places. (Their clusters could,
    where each source has several.)"""
    clusters = sampled.clusters
    if clusters is not None and any(len({clusters[at] for at in side}) == 1 for side in (rows, other_rows)):
        clusters = None
    measurement = measure_difference(
        difference, rows, {"other": other_rows}, draws, size=len(sampled.rows), clusters=clusters
    )
    return 1.0 if measurement is None else measurement.p


def stored_sources(folder: Path) -> dict[str, list[int]]:
    """The places of each human source's rows."""
    places: dict[str, list[int]] = orjson.loads((folder / "sources.json").read_bytes())["places"]
    return places


def sources_in_sample(store: Store, compare: Mapping[str, Step]) -> tuple[dict[str, int], list[list[str]]]:
    """Every human source with its rows in the sample, and the references that could not be told from each other: what
    the step wrote that finished comparisons read."""
    for step in compare.values():
        read = step.inputs.get("sources")
        if isinstance(read, Step):
            sources = store.read_json(read, "sources.json")
            return {name: len(rows) for name, rows in sources["places"].items()}, sources["one_source"]
    return {}, []


SOURCES = StepType("audit.sources", 2, sources_step)
