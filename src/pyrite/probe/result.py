"""What a probe finds: a scorecard for each task and model, two models compared, and the whole with its gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pyrite.conditions import GateOutcome
from pyrite.probe.compare import Comparison, Flip, compare, flips
from pyrite.probe.config import ProbeConfig
from pyrite.probe.probe_task import ProbeTask, Result
from pyrite.redact import redact_existing_path
from pyrite.stats.missing import MAX_MISSING, too_many_missing
from pyrite.tasks.judge import verdict_against_noise
from pyrite.tasks.scoring import Line, Metric, summarise

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Scorecard:
    """One task's scores of one subject."""

    about: str
    task: str
    source: str
    lines: list[Line]
    result: Result

    @property
    def unmatched(self) -> int:
        """Answers in the file for items that the task does not have."""
        return self.result.unmatched

    @property
    def caution(self) -> str:
        """The first thing to know where more items lack a value than a verdict bears; "" elsewhere."""
        overall = self.lines[0].estimate
        of = overall.n + overall.n_missing
        if not too_many_missing(overall.n_missing, of):
            return ""
        return (
            f"{self.about} on {self.task}: {overall.n_missing} of {of} items have no value, more than the share of "
            f"{MAX_MISSING:g} that a verdict bears; the numbers speak of the others only"
        )

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises: overall (of the task's first metric), then every other line."""
        overall, rest = self.lines[0], self.lines[1:]
        return {
            "task": self.task,
            "source": self.source,
            "metric": overall.metric,
            "overall": estimate_record(overall),
            "unmatched": self.unmatched,
            "intervals": overall.note,
            "notes": list(self.result.notes),
            "judge_noise": {name: noise.as_json() for name, noise in self.result.noise.items()},
            "details": dict(self.result.details),
            "slices": [slice_json(line) for line in rest],
        }


def slice_json(line: Line) -> dict[str, Any]:
    """A line as plain values, the gold label apart from the other columns."""
    return {"metric": line.metric, **slice_title(line.values), **estimate_record(line)}


def slice_title(values: Sequence[tuple[str, str]]) -> dict[str, str | None]:
    """What a slice is called, by its columns' values: `by` (columns), `name` (values) and the gold label apart."""
    plain = [(column, value) for column, value in values if column != "gold"]
    gold = dict(values).get("gold")
    by = " x ".join(column for column, _ in plain) or ("gold" if gold else "overall")
    return {"by": by, "name": " / ".join(value for _, value in plain) or gold or "overall", "gold": gold}


def estimate_record(line: Line) -> dict[str, Any]:
    """An estimate as plain values; null where nothing was answered."""
    estimate = line.estimate
    value = None if estimate.n == 0 else estimate.value
    values = {
        "value": value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "n_missing": estimate.n_missing,
    }
    return {**values, "direction": estimate.direction, "method": estimate.method}


@dataclass(frozen=True)
class Compared:
    """One task, two subjects, item by item."""

    task: str
    comparison: Comparison
    flips: list[Flip]
    against_noise: Mapping[str, str] = field(default_factory=dict)
    """By metric: the verdict once the judge's own noise is thought of."""

    def as_json(self) -> dict[str, Any]:
        """The comparison and the items that changed sides."""
        values = {"task": self.task, **self.comparison.as_json(), "flips": [flip.as_json() for flip in self.flips]}
        return values | ({"against_judge_noise": dict(self.against_noise)} if self.against_noise else {})


@dataclass(frozen=True)
class ProbeResult:
    """The scorecards of one model, two models, or a predictions file; the comparison and the gates where asked for."""

    about: str
    cards: list[Scorecard]
    compared: list[Compared] = field(default_factory=list)
    gates: list[GateOutcome] = field(default_factory=list)
    exit_code: int = 0

    def table(self) -> "polars.DataFrame":
        """Every line of every scorecard, with its interval."""
        from pyrite.probe.tables import table

        return table([{"about": card.about, **card.as_json()} for card in self.cards])

    def as_json(self) -> dict[str, Any]:
        """One task and one model: its scorecard; several: a list of them."""
        record: dict[str, Any] = {"schema_version": 1, "about": self.about}
        if len(self.cards) == 1:
            record |= self.cards[0].as_json()
        else:
            record["scorecards"] = [{"about": card.about, **card.as_json()} for card in self.cards]
        if self.compared:
            record["compared"] = [comparison.as_json() for comparison in self.compared]
        if self.gates:
            record |= {"gates": [gate.as_json() for gate in self.gates], "exit_code": self.exit_code}
        return record

    def as_run(self) -> dict[str, Any]:
        """What a run folder tells of the result: the same, always in the shape of several."""
        return {
            "schema_version": 1,
            "verb": "probe",
            "about": self.about,
            "models": list(dict.fromkeys(card.about for card in self.cards)),
            "scorecards": [{"about": card.about, **card.as_json()} for card in self.cards],
            "compared": [comparison.as_json() for comparison in self.compared],
            "gates": [gate.as_json() for gate in self.gates],
            "exit_code": self.exit_code,
        }


def scorecard(about: str, task: ProbeTask, result: Result, seed: int) -> Scorecard:
    """Every metric overall, then by its slices."""
    lines = []
    for metric in result.metrics:
        items = [item for item in result.measured if item.metric == metric.name]
        cuts = result.cuts.get(metric.name, ((),))
        columns = {column for item in items for column in item.slices}
        cuts = tuple(cut for cut in cuts if set(cut) <= columns)
        lines += summarise(items, [metric], cuts, seed=seed, cluster=result.cluster)
    return Scorecard(about, task.name, redact_existing_path(task.source), lines, result)


def compare_two(
    task: ProbeTask, results: list[dict[str, Result]], subjects: list[str], config: ProbeConfig
) -> Compared:
    """The second model minus the first, metric by metric."""
    first, second = results[0][task.name], results[1][task.name]
    metrics = common_scales(first.metrics, second.metrics)
    cuts = {cut: None for cuts_of_metric in first.cuts.values() for cut in cuts_of_metric if cut}
    columns = {column for item in first.measured for column in item.slices}
    comparison = compare(
        first.measured,
        second.measured,
        metrics,
        tuple(cut for cut in cuts if set(cut) <= columns),
        margin=config.margin,
        margins=task.margins,
        seed=config.seed,
        names=(subjects[0], subjects[1]),
        cluster=first.cluster,
        headlines=first.headlines,
    )
    against = {}
    for name, noise in second.noise.items():
        noise_before = first.noise.get(name)
        larger = max(
            [estimate for estimate in (noise, noise_before) if estimate is not None],
            key=lambda estimate: (estimate.value != estimate.value, estimate.value),
        )
        change = next(line.change.difference for line in comparison.primary if line.metric == name)
        against[name] = str(verdict_against_noise(change, larger))
    shares = tuple(metric for metric in metrics if metric.scale == "share")
    return Compared(task.name, comparison, flips(first.measured, second.measured, shares), against)


def common_scales(first: Sequence[Metric], second: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics that both results have, whoever is named first: a share only where each model's values say so (what a harness task measures is known from
    its values, and those of a model that is never right are all 0)."""
    real = {metric.name for metric in second if metric.scale == "real"}
    both = [metric for metric in first if any(metric.name == other.name for other in second)]
    return tuple(replace(metric, scale="real") if metric.name in real else metric for metric in both)
