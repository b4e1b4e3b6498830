"""The policy of two looks: flaws for which a causal model reads are decided at a few rows first, at more where need be."""

from collections.abc import Iterable, Sequence

from pyrite.audit.config import AuditConfig
from pyrite.audit.decide import Finding
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import Sampled
from pyrite.audit.reading import FIRST_LOOK


def two_look_flaws(flaws: Iterable[str]) -> list[str]:
    """Those of these flaws that are decided at a first look at part of the rows, and again where that was not clear."""
    return [name for name in flaws if FLAWS[name].two_looks]


def number_of_looks(config: AuditConfig, sampled: Sampled) -> int:
    """How often flaws of `two_looks` are decided: twice where the first look is at part of the rows:
    its p-values then count double (Bonferroni) at both looks, and its limits take half of the chance of an error
    each."""
    more = len(sampled.first(config.model_sample)) > len(sampled.first(min(FIRST_LOOK, config.model_sample)))
    return 2 if sampled.references and more else 1


def settled_at_first_look(findings: Sequence[Finding]) -> bool:
    """Whether more rows would change no verdict on a flaw of `two_looks` that matters: each statistic is a failure
    already, or what the data shows lies with its whole interval within what one more human source may show, so that it
    cannot become one."""
    two_look_findings = [finding for finding in findings if finding.flaw in two_look_flaws(FLAWS)]
    high = [finding.record["excess"]["high"] for finding in two_look_findings]
    return all(
        finding.severity == "fail" or (most is not None and most < 0 and finding.record["between_human"] is not None)
        for finding, most in zip(two_look_findings, high, strict=True)
    )


def divides_rows(findings: Sequence[Finding]) -> bool:
    """Whether a finding on a flaw of `two_looks` divides rows. Then all rows of the sample that may be read are."""
    return any(
        finding.flaw in two_look_flaws(FLAWS) and finding.severity != "ok" and bool(finding.rule)
        for finding in findings
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
