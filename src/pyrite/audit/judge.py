"""What the flaws' statistics come to: findings, of which human sources, and whether more rows would change them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pyrite.audit.baselines import LEAST
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.decide import Finding, Human, decide
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import Sampled
from pyrite.audit.plan import FIRST_LOOK, Planned
from pyrite.audit.show import format_number
from pyrite.audit.sources import another_task
from pyrite.steps import Step, Store


@dataclass(frozen=True)
class Judged:
    """What the flaws measured, and what it comes to."""

    findings: Sequence[Finding]
    measured: Mapping[str, Any]
    sources: dict[str, int]
    one_source: list[list[str]]
    human: Human


def judge(
    config: AuditConfig,
    store: Store,
    planned: Planned,
    compare: Mapping[str, Step],
    sampled: Sampled,
    limits: Mapping[str, float],
) -> Judged:
    """Findings out of what finished steps have measured."""
    measured = {flaw: store.read_json(step, "measures.json") for flaw, step in compare.items()}
    for name in two_looks(measured):
        for measurement in measured[name]["measures"]:
            measurement["looks"] = times = looks(config, sampled)
            measurement["p"] = None if measurement["p"] is None else min(1.0, times * measurement["p"])
            measurement["least_p"] = min(1.0, times * measurement.get("least_p", 0.0))
    sources, one_source = human_sources(store, planned, compare)
    large = sum(rows >= LEAST for rows in sources.values())
    flaws_tabled = tabled(config) if in_latin_letters(sampled) else ()
    human = Human(large or len(sources), flaws_tabled, task_of(measured), config.alpha)
    findings = decide(
        [measurement for flaw in compare for measurement in measured[flaw]["measures"]],
        alpha=config.alpha,
        thresholds=limits,
        human=human,
    )
    return Judged(findings, measured, sources, one_source, human)


def two_looks(flaws: Iterable[str]) -> list[str]:
    """Those of these flaws that are judged at a first look at part of the rows, and again where that was not clear."""
    return [name for name in flaws if FLAWS[name].two_looks]


def looks(config: AuditConfig, sampled: Sampled) -> int:
    """How often the verdicts on flaws of `two_looks` are looked at: twice where the first look is at part of the rows:
    its p-values then count double (Bonferroni) at both looks, and its limits take half of the chance of an error
    each."""
    more = len(sampled.first(config.model_sample)) > len(sampled.first(min(FIRST_LOOK, config.model_sample)))
    return 2 if sampled.references and more else 1


def clear(findings: Sequence[Finding]) -> bool:
    """Whether more rows would change no verdict on a flaw of `two_looks` that matters: each statistic is a failure
    already, or what the data shows lies with its whole interval within what one more human source may show, so that it
    cannot become one."""
    two_look_findings = [finding for finding in findings if finding.flaw in two_looks(FLAWS)]
    high = [finding.record["excess"]["high"] for finding in two_look_findings]
    return all(
        finding.severity == "fail" or (most is not None and most < 0 and finding.record["between_human"] is not None)
        for finding, most in zip(two_look_findings, high, strict=True)
    )


def divides_rows(findings: Sequence[Finding]) -> bool:
    """Whether a finding on a flaw of `two_looks` divides rows. Then all rows of the sample that may be read are."""
    return any(
        finding.flaw in two_looks(FLAWS) and finding.severity != "ok" and bool(finding.rule) for finding in findings
    )


def note_on_looks(flaws: Sequence[str], read: int, most: int) -> str:
    """How many rows the causal model read, and why."""
    first, names = f"{FIRST_LOOK} rows of each side", ", ".join(flaws)
    if read < most:
        return (
            f"the causal model read {first}, of {most}: there every verdict of {names} is clear (a failure, or wholly "
            "within what one more human source may show); its p-values count double, for two looks"
        )
    return (
        f"the causal model read {most} rows of each side, as the verdicts of {names} were not clear at {FIRST_LOOK}, "
        "or divide rows; its p-values count double, for two looks"
    )


def say_so_far(findings: Sequence[Finding], flaws: Sequence[str]) -> None:
    """What the flaws show for which no model reads, on stderr, before the models have read."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    standing_out = [finding for finding in findings if finding.severity != "ok"]
    worst = {"fail": "FAIL", "warn": "WARN"}
    console.print(
        f"so far ({', '.join(flaws)}; before any model has read, so not the last word): "
        f"{len(standing_out)} of {len(findings)} measures stand out",
        soft_wrap=True,
    )
    for finding in standing_out[:SO_FAR]:
        value = format_number(finding.record["value"], finding.record["unit"])
        console.print(
            f"  {worst[finding.severity]} {finding.full_name} {value}: {finding.record['question']}", soft_wrap=True
        )
    if len(standing_out) > SO_FAR:
        console.print(f"  and {len(standing_out) - SO_FAR} more")


SO_FAR = 8
"""Findings that are shown before the models have read."""


def human_sources(
    store: Store, planned: Planned, compare: Mapping[str, Step]
) -> tuple[dict[str, int], list[list[str]]]:
    """Every human source and its rows in the sample, and the references that could not be told from each other."""
    for step in compare.values():
        sources_step = step.inputs.get("sources")
        if isinstance(sources_step, Step):
            sources = store.read_json(sources_step, "sources.json")
            return {name: len(rows) for name, rows in sources["places"].items()}, sources["one_source"]
    return {}, []


def tabled(config: AuditConfig) -> tuple[str, ...]:
    """The flaws whose measures the table of human sources speaks of: it was made with the default models."""
    if config.no_prior:
        return ()
    fields = AuditOptions.model_fields

    def at_default(option: str) -> bool:
        return bool(getattr(config, option) == fields[option].default)

    return tuple(
        name
        for name, flaw in FLAWS.items()
        if flaw.prior_options is not None and all(map(at_default, flaw.prior_options))
    )


def task_of(measured: Mapping[str, Any]) -> str:
    """What says that the data is of another task than the references; empty where nothing does."""
    for name, result in measured.items():
        statistic = FLAWS[name].tells_tasks_apart
        answers = [
            measurement["between"]
            for measurement in result["measures"]
            if statistic and measurement["measure"]["name"] == statistic
        ]
        if answers and (task := another_task(result.get("prompts"), answers[0])):
            return task
    return ""


def in_latin_letters(sampled: Sampled) -> bool:
    """Whether most letters of the sample are Latin ones. The table of human sources holds English text."""
    letters = [letter for row in sampled.rows[:400] for letter in row.answer[:400] if letter.isalpha()]
    return not letters or sum(ord(letter) < 0x250 for letter in letters) > 0.8 * len(letters)
