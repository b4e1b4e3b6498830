"""Severities out of what was measured; nothing is measured here, so thresholds can change at no cost.

A measure beyond its null (Holm over all measures of the audit, so that clean data gets any warning at all with the
chance `alpha` at most) is a warning. It is a failure if it also lies, with its whole interval, beyond what the next
human source would show (`pyrite.audit.next_source`: the references left out one by one, and the table of human sources).
Where that cannot be said (no reference, too few sources, another task than the references), nothing is worse than a
warning, and `why` says so."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import norm

from pyrite.audit.advice import data_kind
from pyrite.audit.baselines import LEAST, Z95
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.flaw import DataKind, Statistic
from pyrite.audit.flaws.registry import FLAWS, statistic_of
from pyrite.audit.gather import Sampled
from pyrite.audit.human_sources import sources_in_sample
from pyrite.audit.next_source import (
    FEWEST,
    NextSource,
    another_task,
    definition_in_table,
    limit_of,
    predict,
    prior_of,
    within_scale,
)
from pyrite.stats.multiplicity import holm
from pyrite.steps import Step, Store

Severity = Literal["fail", "warn", "ok"]
ORDER: tuple[Severity, ...] = ("fail", "warn", "ok")

COUNTED = "counted over all rows: too few in the sample to compare, or no more than people have"
TOO_FEW = "too few rows of each source: how much people differ is not known, so a warning is the most"
NO_REFERENCE = "no reference: measured on the data alone, so a warning is the most"
WITHIN = "within what the next human source may show, or not clearly beyond it"
ALONE = "counted or measured without a null of rows that change places, so a warning is the most"
FEW_CLUSTERS = "rows come in so few clusters that chance could not be told from a flaw: nothing can be found here"
AT_END = "human sources reach the end of this scale, so nothing can lie beyond them"


def few_sources(sources: int, *, tabled: bool) -> str:
    """Why nothing is worse than a warning beside so few human sources, and how many would do."""
    without = (
        "the table of human sources does not hold this measure" if tabled else "the table of human sources is not used"
    )
    return (
        f"{sources} human source{'s' * (sources != 1)}, and {without}: what the next one would show is not known, so a warning "
        f"is the most ({FEWEST} sources would do: give --reference, --source-column or --cluster)"
    )


@dataclass(frozen=True)
class Finding:
    """One flaw with its evidence, as `--json` tells it."""

    flaw: str
    measure: str
    severity: Severity
    record: Mapping[str, Any]
    rule: Mapping[str, Any] | None

    @property
    def full_name(self) -> str:
        """Its name among all measures."""
        return f"{self.flaw}.{self.measure}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"flaw": self.flaw, "measure": self.measure, "severity": self.severity, **self.record}


@dataclass(frozen=True)
class Human:
    """What is known of human sources in an audit. `sources`: how many there are; `tabled`: for which measures' flaws
    the table may be used; `task`: what says that the data is of another task than they are (empty: nothing)."""

    sources: int
    tabled: Collection[str] = ()
    task: str = ""
    alpha: float = 0.05


@dataclass(frozen=True)
class Decision:
    """What the flaws measured, and what it comes to. `sources`: the rows of each human source; `one_source`: references
    that could not be told from each other."""

    findings: Sequence[Finding]
    measured: Mapping[str, Any]
    sources: dict[str, int]
    one_source: list[list[str]]
    human: Human


def decision_of(
    config: AuditConfig,
    store: Store,
    compare: Mapping[str, Step],
    sampled: Sampled,
    limits: Mapping[str, float],
    *,
    looks: int,
) -> Decision:
    """Findings out of what finished comparisons have measured. Where there are two `looks` at a flaw, its p-values count
    double (Bonferroni)."""
    measured = {flaw: store.read_json(step, "measures.json") for flaw, step in compare.items()}
    for name in measured:
        for measurement in measured[name]["measures"] if FLAWS[name].two_looks else ():
            measurement["looks"] = looks
            measurement["p"] = None if measurement["p"] is None else min(1.0, looks * measurement["p"])
            measurement["least_p"] = min(1.0, looks * measurement.get("least_p", 0.0))
    sources, one_source = sources_in_sample(store, compare)
    large = sum(rows >= LEAST for rows in sources.values())
    flaws_tabled = tabled(config) if in_latin_letters(sampled) else ()
    human = Human(large or len(sources), flaws_tabled, task_of(measured), config.alpha)
    findings = decide(
        [measurement for flaw in compare for measurement in measured[flaw]["measures"]],
        alpha=config.alpha,
        thresholds=limits,
        human=human,
        kind=data_kind([sampled.rows[at] for at in sampled.data]),
    )
    return Decision(findings, measured, sources, one_source, human)


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


def decide(
    measured: Sequence[Mapping[str, Any]],
    *,
    alpha: float,
    thresholds: Mapping[str, float],
    human: Human,
    kind: DataKind = "chat",
) -> list[Finding]:
    """Findings, worst first: by severity, then by how far beyond null or baseline, in its standard errors.

    `measured` are the measurements of all flaws, as `compare` stored them; `thresholds`: name -> the excess up to which
    there is no finding; `kind`: of the data's rows, which the advice is for.
    """
    with_null = [at for at, measurement in enumerate(measured) if measurement["p"] is not None]
    adjusted = dict(zip(with_null, holm([measured[at]["p"] for at in with_null]), strict=True)) if with_null else {}
    compared = sum(measurement["between"] is not None for measurement in measured)
    smallest = alpha / max(1, len(with_null))
    findings = []
    for at, measurement in enumerate(measured):
        measure = measurement["measure"]
        name = f"{measure['flaw']}.{measure['name']}"
        following = next_human(measurement, human, compared)
        excess = excess_of(measurement, following)
        severity, why = severity_of(
            measurement,
            adjusted.get(at),
            alpha=alpha,
            least=thresholds.get(name),
            human=human,
            following=following,
            excess=excess,
        )
        unable = severity == "ok" and measurement["p"] is not None and measurement.get("least_p", 0.0) > smallest
        if unable:
            why = FEW_CLUSTERS
        null = None
        if measurement["p"] is not None:
            null = {
                "mean": measurement["null_mean"],
                "high": measurement["null_high"],
                "p": measurement["p"],
                "p_adjusted": adjusted[at],
            }
        evidence = {key: value for key, value in measurement["evidence"].items() if key != "rule"}
        record = {
            "question": measure["question"],
            "value": measurement["value"],
            "unit": measure["unit"],
            "null": null,
            "between_human": between_json(measurement["between"], following),
            "excess": excess,
            "n": measurement["n"],
            "counted": measurement.get("counted"),
            "evidence": evidence,
            "advice": advice_on(measure, kind) if severity != "ok" else "",
            "why": why,
            "capped": unable or (severity == "warn" and bool(cap(measurement, human, following))),
        }
        findings.append(Finding(measure["flaw"], measure["name"], severity, record, measurement["evidence"]["rule"]))
    return sorted(findings, key=lambda finding: (ORDER.index(finding.severity), -strength(finding), finding.full_name))


def advice_on(measure: Mapping[str, Any], kind: DataKind) -> str:
    """What to do about a finding in such data."""
    statistic = statistic_of(f"{measure['flaw']}.{measure['name']}")
    return str(measure["advice"]) if statistic is None else statistic.advice_for(kind)


def next_human(measurement: Mapping[str, Any], human: Human, measures: int) -> NextSource | None:
    """The prediction of what the next human source would show in this statistic; None where it cannot be said."""
    between, measure = measurement["between"], measurement["measure"]
    if between is None or human.sources == 0:
        return None
    prior = None
    statistic = statistic_of(f"{measure['flaw']}.{measure['name']}")
    if measure["flaw"] in human.tabled and (statistic is None or table_speaks_of(statistic)):
        prior = prior_of(f"{measure['flaw']}.{measure['name']}", between["n"])
    distances = list(between["distances"].values())
    limit = limit_of(len(distances)) if prior is not None else None
    alpha = human.alpha / measurement.get("looks", 1)  # each look takes its share
    alpha = alpha / 2 if human.tabled else alpha  # the table's limits take the other half
    prediction = predict(distances, prior, n=between["n"], measures=measures, limit=limit, alpha=alpha)
    ceiling = statistic.ceiling if statistic is not None else None
    return within_scale(prediction, 1.0 if ceiling is None and measure["unit"] == "share" else ceiling)


def table_speaks_of(statistic: Statistic) -> bool:
    """Whether the table of human sources holds a statistic as it is defined now, or by a wider definition, whose limit is at
    least as high."""
    return definition_in_table(statistic.full_name) in (statistic.definition, *statistic.wider)


def notes_on_definitions(names: Iterable[str]) -> list[str]:
    """What a reader must know of statistics (by full name) that the table of human sources holds by an earlier definition."""
    notes = []
    for name in names:
        statistic, definition = statistic_of(name), definition_in_table(name)
        if statistic is None or definition is None or definition == statistic.definition:
            continue
        what = f"the table of human sources holds {name} by definition {definition}, and it is measured by {statistic.definition}"
        wider = "that one counts more, so a limit from the table is at least as high as it should be"
        notes.append(f"{what}: {wider if table_speaks_of(statistic) else 'the table is not used for it'}")
    return notes


def excess_of(measurement: Mapping[str, Any], following: NextSource | None) -> dict[str, float | None]:
    """Above what the next human source may show, with its 95 % interval; else above the null's mean or the
    threshold."""
    between = measurement["between"]
    if following is None or between is None:
        return {"value": measurement["excess"], "low": measurement["low"], "high": measurement["high"]}
    value = between["value_of_data"] - following.high
    width = Z95 if measurement.get("looks", 1) == 1 else float(norm.ppf(1 - 0.025 / measurement["looks"]))
    reach = None if between["error"] is None else width * between["error"]
    return {
        "value": value,
        "low": None if reach is None else value - reach,
        "high": None if reach is None else value + reach,
    }


def between_json(between: Mapping[str, Any] | None, following: NextSource | None) -> dict[str, Any] | None:
    """What human sources differ by, as `--json` tells it: the farthest of them, and what the next one would show."""
    if between is None:
        return None
    farthest = max(between["distances"], key=between["distances"].get, default="")
    return {
        "n": between["n"],
        "value_of_data": between["value_of_data"],
        "source": farthest,
        "value": between["distances"].get(farthest),
        "distances": between["distances"],
        "centre": following.centre if following else None,
        "high": following.high if following else None,
        "sources": following.sources if following else len(between["distances"]),
        "table": following.table if following else False,
        "at_end": following.at_end if following else False,
    }


def cap(measurement: Mapping[str, Any], human: Human, following: NextSource | None) -> str:
    """Why a measure cannot be a failure here, whatever it shows; empty where it could be."""
    if human.sources == 0:
        return NO_REFERENCE
    if measurement.get("alone"):
        return ALONE
    if measurement["between"] is None:
        return TOO_FEW
    if following is None:
        return few_sources(human.sources, tabled=bool(human.tabled))
    return human.task


def severity_of(
    measurement: Mapping[str, Any],
    p: float | None,
    *,
    alpha: float,
    least: float | None,
    human: Human,
    following: NextSource | None,
    excess: Mapping[str, float | None],
) -> tuple[Severity, str]:
    """The severity of one measure, and why it is not worse."""
    counted = measurement.get("counted")
    if counted is not None and counted["value"] - counted["threshold"] > (least or 0.0):
        counts: tuple[Severity, str] = ("warn", COUNTED)
    else:
        counts = ("ok", "")
    if least is not None and (excess["value"] is None or excess["value"] <= least):
        return counts
    capped = cap(measurement, human, following)
    if measurement["p"] is None:
        return ("warn", capped or ALONE) if measurement["excess"] > 0 else ("ok", "")
    if p is None or p > alpha or measurement["value"] <= measurement["null_mean"]:
        return counts
    if capped:
        return "warn", capped
    if excess["low"] is not None and excess["low"] > 0:
        return "fail", ""
    return "warn", AT_END if following is not None and following.at_end else WITHIN


def strength(finding: Finding) -> float:
    """How far beyond null or baseline, in standard errors of the excess; measures without one come last."""
    excess = finding.record["excess"]
    if excess["low"] is None or excess["value"] is None:
        return 0.0
    width = max(excess["value"] - excess["low"], 1e-9)
    return float(min(excess["value"] / width, 1e6))
