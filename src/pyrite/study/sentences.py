"""A contrast's judgement in one plain sentence."""

import math
from collections.abc import Sequence
from dataclasses import replace

from pyrite.records import Estimate
from pyrite.stats import Judgement
from pyrite.study.contrast_cells import Comparison
from pyrite.study.scores import within
from pyrite.study.spec import StudySpec
from pyrite.study.spec_probes import ContrastSpec
from pyrite.study.spec_steps import START_ROWS
from pyrite.tasks.scoring import Metric


def say_of_arms(compared: Comparison, judgement: Judgement, spec: StudySpec) -> str:
    """One plain sentence on a contrast between arms."""
    contrast, estimate = compared.contrast, judgement.difference
    share = compared.metric.scale == "share"
    interval = estimate.method  # why there is none
    if estimate.low is not None and estimate.high is not None:
        most = (2.0 if compared.is_gap else 1.0) if share else math.inf
        interval = f"95 % interval {bare(max(estimate.low, -most), share)} to {bare(min(estimate.high, most), share)}"
    where = "the gap between general task and blind spot (negative: it opened)"
    if not compared.is_gap:
        headline = compared.probe.headline_name if compared.probe else compared.metric.name
        where = f"{contrast.probe_name} ({headline})"
    equivalent = f"equivalent within ±{amount(compared.margin, share, signed=False, plain=True)}"
    verdict = equivalent if judgement.verdict.value == "equivalent" else judgement.verdict.value
    against = "the start" if contrast.against == START_ROWS else f"arm {contrast.against}"
    about = f"Arm {contrast.arm} against {against} on {where}: {verdict}"
    cells, seeds = len(judgement.cells), len(compared.seeds)
    if not cells:
        return f"{about} ({seeds} seed{'s' * (seeds != 1)}): {judgement.why}.{whose_data(contrast, spec)}"
    left_out = "; ".join(f"{cell}: {why}" for cell, why in judgement.left_out.items())
    return (
        f"{about} ({amount(estimate.value, share)}, {interval}; "
        f"{seeds} seed{'s' * (seeds != 1)}, {cells} cell{'s' * (cells != 1)} averaged in each): {judgement.why}."
        f"{f' Left out, for they cannot answer: {left_out}.' * bool(left_out)}{unanswered(judgement)}"
        f"{whose_data(contrast, spec)}"
    )


def say_of_cells(compared: Comparison, judgement: Judgement, items: Estimate | None) -> str:
    """One plain sentence on a contrast between cells."""
    contrast = compared.contrast
    about = f"{contrast.cell} against {contrast.against} on {contrast.probe}"
    if compared.uneven:
        return f"{about}: not testable here: {judgement.why}."
    count = len(compared.seeds)
    if not judgement.cells or items is None:
        return f"{about}: not testable here ({count} seed{'s' * (count != 1)}): {judgement.why}."
    if compared.one_model:
        why = "both models are the same in every seed, so nothing is known of other trainings"
        judgement = replace(judgement, why=why)
    share = compared.metric.scale == "share"
    same = f"equivalent within ±{amount(compared.margin, share, signed=False)}"
    verdict = same if judgement.verdict.value == "equivalent" else judgement.verdict.value
    over_seeds = between(judgement.difference, compared.metric) or judgement.difference.method
    left_out = "; ".join(f"{cell}: {why}" for cell, why in judgement.left_out.items())
    return (
        f"{about}: {verdict} "
        f"({amount(judgement.difference.value, share)}, {over_seeds}, {count} seed{'s' * (count != 1)}): "
        f"{judgement.why}.{f' Left out, for they cannot answer: {left_out}.' * bool(left_out)}{unanswered(judgement)} "
        f"These very models on other items like these {items.n}: "
        f"{amount(items.value, share)}, {between(items, compared.metric) or items.method}."
    )


def unanswered(judgement: Judgement) -> str:
    """How many items a judgement leaves out because some model, or every one, has no answer to them."""
    items = (judgement.items or 0) + judgement.missing + judgement.unanswered
    sentence = ""
    if judgement.missing:
        sentence += f" {judgement.missing} of {items} items lack an answer on a side and are left out."
    if judgement.unanswered:
        sentence += f" {judgement.unanswered} of {items} items were answered by no model and are left out."
    return sentence


def whose_data(contrast: ContrastSpec, spec: StudySpec) -> str:
    """What the verdict speaks of: data of this one generator, and whether it is of the task model's family."""
    arms = spec.all_arms()
    steps = {cell.name: cell.steps for cell in spec.cells}
    path = steps.get(contrast.arm, (contrast.arm,))
    sources = {name.partition(".")[0] for arm in path if arm in arms for name in arms[arm].mix}
    generators = {synth.model for name, source in spec.data.items() if (synth := source.synth) and name in sources}
    sentence = ""
    for generator in sorted(generators):
        sentence += f" This is about data of one generator, {generator}"
        if family(generator) != family(spec.given.model):
            sentence += f", of another family than the task model {spec.given.model}"
        sentence += "."
    return sentence


def family(model: str) -> str:
    """A model's family, as its name tells it: 'llama' for meta-llama/Llama-2-7b-hf."""
    return model.rpartition("/")[2].removeprefix("packaged:").lower().split("-")[0].rstrip("0123456789.")


def without_seeds(left_out: Sequence[int]) -> str:
    """A sentence on the seeds that do not count; nothing where all do."""
    if not left_out:
        return ""
    which = f"Seed{'s' * (len(left_out) > 1)} {', '.join(map(str, left_out))}"
    return f" {which} left out: the pilot chose the damage on that model's result."


def between(estimate: Estimate, metric: Metric) -> str:
    """'95 % interval -3.0 to +1.2'; nothing where there is none."""
    low, high = within(estimate, metric, -1.0)
    share = metric.scale == "share"
    if low is None or high is None:
        return ""
    return f"95 % interval {bare(low, share)} to {amount(high, share)}"


def bare(value: float, share: bool) -> str:
    """A difference without its unit."""
    return amount(value, share).removesuffix(" points")


def amount(value: float, share: bool, *, signed: bool = True, plain: bool = False) -> str:
    """A difference: of shares in points, of anything else as it is; `plain`: without zeros at its end."""
    sign = "+" if signed else ""
    if plain:
        return f"{value * 100:{sign}g} points" if share else f"{value:{sign}g}"
    return f"{value * 100:{sign}.1f} points" if share else f"{value:{sign}.3f}"
