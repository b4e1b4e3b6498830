"""The same answers get the same estimate and interval from a study, a probe, a repair's scorecard and a gate."""

import numpy as np
import pytest

from pyrite.probe import gate as gating
from pyrite.probe.probe_task import Result
from pyrite.probe.result import scorecard
from pyrite.records import Labelled
from pyrite.study.cells import CellKey
from pyrite.study.label_probes import LabelProbe
from pyrite.study.load import parse_spec
from pyrite.study.scores import scores_of_labels
from pyrite.study.tables import results_table
from pyrite.tasks import HANS
from pyrite.tasks.scoring import Task, from_labels, label_metrics

SPEC = """\
study: s
labels: [entailment, neutral, contradiction]
task_model: {model: packaged:minilm-l6}
data: {h: {files: [x.csv]}}
starts: {raw: {}}
arms: {human: {mix: {h: 1}}}
sizes: [4]
probes: {general: {task: hans, file: hans.jsonl}}
"""


class Asked:
    """What a scorecard must know of a task."""

    name, source = "hans", "hans.jsonl"


@pytest.mark.parametrize("template", ["template", None])
def test_the_same_answers_have_the_same_interval_wherever_they_are_scored(template: str | None) -> None:
    """300 items in 30 templates, three of which are almost always wrong: templates are resampled where the task has them, and
    Wilson's interval is given where items share nothing. (Studies once gave Wilson's for both.)"""
    task = HANS if template else Task("hans", HANS.labels, merge=HANS.merge, slices=HANS.slices)
    rng = np.random.default_rng(0)
    items, answers = [], {}
    for at in range(300):
        group = at % 30
        gold = ("entailment", "non-entailment")[group % 2]
        meta = {"template": f"t{group}", "heuristic": "h", "subcase": "s"}
        items.append(Labelled({"premise": "a", "hypothesis": str(at)}, gold, f"i{at}", meta))
        right = rng.random() < (0.1 if group in (0, 1, 2) else 0.9)
        answers[f"i{at}"] = gold if right else {"entailment": "non-entailment"}.get(gold, "entailment")
    scores = from_labels(items, answers, task)
    metrics, cluster = label_metrics(task), "templates" if template else "groups"
    result = Result(scores, metrics, {"accuracy": ((), *task.slices)}, cluster)
    card = scorecard("model", Asked(), result, 0)  # type: ignore[arg-type]
    of_probe = {(line.metric, line.values): line.estimate for line in card.lines}
    probe = LabelProbe.of("general", items, task, {})
    rows = results_table(scores_of_labels(CellKey("start", "raw"), 0, probe, answers), parse_spec(SPEC, "s.yaml"))
    overall = next(row for row in rows if row["by"] == "overall")
    estimate = of_probe["accuracy", ()]
    assert (overall["value"], overall["low"], overall["high"], overall["method"]) == (
        estimate.value, estimate.low, estimate.high, estimate.method,
    )  # fmt: skip
    assert len(rows) == len(card.lines)
    for row, line in zip(rows, card.lines, strict=True):
        assert (row["value"], row["low"], row["high"]) == (line.estimate.value, line.estimate.low, line.estimate.high)
    known = {"hans": gating.Measurements(metrics, scores)}
    asked = gating.check_gate(gating.parse("hans.accuracy >= 0.5"), known, seed=0, cluster=cluster)
    assert asked.estimate is not None
    assert (asked.estimate["low"], asked.estimate["high"]) == (estimate.low, estimate.high)
    assert ("templates" in estimate.method) == (template is not None)
    assert ("Wilson" in estimate.method) == (template is None)
