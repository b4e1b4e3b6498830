"""Steps: which references are sources of their own; one family's measures between their yardsticks, with what shows them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.audit.families import evidence_of, measures, module
from pyrite.audit.family import Alone, Contrast, Evidence, Extras, Measure, Population
from pyrite.audit.gather import Sampled, model_extras
from pyrite.audit.rows import Row
from pyrite.audit.sources import sizes_of
from pyrite.audit.yardsticks import LEAST, SIZES, Counted, Measurement, Yardsticks, weigh, weigh_alone
from pyrite.steps import Context, StepType

EXCERPT = 300
SHOWN = 5
"""Example rows stored with a finding."""


def compare_step(context: Context) -> None:
    """Step: `measures.json`: for each measure of the family, its `Measurement` and its `Evidence` as plain values."""
    config = context.config
    flaw: str = config["flaw"]
    sampled = Sampled.read(context.inputs["sample"])
    given = model_extras(context)
    whole = orjson.loads((context.inputs["whole"] / "whole.json").read_bytes())
    data, references = sampled.populations(flaw, whole, context.inputs["whole"])
    draws = Yardsticks(permutations=config["permutations"], seed=config["seed"])
    sources = stored_sources(context.inputs["sources"]) if "sources" in context.inputs else None
    weighed, missing = measured(flaw, sampled, data, given, draws, sources)
    told = []
    for number, one in enumerate(weighed):
        shown = evidence_of(flaw)(one.measure.name, data, references, given)
        drawn = figure_values(flaw, one.measure.name, sampled, data, given)
        shown = replace(shown, values={**shown.values, **drawn})
        told.append({**weighed_json(one), "evidence": evidence_json(shown, data)})
        context.report_progress(number + 1, len(weighed), "measures")
    lacking = [{"measure": one.name, "why": why} for one, why in missing]
    made = {"measures": told, "not_measured": lacking, "prompts": prompts_apart(flaw, sampled, given, draws, sources)}
    (context.out / "measures.json").write_bytes(orjson.dumps(made, option=orjson.OPT_SERIALIZE_NUMPY))


def measured(
    flaw: str,
    sampled: Sampled,
    data: Population,
    given: Extras,
    draws: Yardsticks,
    sources: Mapping[str, Sequence[int]] | None = None,
) -> tuple[list[Measurement], list[tuple[Measure, str]]]:
    """Every measure of a family that can be taken, and the others with the reason. `sources`: the places of the rows of
    each human source, where they are not the references themselves."""
    sources = sampled.references if sources is None else sources
    family = module(flaw)
    human = sum(map(len, sampled.references.values()))
    found: dict[str, Measurement] = {}
    contrasts: Sequence[Contrast] = ()
    if human >= LEAST and len(sampled.data) >= 2 and (flaw != "artifacts" or same_labels(sampled)):
        contrasts = family.contrasts(sampled.rows, given)
    for contrast in contrasts:
        sizes = sizes_of(contrast.measure.full_name) or SIZES
        made = weigh(
            contrast, sampled.data, sources, draws, size=len(sampled.rows), clusters=sampled.clusters, sizes=sizes
        )
        if made is not None:
            found[contrast.measure.name] = made
    own: list[Alone] = []
    if hasattr(family, "alone"):
        wanted = [one.name for one in measures(flaw) if one.name not in found]
        own += [one for one in family.alone(data.rows, given) if one.measure.name in wanted] if wanted else []
    for one in own:
        found[one.measure.name] = weigh_alone(one)
    for one in family.alone_from_whole(data.whole) if hasattr(family, "alone_from_whole") else ():
        name = one.measure.name
        if name in found and not found[name].alone:
            found[name] = replace(found[name], counted=Counted(one.value, one.n, one.threshold))
        else:  # every row was counted: the share is what it is
            found[name] = weigh_alone(replace(one, low=one.value, high=one.value))
    missing = []
    for measure in measures(flaw):
        if measure.name not in found:
            why = "the data or the references do not have what it needs" if human >= LEAST else "needs a reference"
            if human >= LEAST and flaw == "artifacts" and not same_labels(sampled):
                why = "the data and the references do not have the same labels"
            if 0 < human < LEAST:
                why = f"needs a reference of {LEAST} rows; this one has {human}"
            missing.append((measure, why))
    return [found[one.name] for one in measures(flaw) if one.name in found], missing


def prompts_apart(
    flaw: str,
    sampled: Sampled,
    given: Extras,
    draws: Yardsticks,
    sources: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any] | None:
    """How far are the data's prompts, and each human source's, from the (other) sources' prompts? `Between` of the AUC of
    the family's classifier; None for another family, and where not every row has a prompt."""
    prompts = given.prompt_embeddings
    if flaw != "embedding" or prompts is None or not sampled.references or not np.linalg.norm(prompts, axis=1).all():
        return None
    family = module(flaw)
    of_prompts = replace(given, embeddings=prompts, prompt_embeddings=None)
    (contrast,) = [one for one in family.contrasts(sampled.rows, of_prompts) if one.measure == family.CLASSIFIER]
    few = replace(draws, permutations=1)
    sources = sampled.references if sources is None else sources
    made = weigh(contrast, sampled.data, sources, few, size=len(sampled.rows), clusters=sampled.clusters)
    return None if made is None or made.between is None else asdict(made.between)


TOLD_APART_BY = {
    "format": {"shape_distance": True, "opening_concentration": False, "length_spread": False},
    "tokens": {"distance": True},
    "embedding": {"mmd": True},
}
"""By which measures of each family references are told from each other; True: a distance, the same in both directions."""
DRAWS_APART = 199


def sources_step(context: Context) -> None:
    """Step: `sources.json`: places of each human source's rows in the sample, and which references could not be told apart.

    Two files of one source are no two sources: between them people seem not to differ at all, and anything else looks far.
    So each pair of sources is compared by some measures of each family (permutation null, Bonferroni over them, 5 %);
    those that nothing tells apart are one source, but never two that were told apart. References of fewer than fifty rows
    say nothing of it: they stay as they are, and count as no source.
    """
    config = context.config
    sampled = Sampled.read(context.inputs["sample"])
    apart = sampled.human_sources(LEAST)
    given = model_extras(context)
    known = [flaw for flaw in TOLD_APART_BY if flaw in config["flaws"]]
    large = [name for name, some in apart.items() if len(some) >= LEAST]
    contrasts = [
        one
        for flaw in known
        for one in (module(flaw).contrasts(sampled.rows, given) if len(large) > 1 else ())
        if one.measure.name in TOLD_APART_BY[flaw]
    ]
    tests = [
        (contrast, way)
        for contrast in contrasts
        for way in ((1,) if TOLD_APART_BY[contrast.measure.flaw][contrast.measure.name] else (1, -1))
    ]
    p_values: dict[tuple[str, str], float] = {}
    draws = Yardsticks(permutations=DRAWS_APART, subsamples=1, halves=2, seed=config["seed"])
    for one, other in itertools.combinations(large, 2):
        p = min(
            pair_p(contrast, apart[one], apart[other], sampled, draws)
            if way == 1
            else pair_p(contrast, apart[other], apart[one], sampled, draws)
            for contrast, way in tests
        )
        adjusted = min(1.0, p * len(tests))
        p_values[one, other] = adjusted
        context.report_progress(len(p_values), len(large) * (len(large) - 1) / 2, "pairs of sources")
    joined = one_source_each(large, p_values)
    joined += [[name] for name in apart if name not in large]
    places = {" + ".join(names): [at for name in names for at in apart[name]] for names in joined}
    one_source = [names for names in joined if len(names) > 1]
    pairs = [{"a": a, "b": b, "p": p} for (a, b), p in p_values.items()]
    told = {"places": places, "pairs": pairs, "one_source": one_source}
    (context.out / "sources.json").write_bytes(orjson.dumps(told))


APART_AT = 0.05


def one_source_each(names: Sequence[str], p_values: Mapping[tuple[str, str], float]) -> list[list[str]]:
    """Sources in groups of which no two were told apart (p at most 5 %), the least distinguishable pairs joined first.

    >>> one_source_each(["a", "b", "c"], {("a", "b"): 0.9, ("a", "c"): 0.01, ("b", "c"): 0.5})
    [['a', 'b'], ['c']]
    """
    groups = [[name] for name in names]

    def group_of(name: str) -> list[str]:
        return next(group for group in groups if name in group)

    for (one, other), p in sorted(p_values.items(), key=lambda pair: (-pair[1], pair[0])):
        first, second = group_of(one), group_of(other)
        apart = any(p_values.get((a, b), p_values.get((b, a), 1.0)) <= APART_AT for a in first for b in second)
        if p > APART_AT and first is not second and not apart:
            first.extend(second)
            groups.remove(second)
    return groups


def pair_p(contrast: Contrast, one: Sequence[int], other: Sequence[int], sampled: Sampled, draws: Yardsticks) -> float:
    """How surprising is the distance of two sources if their rows could change places? (Their clusters could, where each
    source has several.)"""
    clusters = sampled.clusters
    if clusters is not None and any(len({clusters[at] for at in side}) == 1 for side in (one, other)):
        clusters = None
    found = weigh(contrast, one, {"other": other}, draws, size=len(sampled.rows), clusters=clusters)
    return 1.0 if found is None else found.p


def stored_sources(folder: Path) -> dict[str, list[int]]:
    """The places of each human source's rows."""
    found: dict[str, list[int]] = orjson.loads((folder / "sources.json").read_bytes())["places"]
    return found


def same_labels(sampled: Sampled) -> bool:
    """Do the data and the references have the same labels? Else labels and groups cannot be told apart."""
    ours = {sampled.rows[at].label for at in sampled.data}
    theirs = {sampled.rows[at].label for some in sampled.references.values() for at in some}
    return ours == theirs


def figure_values(flaw: str, name: str, sampled: Sampled, data: Population, given: Extras) -> dict[str, Any]:
    """What the figures draw: the density over token ids of the whole sets, the map of the sample's embeddings."""
    if (flaw, name) == ("tokens", "distance") and "density" in data.whole:
        return {"density": data.whole["density"]}
    if (flaw, name) == ("embedding", "classifier_auc") and given.embeddings is not None:
        points = module(flaw).map_2d(given.embeddings, seed=given.seed)
        people = {at for some in sampled.references.values() for at in some}
        return {
            "map": [
                {"x": float(x), "y": float(y), "group": "references" if at in people else "data"}
                for at, (x, y) in enumerate(points)
            ]
        }
    return {}


def weighed_json(one: Measurement) -> dict[str, Any]:
    """As plain values; nan becomes null."""
    told = asdict(one)
    return {name: none_for_nan(value) for name, value in told.items()}


def none_for_nan(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: none_for_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [none_for_nan(inner) for inner in value]
    return value


def evidence_json(shown: Evidence, data: Population) -> dict[str, Any]:
    """As plain values, with an excerpt of each example row."""
    by_number = {row.number: row for row in data.rows}
    rows = [by_number[number] for number in shown.rows if number in by_number][:SHOWN]
    return {
        "lines": list(shown.lines),
        "rows": [{"number": row.number, "id": row.id, "excerpt": excerpt(row)} for row in rows],
        "values": none_for_nan(dict(shown.values)),
        "rule": none_for_nan(dict(shown.rule)) if shown.rule is not None else None,
    }


def excerpt(row: Row) -> str:
    """The beginning of a row: its answer, or all of a pair."""
    text = " | ".join(row.fields.values()) + f" | {row.label}" if row.fields else row.answer
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


COMPARE = StepType("audit.compare", 3, compare_step)
SOURCES = StepType("audit.sources", 1, sources_step)
