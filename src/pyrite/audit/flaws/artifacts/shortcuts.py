"""Shortcuts of labelled rows: features that need no reading for meaning, and those that point at a label.

A lazy reader does not read for meaning. It sees whether the last field repeats the first, how long the last field is,
whether there is a negation, and which words occur.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pyrite.audit.rows import Row
from pyrite.data.words import edge_pattern, written_words
from pyrite.synth.heuristics import is_negated

Array = np.ndarray[Any, Any]
Feature = tuple[str | int, ...]
"""What can be seen: ("overlap", "run"), ("length", 3, 7) (more than 3 words, up to 7), ("negation",), ("mismatch",)
(a negation in one field only), ("word", "sleeping")."""

WORDS = 512
"""Words that are counted, the commonest first."""
LONGEST = 100_000
"""Characters of a field that are read."""
LEAST = 10
"""Rows that must have a feature that is named."""
LIFT, MORE = 1.5, 1.25
"""Lift of a feature that is named; and how many times that of the references it must be."""
SURE = {"word": 4.0}
"""Standard errors by which a feature that is named must stand out; 3 where it is not one of hundreds."""

NEGATIONS_ELSEWHERE = frozenset(
    (
        *("नहीं", "नही", "मत", "बिना"),  # Hindi
        *("لا", "ليس", "ليست", "ليسوا", "لم", "لن", "ولا", "ولم", "ولن", "وليس", "بدون", "دون"),  # Arabic
        *("ไม่", "ไม่ใช่", "ไม่ได้", "ไม่มี", "ไม่เคย", "มิ", "มิได้", "ไร้", "ปราศจาก"),  # Thai
        *(
            "不",
            "不是",
            "不会",
            "不能",
            "不要",
            "不可",
            "不再",
            "不用",
            "不必",
            "并不",
            "从不",
            "绝不",
            "没",
            "没有",
            "从未",
            "未",
        ),
        *("無", "无", "勿", "沒", "沒有", "不會", "並不", "從不", "絕不", "從未", "毫无", "毫無"),  # Chinese
        *("ない", "なかった", "ません", "ませ", "ぬ", "なく", "なし"),  # Japanese
        *(
            "안",
            "못",
            "없다",
            "없는",
            "없이",
            "없습니다",
            "않는",
            "않다",
            "않은",
            "않습니다",
            "아니다",
            "아닌",
            "아닙니다",
        ),
        *("не", "нет", "ни", "никто", "ничего", "никогда", "нельзя", "без"),  # Russian
    )
)
"""Negations of some languages in other scripts than Latin."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A labelled row as a lazy reader sees it. `overlap`: of the last field's words, "none" stand in the first field,
    "some", "all", or all as one "run"; empty where there is one field. `longer`: by how many words the last field
    is."""

    label: str
    words: tuple[str, ...]
    unique: frozenset[str]
    overlap: str
    share: float
    longer: int
    negated: bool
    mismatch: bool


@dataclass(frozen=True, slots=True)
class Cue:
    """A feature that points at labels: `share` of the `rows` that have it carry one of `labels`, `elsewhere` of the
    rest.

    `lift` is their ratio, `z` how many standard errors the share stands above that of all rows, `reference_lift` the
    lift in the references, None where fewer than five of their rows have the feature.
    """

    feature: Feature
    labels: tuple[str, ...]
    rows: int
    share: float
    elsewhere: float
    lift: float
    z: float
    reference_lift: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain values; `cue_from` reads it back."""
        return {**asdict(self), "feature": list(self.feature), "labels": list(self.labels)}

    @property
    def strength(self) -> float:
        """0.5 where the feature says nothing, 1 where only rows that have it carry the label."""
        return self.lift / (1 + self.lift)


def folded_words(text: str) -> tuple[str, ...]:
    """Lower-cased words without punctuation at their ends.

    >>> folded_words("The dog's here, 日本!")
    ('the', "dog's", 'here', '日本')
    """
    edge = edge_pattern()
    stripped = (edge.sub("", word) for word in written_words(text.lower()))
    return tuple(word for word in stripped if word)


def negated_words(words: frozenset[str]) -> bool:
    """Is there a negation among lower-cased words?

    >>> negated_words(frozenset(["他", "不是", "老师"])), negated_words(frozenset(["notable"]))
    (True, False)
    """
    return is_negated(words) or not NEGATIONS_ELSEWHERE.isdisjoint(words)


def surface_of(row: Row) -> Surface:
    """What a lazy reader sees of a row with a label."""
    texts = [text[:LONGEST] for text in row.fields.values()]
    last = folded_words(texts[-1])
    unique = frozenset(last)
    if len(texts) < 2:
        return Surface(row.label or "", last, unique, "", 0.0, 0, negated_words(unique), False)
    first = folded_words(texts[0])
    first_words = frozenset(first)
    share = len(unique & first_words) / max(1, len(unique))
    overlap = "none" if share == 0 else "some" if share < 1 else "all"
    if overlap == "all" and f" {' '.join(last)} " in f" {' '.join(first)} ":
        overlap = "run"
    negated = negated_words(unique)
    return Surface(
        row.label or "",
        last,
        unique,
        overlap,
        share,
        len(last) - len(first),
        negated,
        negated != negated_words(first_words),
    )


def common_words(surfaces: Sequence[Surface]) -> list[str]:
    """The commonest words of the last fields, of those that stand in five rows or more."""
    counts = Counter(word for surface in surfaces for word in surface.unique)
    return sorted((word for word in counts if counts[word] >= 5), key=lambda word: (-counts[word], word))[:WORDS]


def edges_of(values: Sequence[float], bins: int) -> Array:
    """Upper ends of all bins but the last, which hold about as many values each; fewer where values repeat."""
    edges: Array = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="lower"))
    return edges[edges < max(values)]


def shows(surface: Surface, feature: Feature) -> bool:
    """Whether the row has the feature."""
    match feature:
        case ("overlap", "covered"):
            return surface.overlap in ("all", "run")
        case ("overlap", level):
            return surface.overlap == level
        case ("length", int(low), int(high)):
            return low < len(surface.words) <= high
        case ("negation",):
            return surface.negated
        case ("mismatch",):
            return surface.mismatch
        case ("word", word):
            return word in surface.unique
    return False


def features_of(measure: str, surfaces: Sequence[Surface]) -> list[Feature]:
    """The features that may stand behind a statistic of label artifacts."""
    overlap: list[Feature] = [("overlap", level) for level in ("run", "all", "none")]
    match measure:
        case "overlap_label":
            return overlap
        case "overlap_only":
            return [*overlap, ("mismatch",)]
        case "negation_label":
            return [("negation",)]
        case "length_label":
            lengths = [len(surface.words) for surface in surfaces]
            edges = [min(lengths) - 1, *(int(edge) for edge in edges_of(lengths, 5)), max(lengths)]
            return [("length", low, high) for low, high in pairwise(edges)]
        case _:
            return [("word", word) for word in common_words(surfaces)]


def having(surfaces: Sequence[Surface], feature: Feature) -> Array:
    """Which rows have the feature [rows], true or false."""
    if feature[0] == "word":
        return np.array([feature[1] in surface.unique for surface in surfaces], dtype=bool)
    return np.array([shows(surface, feature) for surface in surfaces], dtype=bool)


def labelled(surfaces: Sequence[Surface], labels: Sequence[str]) -> Array:
    """Which rows have one of the labels [rows], true or false."""
    return np.array([surface.label in labels for surface in surfaces], dtype=bool)


def score_cue(has_feature: Array, right: Array, feature: Feature, labels: tuple[str, ...]) -> Cue | None:
    """How strongly does a feature point at labels, where rows have the feature (`there`) and one of the labels
    (`right`)? None where all rows have the feature, or none."""
    n, m, k = len(has_feature), int(np.count_nonzero(has_feature)), int(np.count_nonzero(right))
    if not 0 < m < n:
        return None
    both = int(np.count_nonzero(has_feature & right))
    share, elsewhere, overall = both / m, (k - both) / (n - m), k / n
    spread = m * overall * (1 - overall) * (1 - m / n)
    z = (share - overall) * m / spread**0.5 if spread else 0.0
    return Cue(feature, labels, m, share, elsewhere, share / max(elsewhere, 1 / (n - m + 1)), z)


def find_cues(surfaces: Sequence[Surface], reference: Sequence[Surface], features: Sequence[Feature]) -> list[Cue]:
    """The features that point at a label, the surest first: at least ten rows have it, the label is 1.5 times as
    frequent among them as elsewhere, surely, and the lift is 1.25 times that in the references.

    That no word is shared points at every label but the one that overlap points at, where it does.
    """
    labels = sorted({surface.label for surface in surfaces})
    rights: dict[tuple[str, ...], Array] = {(label,): labelled(surfaces, [label]) for label in labels}
    cues: list[Cue] = []
    for feature in features:
        has_feature, aims = having(surfaces, feature), rights
        overlapping = [cue for cue in cues if cue.feature[0] == "overlap"]
        if feature == ("overlap", "none") and overlapping:
            best = max(overlapping, key=lambda cue: cue.z).labels
            rival_labels = tuple(label for label in labels if label not in best)
            aims = {rival_labels: labelled(surfaces, rival_labels)}
        for aim, right in aims.items():
            cue = score_cue(has_feature, right, feature, aim)
            if cue and cue.rows >= LEAST and cue.lift >= LIFT and cue.z >= SURE.get(str(feature[0]), 3.0):
                cue = with_reference_lift(cue, reference)
                cues += [cue] if cue.lift > MORE * (cue.reference_lift or 0) else []
    return sorted(cues, key=lambda cue: (-cue.z, str(cue.feature), cue.labels))


def with_reference_lift(cue: Cue, reference: Sequence[Surface]) -> Cue:
    """The cue with its lift in the references, where they have its labels."""
    right = labelled(reference, cue.labels)
    same = score_cue(having(reference, cue.feature), right, cue.feature, cue.labels) if right.any() else None
    return replace(cue, reference_lift=same.lift) if same and same.rows >= 5 else cue


def cue_from(values: Mapping[str, Any]) -> Cue:
    """The cue that `as_json` told."""
    return Cue(**{**values, "feature": tuple(values["feature"]), "labels": tuple(values["labels"])})


def whole_percent(share: float) -> str:
    """`72 %`, `0.4 %`."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1f} %"


def cue_line(cue: Cue, fields: Sequence[str]) -> str:
    """A cue as a line of evidence."""
    last, first = fields[-1][:24], fields[0][:24]
    match cue.feature:
        case ("overlap", "covered"):
            what = f"rows whose {last} repeats words of the {first} only"
        case ("overlap", "run"):
            what = f"rows whose {last} repeats a run of words of the {first}"
        case ("overlap", "all"):
            what = f"rows whose {last} has the {first}'s words in another order"
        case ("overlap", _):
            what = f"rows whose {last} shares no word with the {first}"
        case ("length", int(low), high):
            what = f"rows whose {last} has {high if low + 1 == high else f'{low + 1} to {high}'} words"
        case ("negation",):
            what = f"rows with a negation in the {last}"
        case ("mismatch",):
            what = "rows with a negation in one field only"
        case _:
            what = f"rows with “{str(cue.feature[1])[:40]}” in the {last}"
    lift = f"{cue.lift:.1f}" if cue.lift < 100 else "over 100"
    beside = "" if cue.reference_lift is None else f"; references {cue.reference_lift:.1f}"
    labels = " or ".join(label[:24] for label in cue.labels)
    share, elsewhere = whole_percent(cue.share), whole_percent(cue.elsewhere)
    return f"label {labels}: {share} of {cue.rows:,} {what}, {elsewhere} elsewhere (lift {lift}{beside})"
