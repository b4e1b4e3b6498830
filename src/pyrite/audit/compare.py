"""Steps: which references are sources of their own; one flaw's statistics compared with null and baselines, with what
shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson

from pyrite.audit.baselines import LEAST, SIZES, Counted, DrawSettings, Measurement, measure_alone, measure_difference
from pyrite.audit.flaw import Evidence, Extras, Flaw, Population, Statistic
from pyrite.audit.flaws.registry import flaw_of
from pyrite.audit.gather import Sampled, sample_extras
from pyrite.audit.human_sources import stored_sources
from pyrite.audit.next_source import sizes_of
from pyrite.audit.rows import Row
from pyrite.audit.wording import NEEDS_REFERENCE
from pyrite.steps import Context, StepType

EXCERPT = 300
SHOWN = 5
"""Example rows stored with a finding."""


def compare_step(context: Context) -> None:
    """Step: `measures.json`: for each statistic of a flaw, its `Measurement` and its `Evidence` as plain values."""
    config = context.config
    flaw = flaw_of(config["flaw"], config)
    sampled = Sampled.read(context.inputs["sample"])
    extras = sample_extras(context)
    totals = orjson.loads((context.inputs["whole"] / "whole.json").read_bytes())
    data, references = sampled.populations(flaw.name, totals, context.inputs["whole"])
    draws = DrawSettings(permutations=config["permutations"], seed=config["seed"])
    sources = stored_sources(context.inputs["sources"]) if "sources" in context.inputs else None
    measurements, missing = measure_flaw(flaw, sampled, data, extras, draws, sources)
    lines = []
    for number, measurement in enumerate(measurements):
        name = measurement.measure.name
        evidence = flaw.evidence(name, data, references, extras)
        drawn = flaw.drawn_values(name, data, references, extras) if flaw.drawn_values else {}
        evidence = replace(evidence, values={**evidence.values, **drawn})
        lines.append({**measurement_json(measurement), "evidence": evidence_json(evidence, data)})
        context.report_progress(number + 1, len(measurements), "statistics")
    lacking = [{"measure": statistic.name, "why": why} for statistic, why in missing]
    prompts = prompts_apart(flaw, sampled, extras, draws, sources)
    result = {"measures": lines, "not_measured": lacking, "prompts": prompts}
    (context.out / "measures.json").write_bytes(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY))


def measure_flaw(
    flaw: Flaw,
    sampled: Sampled,
    data: Population,
    extras: Extras,
    draws: DrawSettings,
    sources: Mapping[str, Sequence[int]] | None = None,
) -> tuple[list[Measurement], list[tuple[Statistic, str]]]:
    """Every statistic of a flaw that can be taken, and the others with the reason. `sources`: the places of the rows of
    each human source, where they are not the references themselves."""
    by_name = compared_with_references(flaw, sampled, extras, draws, sources)
    lacking = {statistic.name for statistic in flaw.statistics if statistic.name not in by_name}
    if flaw.alone is not None and lacking:
        for alone in flaw.alone(data.rows, extras):
            if alone.measure.name in lacking:
                by_name[alone.measure.name] = measure_alone(alone)
    for alone in flaw.alone_from_totals(data.totals) if flaw.alone_from_totals else ():
        name = alone.measure.name
        if name in by_name and not by_name[name].alone:
            by_name[name] = replace(by_name[name], counted=Counted(alone.value, alone.n, alone.threshold))
        else:  # every row was counted: the share is what it is
            by_name[name] = measure_alone(replace(alone, low=alone.value, high=alone.value))
    not_taken = [statistic for statistic in flaw.statistics if statistic.name not in by_name]
    missing = list(zip(not_taken, why_not(flaw, not_taken, sampled, extras), strict=True))
    return [by_name[statistic.name] for statistic in flaw.statistics if statistic.name in by_name], missing


def why_not(flaw: Flaw, not_taken: Sequence[Statistic], sampled: Sampled, extras: Extras) -> list[str]:
    """For each statistic that could not be taken, why: what the data lacks comes first, for a reference would not help."""
    if not not_taken:
        return []
    theirs = [at for places in sampled.references.values() for at in places]
    lacks = {
        side: flaw.lacking([sampled.rows[at] for at in places], extras) if flaw.lacking and places else {}
        for side, places in (("data", sampled.data), ("references", theirs))
    }
    if not theirs:
        otherwise = NEEDS_REFERENCE
    elif len(theirs) < LEAST:
        otherwise = f"{NEEDS_REFERENCE} of {LEAST} rows; this one has {len(theirs)}"
    elif not comparable_labels(flaw, sampled):
        otherwise = "the data and the references do not have the same labels"
    else:
        otherwise = ""
    reasons = []
    for statistic in not_taken:
        ours = lacks["data"].get(statistic.name)
        of_references = lacks["references"].get(statistic.name)
        if ours is not None:
            reasons.append(f"data: {ours}")
        elif otherwise or of_references is None:
            reasons.append(otherwise or "the data or the references do not have what it needs")
        else:
            reasons.append(f"references: {of_references}")
    return reasons


def compared_with_references(
    flaw: Flaw,
    sampled: Sampled,
    extras: Extras,
    draws: DrawSettings,
    sources: Mapping[str, Sequence[int]] | None,
) -> dict[str, Measurement]:
    """The statistics of a flaw that can be compared with the references, by name."""
    human = sum(map(len, sampled.references.values()))
    if human < LEAST or len(sampled.data) < 2 or not comparable_labels(flaw, sampled):
        return {}
    measurements = {}
    for difference in flaw.differences(sampled.rows, extras):
        measurement = measure_difference(
            difference,
            sampled.data,
            sampled.references if sources is None else sources,
            draws,
            size=len(sampled.rows),
            clusters=sampled.clusters,
            sizes=sizes_of(difference.measure.full_name) or SIZES,
        )
        if measurement is not None:
            measurements[difference.measure.name] = measurement
    return measurements


def comparable_labels(flaw: Flaw, sampled: Sampled) -> bool:
    """Whether the data may be compared with the references, as far as labels go."""
    return not flaw.where_labels_differ or same_labels(sampled)


def prompts_apart(
    flaw: Flaw,
    sampled: Sampled,
    extras: Extras,
    draws: DrawSettings,
    sources: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any] | None:
    """How far the data's prompts, and each human source's, are from the (other) sources' prompts: `Between` by the
    statistic that tells tasks apart; None for a flaw without one, and where not every row has a prompt."""
    prompts = extras.prompt_embeddings
    if (
        not flaw.tells_tasks_apart
        or prompts is None
        or not sampled.references
        or not np.linalg.norm(prompts, axis=1).all()
    ):
        return None
    of_prompts = replace(extras, embeddings=prompts, prompt_embeddings=None)
    differences = flaw.differences(sampled.rows, of_prompts)
    (difference,) = [difference for difference in differences if difference.measure.name == flaw.tells_tasks_apart]
    few = replace(draws, permutations=1)
    sources = sampled.references if sources is None else sources
    measurement = measure_difference(
        difference, sampled.data, sources, few, size=len(sampled.rows), clusters=sampled.clusters
    )
    return None if measurement is None or measurement.between is None else asdict(measurement.between)


def same_labels(sampled: Sampled) -> bool:
    """Whether the data and the references have the same labels; else labels and groups cannot be told apart."""
    ours = {sampled.rows[at].label for at in sampled.data}
    theirs = {sampled.rows[at].label for places in sampled.references.values() for at in places}
    return ours == theirs


def measurement_json(measurement: Measurement) -> dict[str, Any]:
    """As plain values; nan becomes null."""
    values = {**asdict(measurement), "measure": measurement.measure.as_json()}
    return {name: none_for_nan(value) for name, value in values.items()}


def none_for_nan(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: none_for_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [none_for_nan(inner) for inner in value]
    return value


def evidence_json(evidence: Evidence, data: Population) -> dict[str, Any]:
    """As plain values, with an excerpt of each example row."""
    by_number = {row.number: row for row in data.rows}
    rows = [by_number[number] for number in evidence.rows if number in by_number][:SHOWN]
    return {
        "lines": list(evidence.lines),
        "rows": [{"number": row.number, "id": row.id, "excerpt": row_excerpt(row)} for row in rows],
        "values": none_for_nan(dict(evidence.values)),
        "rule": none_for_nan(dict(evidence.rule)) if evidence.rule is not None else None,
    }


def row_excerpt(row: Row) -> str:
    """The beginning of a row: its answer (what was asked, where there is none), or all of a pair."""
    text = " | ".join(row.fields.values()) + f" | {row.label}" if row.fields else row.answer or row.prompt
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


COMPARE = StepType("audit.compare", 6, compare_step)
