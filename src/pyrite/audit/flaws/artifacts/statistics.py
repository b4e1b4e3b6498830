"""Annotation artifacts of labelled data: what a model could use instead of the meaning.

Annotation artifacts (Gururangan et al. 2018; McCoy et al. 2019): a label that follows from whether the last field
repeats the first, from its length, from a negation, from single words. Every value is counted from which rows with
which label are in a group, so that one function serves rows that change places (a difference between data and
references), labels that change places (the null of the data alone), and the data as they are.

Both classifiers are naive Bayes, over words or over classes of overlap: linear, and fitted by counting, so that they
can be fitted anew in thousands of draws. On 1,000 pairs of SNLI, with 512 words, it is as accurate as ridge regression
on a random projection to 200 dimensions. Rows whose last fields have the same words are held out together."""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Alone, Difference, Draws, Extras, Floats, Statistic
from pyrite.audit.flaws.artifacts.shortcuts import Cue, Surface, common_words, cue_from, edges_of, shows, surface_of
from pyrite.audit.rows import Row

Array = np.ndarray[Any, Any]
Split = np.ndarray[Any, np.dtype[np.float32]]
"""[labels, draws, rows], 0 or 1: which rows stand in a group under which label, in each draw."""
FOLDS = 5
LABELS = 8
"""Labels that are told apart, the commonest first; rows with others are not measured."""
LEAST = 10
"""Rows that a label must have."""
BINS = 8
CHUNK = 128

_MIX = (
    "Mix in rows that show the feature with other labels, or remove flagged rows until the lift is that of human data."
)
STATISTICS = tuple(
    Statistic("artifacts", name, question, unit, advice)
    for name, question, unit, advice in (
        ("overlap_label", "Does the label follow from whether the last field repeats the first?", "bits", _MIX),
        ("length_label", "Does the label follow from the length of the last field?", "bits", _MIX),
        ("negation_label", "Does the label follow from a negation in the last field?", "bits", _MIX),
        ("word_label", "Does a single word of the last field give the label away?", "standard errors", _MIX),
        (
            "hypothesis_only",
            "Can the label be told from the words of the last field alone?",
            "share",
            "Rewrite or remove flagged rows, and test any model trained on this data with all but the last field left out "
            "(arXiv 1805.01042).",
        ),
        (
            "overlap_only",
            "Can the label be told from overlap between the fields alone?",
            "share",
            "Balance labels within each class of overlap, and test any model trained on this data where overlap misleads "
            "(for English NLI: HANS, arXiv 1902.01007).",
        ),
    )
)
BY_NAME = {measure.name: measure for measure in STATISTICS}


@dataclass(frozen=True)
class Sample:
    """The rows that can be measured: their `places`, labels [labels, rows], words [rows, words], classes of each
    feature [rows, classes], and the fold in which each is held out."""

    places: Array
    labels: tuple[str, ...]
    labelled: Split
    words: Array
    classes: Mapping[str, Array]
    folds: Array

    def split(self, draws: Draws) -> Split:
        """Groups of rows, by label."""
        return self.labelled[:, None, :] * draws[:, self.places][None]


def fields_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names of the fields that most labelled rows have; empty where no row is labelled."""
    counts = Counter(tuple(row.fields) for row in rows if row.label is not None and row.fields)
    return min(counts, key=lambda names: (-counts[names], names)) if counts else ()


def usable(rows: Sequence[Row], names: Sequence[str]) -> tuple[list[int], list[Surface]]:
    """Places of the rows that have a label, one of the commonest, and these fields; and what is seen of them."""
    places = [
        at for at, row in enumerate(rows) if row.label is not None and names and tuple(row.fields) == tuple(names)
    ]
    counts = Counter(str(rows[at].label) for at in places)
    common = sorted((label for label in counts if counts[label] >= LEAST), key=lambda label: (-counts[label], label))
    places = [at for at in places if rows[at].label in common[:LABELS]] if len(common) > 1 else []
    return places, [surface_of(rows[at]) for at in places]


def prepare(rows: Sequence[Row]) -> Sample | None:
    """Everything that is counted later; None where fewer than two labels can be told apart."""
    places, surfaces = usable(rows, fields_of(rows))
    if not surfaces:
        return None
    labels = tuple(sorted({surface.label for surface in surfaces}))
    ids = {label: at for at, label in enumerate(labels)}
    columns = {word: at for at, word in enumerate(common_words(surfaces))}
    words = np.zeros((len(surfaces), len(columns)), dtype=np.float32)
    for line, surface in zip(words, surfaces, strict=True):
        line[[columns[word] for word in surface.unique if word in columns]] = 1
    labelled = one_hot(np.array([ids[surface.label] for surface in surfaces]), len(labels)).T
    folds = np.array([zlib.crc32(" ".join(surface.words).encode("utf-8", "replace")) % FOLDS for surface in surfaces])
    return Sample(np.array(places), labels, np.ascontiguousarray(labelled), words, classes_of(surfaces), folds)


def classes_of(surfaces: Sequence[Surface]) -> dict[str, Array]:
    """For each feature, in which of its classes a row is [rows, classes].

    `overlap` has three features side by side: how much of the last field stands in the first (nothing, four classes of
    shares, all, all in one run), by how many words it is longer, and in which field alone there is a negation.
    """
    classes = {
        "length": binned([len(surface.words) for surface in surfaces]),
        "negation": one_hot(np.array([surface.negated for surface in surfaces], dtype=int), 2),
    }
    if surfaces[0].overlap:
        level = np.array([("none", "all", "run", "some").index(surface.overlap) for surface in surfaces])
        classes |= {"covered": one_hot(((level == 1) | (level == 2)).astype(int), 2)}
        classes |= {"run": one_hot((level == 2).astype(int), 2)}
        shares = np.array([surface.share for surface in surfaces])
        edges = edges_of(shares[level == 3], 4) if (level == 3).any() else np.empty(0)
        level += np.where(level == 3, np.searchsorted(edges, shares, side="left"), 0)
        mismatch = np.array([surface.mismatch * (1 + surface.negated) for surface in surfaces], dtype=int)
        longer = binned([surface.longer for surface in surfaces], 4)
        classes["overlap"] = np.hstack([one_hot(level, 4 + len(edges)), longer, one_hot(mismatch, 3)])
    return classes


def one_hot(ids: Array, n: int) -> Array:
    """[rows, n], 1 where a row is of the class."""
    rows_by_class: Array = np.eye(n, dtype=np.float32)[ids]
    return rows_by_class


def binned(values: Sequence[float], bins: int = BINS) -> Array:
    """Classes of a number, cut at quantiles [rows, classes]."""
    edges = edges_of(values, bins)
    return one_hot(np.searchsorted(edges, values, side="left"), len(edges) + 1)


def information(split: Split, classes: Array) -> Floats:
    """Mutual information of a row's class and its label, in bits, for each draw."""
    joint = (split @ classes).astype(np.float64)
    joint /= np.maximum(joint.sum((0, 2), keepdims=True), 1)

    def entropy(share: Floats) -> Floats:
        terms: Floats = -share * np.log2(np.where(share > 0, share, 1))
        return terms

    of_label, of_class = entropy(joint.sum(2)).sum(0), entropy(joint.sum(0)).sum(1)
    bits: Floats = of_label + of_class - entropy(joint).sum((0, 2))
    return np.maximum(bits, 0)


def association(split: Split, words: Array) -> Floats:
    """How far the word with the strongest lean to a label stands out, in standard errors, for each draw.

    The number of a word's rows with a label against what chance gives (hypergeometric mean and variance), over words
    that stand in 1 % of the rows and in five at least; 0 where there is none.
    """
    n_label = split.sum(2)[..., None]
    n = np.maximum(n_label.sum(0), 1)
    joint = split @ words
    with_word = joint.sum(0)
    share = n_label / n
    chance = with_word * (1 - with_word / n)
    spread = chance * share * (1 - share)
    z = (joint - with_word * share) / np.sqrt(np.where(spread > 0, spread, np.inf))
    z = np.where(with_word >= np.maximum(5, n / 100), z, 0)
    largest: Floats = z.max((0, 2), initial=0).astype(np.float64)
    return largest


def accuracies(split: Split, counted: Array, folds: Array) -> tuple[Floats, Floats]:
    """Accuracy of naive Bayes on rows held out, and of the commonest label, as shares for each draw.

    Multinomial naive Bayes with one added to every count (Manning, Raghavan and Schütze 2008, section 13.2); words are
    counted once in a row.
    """
    held = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    inside = [split[:, :, rows] for rows in held]
    counts = [held_out @ counted[rows] for held_out, rows in zip(inside, held, strict=True)]
    total, n_label = np.sum(counts, axis=0), split.sum(2)
    right = np.zeros(split.shape[1])
    for held_out, count, rows in zip(inside, counts, held, strict=True):
        train = total - count + 1
        weights = np.log(train / train.sum(2, keepdims=True)) if counted.shape[1] else train
        scores = weights @ counted[rows].T + np.log(n_label - held_out.sum(2) + 1)[..., None]
        right += np.take_along_axis(held_out, scores.argmax(0)[None], 0).sum((0, 2))
    n = np.maximum(n_label.sum(0), 1)
    return right / n, (n_label.max(0) / n).astype(np.float64)


def statistics(sample: Sample) -> dict[str, Callable[[Split], Floats]]:
    """What is taken of a group, for each measure that can be; those of overlap need two fields."""
    classes = sample.classes

    def gain(split: Split, counted: Array) -> Floats:
        accuracy, majority = accuracies(split, counted, sample.folds)
        return accuracy - majority

    by_name: dict[str, Callable[[Split], Floats]] = {
        "length_label": lambda split: information(split, classes["length"]),
        "negation_label": lambda split: information(split, classes["negation"]),
        "word_label": lambda split: association(split, sample.words),
        "hypothesis_only": lambda split: gain(split, sample.words),
    }
    if "overlap" in classes:
        by_name["overlap_label"] = lambda split: np.maximum(
            information(split, classes["covered"]), information(split, classes["run"])
        )
        by_name["overlap_only"] = lambda split: gain(split, classes["overlap"])
    return {name: by_name[name] for name in BY_NAME if name in by_name}


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """Each measure of one group minus that of the other; none where fewer than two labels can be told apart."""
    sample = prepare(rows)
    if sample is None:
        return []
    places = sample.places.tolist()

    def difference(name: str, value: Callable[[Split], Floats]) -> Difference:
        return Difference(BY_NAME[name], lambda a, b: value(sample.split(a)) - value(sample.split(b)), places)

    return [difference(name, value) for name, value in statistics(sample).items()]


def alone(rows: Sequence[Row], extras: Extras) -> list[Alone]:
    """Each measure of the data, and its values with the rows' labels shuffled, `extras.permutations` times."""
    sample = prepare(rows)
    if sample is None:
        return []
    rng = np.random.default_rng([extras.seed, 61])
    n, ids = len(sample.places), sample.labelled.argmax(0)
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics(sample)}
    for first in range(0, extras.permutations, CHUNK):
        orders = rng.permuted(np.tile(ids, (min(CHUNK, extras.permutations - first), 1)), axis=1)
        split = (orders[None] == np.arange(len(sample.labels))[:, None, None]).astype(np.float32)
        for name, value in statistics(sample).items():
            drawn[name].append(value(split))
    observed = {name: float(value(sample.labelled[:, None])[0]) for name, value in statistics(sample).items()}
    return [Alone(BY_NAME[name], observed[name], np.concatenate(null), n) for name, null in drawn.items()]


def strongest(surfaces: Sequence[Surface], cues: Sequence[Cue]) -> Array:
    """For each row, the strength of the strongest cue that points at its own label [rows]; 0 where none does."""
    strengths = np.zeros(len(surfaces), dtype=np.float32)
    for at, surface in enumerate(surfaces):
        strengths[at] = max(
            (cue.strength for cue in cues if surface.label in cue.labels and shows(surface, cue.feature)), default=0
        )
    return strengths


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """How strongly each row shows a feature together with a label that it gives away: lift / (1 + lift)."""
    scores = {}
    for name, rule in rules.items():
        scores[name] = np.zeros(len(rows), dtype=np.float32)
        names = tuple(rule["fields"])
        places = [at for at, row in enumerate(rows) if row.label is not None and tuple(row.fields) == names]
        scores[name][places] = strongest(
            [surface_of(rows[at]) for at in places], [cue_from(cue) for cue in rule["cues"]]
        )
    return scores


def lacking_labels(rows: Sequence[Row], extras: Extras) -> dict[str, str]:
    """What keeps these rows from being measured: text fields, labels, or two labels with enough rows."""
    names = fields_of(rows)
    if not any(row.fields for row in rows):
        why = (
            "no row has text fields with a label: name them with --text-fields, and the label with --columns label=NAME"
        )
    elif not names:
        why = "no row has a label: name its column with --columns label=NAME"
    elif not usable(rows, names)[0]:
        why = f"fewer than two labels have {LEAST} sampled rows each"
    else:
        only = "the rows have one text field: overlap needs two (--text-fields)"
        return dict.fromkeys(("overlap_label", "overlap_only"), only) if len(names) < 2 else {}
    return dict.fromkeys(BY_NAME, why)
