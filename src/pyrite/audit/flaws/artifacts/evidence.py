"""What shows that labels can be guessed: the features that point at them, and how well a lazy model does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.artifacts.shortcuts import Cue, Surface, cue_line, features_of, find_cues
from pyrite.audit.flaws.artifacts.statistics import accuracies, fields_of, prepare, strongest, usable
from pyrite.audit.rows import Row


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """Which features point at which labels, how strongly, and how well a lazy model does."""
    places, surfaces, reference, names = seen_in(data, references)
    if not surfaces:
        return Evidence()
    features = features_of(measure, surfaces)
    cues = find_cues(surfaces, reference, features)[:20]
    lines = [cue_line(cue, names) for cue in with_overlap(measure, cues, surfaces, reference)]
    values: dict[str, Any] = {
        "labels": dict(sorted(Counter(surface.label for surface in surfaces).items())),
        "cues": [cue.as_json() for cue in cues],
    }
    if measure in ("hypothesis_only", "overlap_only"):
        pooled = [row for population in references.values() for row in population.rows]
        values |= {"data": lazy_accuracy(measure, data.rows), "references": lazy_accuracy(measure, pooled)}
        what = f"the words of the {names[-1][:24]} alone" if measure == "hypothesis_only" else "overlap alone"
        if values["data"]:
            lines.insert(0, accuracy_line(what, values["data"], values["references"]))
    strengths = strongest(surfaces, cues)
    worst = [at for at in np.argsort(-strengths, kind="stable")[:20].tolist() if strengths[at] > 0]
    rule = {"fields": list(names), "cues": values["cues"]} if cues else None
    return Evidence(tuple(lines), tuple(data.rows[places[at]].number for at in worst), values, rule)


def seen_in(
    data: Population, references: Mapping[str, Population]
) -> tuple[list[int], list[Surface], list[Surface], tuple[str, ...]]:
    """Places of the data's rows, what is seen of them and of the references pooled, and the names of their fields."""
    names = fields_of(data.rows)
    places, surfaces = usable(data.rows, names)
    return (
        places,
        surfaces,
        usable([row for population in references.values() for row in population.rows], names)[1],
        names,
    )


def with_overlap(
    measure: str, cues: Sequence[Cue], surfaces: Sequence[Surface], reference: Sequence[Surface]
) -> list[Cue]:
    """The cues to tell: for overlap, first that of all rows whose last field repeats words of the first only."""
    covered = find_cues(surfaces, reference, [("overlap", "covered")]) if measure.startswith("overlap") else []
    return [*covered[:1], *cues]


def lazy_accuracy(measure: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Accuracy on rows held out, and the share of the commonest label; None where it cannot be taken."""
    sample = prepare(rows)
    if sample is None or (measure == "overlap_only" and "overlap" not in sample.classes):
        return None
    counted = sample.words if measure == "hypothesis_only" else sample.classes["overlap"]
    accuracy, majority = accuracies(sample.labelled[:, None], counted, sample.folds)
    return {"accuracy": float(accuracy[0]), "majority": float(majority[0]), "n": len(sample.places)}


def accuracy_line(what: str, data: Mapping[str, Any], reference: Mapping[str, Any] | None) -> str:
    """Both accuracies as a line of evidence."""

    def shares(accuracy: Mapping[str, Any]) -> tuple[str, str]:
        return f"{100 * accuracy['accuracy']:.1f} %", f"{100 * accuracy['majority']:.1f} %"

    right, common = shares(data)
    beside = " (references {} and {})".format(*shares(reference)) if reference else ""
    return f"a model that sees {what} is right on {right} of rows, the commonest label on {common}{beside}"
