"""Duplicates: rows that hold the same words as another row, nearly the same, or say the same in other words.

A row has two sides (`Row.parts`): what was asked, without the system text, and the answers; of labelled rows the fields
before the last, and the last. A copy has both in common. Sides are compared as words (`pyrite.audit.word_hashes.words`):
case, white space and punctuation make no difference. Two rows are *exact* duplicates if the words of both sides are the
same; *near* ones if they are not, but the Jaccard similarity of their sets of word trigrams is at least `NEAR`, and each
side is at least half alike by itself (`pyrite.audit.minhash`; rows of fewer than five words take no part); *semantic* ones
if the embeddings of both sides have a cosine of at least `CLOSE` and they are neither, nor joined by a chain of
near-duplicates.

On the whole data set, pairs are found by MinHash and confirmed by the sketch alone (see `pyrite.audit.minhash` for its
error: a pair of similarity 0.7 is confirmed about every other time, one of 0.8 nearly always); on the sample, the words
of candidates are compared. Clusters are chains of near-duplicates. Copies of one text are one text to the near search,
and a text is compared with a bounded number of others in each band, so that no data costs quadratic time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit import copy_clusters, minhash, sketch_files, word_hashes
from pyrite.audit.flaw import Alone, DataKind, Difference, Draws, Extras, Floats, SideEmbeddings, Statistic
from pyrite.audit.minhash import BANDS, NEAR
from pyrite.audit.rows import Row
from pyrite.audit.sketch_files import CHUNK
from pyrite.audit.word_hashes import Array
from pyrite.audit.wording import UNKNOWN_WORDS

CLOSE = 0.95
"""Cosine from which two rows say the same."""
FEW = 0.01
"""Share of copies that is a warning where there is no reference to compare with."""
PARTNERS = 32
"""So many partners of a row, the most alike, are kept for the draws of the null."""
EXACT_AT_MOST = 100_000
"""Of more candidate pairs in the sample, the sketches decide, not the trigram sets."""

_REMOVE = "Keep one row of each group (`--clean` does)."
_BY_KIND: Mapping[DataKind, str] = {
    "labelled": "Keep one row of each group (`--clean` does), and look first whether their labels agree."
}
EXACT = Statistic(
    "duplicates", "exact", "Do rows repeat other rows word for word?", "share", _REMOVE, advice_by_kind=_BY_KIND
)
NEARLY = Statistic(
    "duplicates",
    "near",
    "Are rows nearly the same as other rows?",
    "share",
    _REMOVE,
    advice_by_kind=_BY_KIND,
    definition=2,  # 1: both sides as one text; what is a copy now was one then
    wider=(1,),
)
SEMANTIC = Statistic(
    "duplicates",
    "semantic",
    "Do rows say the same as other rows in other words?",
    "share",
    "Ask the generator for more varied tasks, and keep one row of each group.",
    definition=2,  # 1: whole prompts, and near copies by their first definition left out
)
AGAINST = Statistic(
    "duplicates",
    "against_reference",
    "Are rows copies of the reference?",
    "share",
    "Take the copies out of the data, or another reference: a comparison with one's own copies shows no flaw.",
)
STATISTICS = (EXACT, NEARLY, SEMANTIC, AGAINST)


@dataclass(frozen=True)
class SamplePairs:
    """Pairs of a sample. `text_of` [rows]: each row's text, by number; `near`: pairs of texts with their similarity;
    `cluster_of` [texts]; `semantic`: pairs of rows with their cosine, None without embeddings."""

    text_of: Array
    near: tuple[Array, Array, Floats]
    cluster_of: Array
    semantic: tuple[Array, Array, Floats] | None


def find_pairs(rows: Sequence[Row], embeddings: SideEmbeddings | None) -> SamplePairs:
    """All kinds of pairs among these rows; `embeddings` of both sides of all rows."""
    sides = [row.parts for row in rows]
    sketches = minhash.sketches([answered for _, answered in sides], [asked for asked, _ in sides])
    _, first, text_of = np.unique(sketches.keys, return_index=True, return_inverse=True)
    near = _near_pairs([sides[at] for at in first], sketches, first)
    cluster_of = np.arange(len(first))
    if len(near[0]):
        copy_clusters.unite(cluster_of, near[0], near[1])
    semantic = None if embeddings is None else _semantic_pairs(embeddings, cluster_of[text_of])
    return SamplePairs(text_of, near, cluster_of, semantic)


def _near_pairs(
    texts: Sequence[tuple[str, str]], sketches: minhash.Sketches, first: Array
) -> tuple[Array, Array, Floats]:
    """Pairs of texts (both sides of a row) that are alike; of very many candidates those that sketches confirm."""
    long = np.flatnonzero(sketches.long[first])
    codes = [np.empty(0, dtype=np.int64)]
    for band in range(BANDS):
        band_hashes, following = sketches.bands[first[long], band], sketches.nexts[first[long], band]
        order, keys = minhash.band_order(band_hashes, following, long)
        for left, right in minhash.neighbours(keys):
            ends = np.sort([long[order[left]], long[order[right]]], axis=0)
            codes.append(ends[0] * len(texts) + ends[1])
    pairs = np.unique(np.concatenate(codes))
    a, b = pairs // max(1, len(texts)), pairs % max(1, len(texts))
    signatures = sketches.signatures[first]
    chunks = range(0, len(a), CHUNK)
    agreeing = [minhash.agreement(signatures[a[at : at + CHUNK]], signatures[b[at : at + CHUNK]]) for at in chunks]
    values = minhash.jaccard(np.concatenate([np.empty(0), *agreeing]))
    likely = values >= NEAR - 3 * (NEAR * (1 - NEAR) / minhash.SLOTS) ** 0.5
    a, b, values = a[likely], b[likely], values[likely]
    if len(a) <= EXACT_AT_MOST:
        sets = {at: word_hashes.trigrams(_words_of(*texts[at])) for at in np.unique([a, b]).tolist()}
        values = np.array([jaccard_of(sets[x], sets[y]) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    near = values >= NEAR
    a, b, values = a[near], b[near], values[near]
    alike = _sides_alike(texts, sketches, first, a, b)
    return a[alike], b[alike], values[alike]


def _words_of(asked: str, answered: str) -> list[bytes]:
    prompt_words = [word for sentence in minhash.prompt_sentences(asked) for word in sentence] if asked else []
    return prompt_words + word_hashes.words(answered)


def _sides_alike(
    texts: Sequence[tuple[str, str]], sketched: minhash.Sketches, first: Array, a: Array, b: Array
) -> Array:
    """Whether both sides of pairs of texts are alike by themselves [pairs]."""
    alike = np.ones(len(a), dtype=bool)
    if len(a) > EXACT_AT_MOST:
        for at in range(0, len(a), sketch_files.PAIRS_AT_ONCE):
            some = slice(at, at + sketch_files.PAIRS_AT_ONCE)
            ours, theirs = first[a[some]], first[b[some]]
            prompts = sketched.prompts.padded(ours), sketched.prompts.padded(theirs)
            alike[some] = minhash.sides_alike(*prompts, sketched.answers[ours], sketched.answers[theirs])
        return alike
    for number, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        (asked, answered), (other_asked, other_answered) = texts[x], texts[y]
        if asked and other_asked:
            alike[number] = minhash.same_answers(answered, other_answered) and (
                asked == other_asked or minhash.same_prompts(asked, other_asked)
            )
    return alike


def first_rows(embeddings: SideEmbeddings | None, count: int, start: int = 0) -> SideEmbeddings | None:
    """The embeddings of so many rows from a place on."""
    if embeddings is None:
        return None
    asked, answered = embeddings
    return asked[start : start + count], answered[start : start + count]


def jaccard_of(a: Array, b: Array) -> float:
    """The Jaccard similarity of two sets of hashes, each hash once."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _semantic_pairs(embeddings: SideEmbeddings, clusters: Array) -> tuple[Array, Array, Floats]:
    """Of each row, the rows of other clusters that are closest in the side in which they are less alike (at most
    `PARTNERS`). A row with a prompt is never close to one without."""
    asked, answered = embeddings
    bare = ~np.asarray(asked.any(axis=1))
    chunks: list[tuple[Array, Array, Floats]] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for at in range(0, len(answered), 512):
        close = answered[at : at + 512] @ answered.T
        both_bare = bare[at : at + 512, None] & bare
        close = np.minimum(close, np.where(both_bare, 1, asked[at : at + 512] @ asked.T))
        close[clusters[at : at + 512, None] == clusters] = -1
        columns = np.argpartition(-close, min(PARTNERS, close.shape[1]) - 1, axis=1)[:, :PARTNERS]
        a, nth = np.nonzero(np.take_along_axis(close, columns, axis=1) >= CLOSE)
        b = columns[a, nth]
        chunks.append((a + at, b, close[a, b].astype(np.float64)))
    a, b, values = (np.concatenate(column) for column in zip(*chunks, strict=True))
    return a, b, values


def _closest(a: Array, b: Array, values: Floats) -> tuple[Array, Array, Floats]:
    """Of each a, the b of the largest values, at most `PARTNERS`."""
    order = np.lexsort((b, -values, a))
    a, b, values = a[order], b[order], values[order]
    rank = np.arange(len(a)) - np.searchsorted(a, a)
    closest = rank < PARTNERS
    return a[closest], b[closest], values[closest]


def differences(rows: Sequence[Row], extras: Extras) -> list[Difference]:
    """Of each group, the share of rows that have a partner in the same group, data minus references."""
    pairs = find_pairs(rows, extras.side_embeddings)
    a, b, values = pairs.near
    both = _closest(np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([values, values]))
    differences = [
        Difference(EXACT, share_difference(_in_same_text(pairs.text_of))),
        Difference(NEARLY, share_difference(_with_partner(pairs.text_of, both[0], both[1]))),
    ]
    if pairs.semantic is not None:
        places = np.arange(len(rows))
        differences.append(Difference(SEMANTIC, share_difference(_with_partner(places, *pairs.semantic[:2]))))
    return differences


def share_difference(share: Callable[[Draws], Floats]) -> Callable[[Draws, Draws], Floats]:
    """A share of a group's rows, a's less b's."""
    return lambda a, b: share(a) - share(b)


def _in_same_text(text_of: Array) -> Callable[[Draws], Floats]:
    """The share of a group's rows whose text another row of the group has."""
    from scipy.sparse import csr_array

    times = np.bincount(text_of, minlength=1)
    rows = np.flatnonzero(times[text_of] > 1)
    names, columns = np.unique(text_of[rows], return_inverse=True)
    members = csr_array((np.ones(len(rows), np.float32), (columns, rows)), shape=(len(names), len(text_of)))

    def share(group: Draws) -> Floats:
        counts = members @ group.T
        values: Floats = np.where(counts > 1, counts, 0).sum(0, dtype=np.float64) / group.sum(1)
        return values

    return share


def _with_partner(node_of: Array, a: Array, b: Array) -> Callable[[Draws], Floats]:
    """The share of a group's rows whose node (text) has a partner that is in the group too; b is a partner of a."""
    from scipy.sparse import csr_array

    names = np.unique(np.concatenate([a, b]))
    rows = np.flatnonzero(np.isin(node_of, names))
    columns = np.searchsorted(names, node_of[rows])
    members = csr_array((np.ones(len(rows), np.float32), (columns, rows)), shape=(len(names), len(node_of)))
    ends = np.searchsorted(names, a), np.searchsorted(names, b)
    partners = csr_array((np.ones(len(a), np.float32), ends), shape=(len(names), len(names)))

    def share(group: Draws) -> Floats:
        counts = members @ group.T
        values: Floats = np.where(partners @ counts > 0, counts, 0).sum(0, dtype=np.float64) / group.sum(1)
        return values

    return share


def alone_from_totals(totals: Mapping[str, Any]) -> list[Alone]:
    """Without a null: a share of copies in the whole data set above `FEW` is a warning. Intervals are Wilson's."""
    from pyrite.stats.intervals import wilson

    measured = []
    for measure in (EXACT, NEARLY, AGAINST):
        if measure.name in totals:
            share = wilson(totals[measure.name]["rows"], totals["rows"])
            measured.append(Alone(measure, share.value, None, totals["rows"], FEW, share.low, share.high))
    return measured


def alone(rows: Sequence[Row], extras: Extras) -> list[Alone]:
    """Semantic duplicates in the sample, which `merge` does not know; the others are told by `alone_from_totals`."""
    from pyrite.stats.intervals import wilson

    if extras.side_embeddings is None or not rows:
        return []
    semantic = find_pairs(rows, first_rows(extras.side_embeddings, len(rows))).semantic
    assert semantic is not None
    share = wilson(len(np.unique(semantic[0])), len(rows))
    return [Alone(SEMANTIC, share.value, None, len(rows), FEW, share.low, share.high)]


MARKED = {"exact": ("exact_of.npy", 1.0), "near": ("copy_of.npy", 1.0), "against_reference": ("reference_of.npy", 0.9)}


def flag_scores(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """1 for a row that is a copy of an earlier one, so that the rest holds one row of each group; 0.9 for a copy of a
    reference row. `near` marks exact copies too. Without a folder copies are looked for among these rows; of semantic
    copies only those of the sample are known."""
    numbers = np.array([row.number for row in rows], dtype=np.int64)
    scores = {name: np.zeros(len(rows), dtype=np.float32) for name in rules}
    pairs = None
    for name, rule in rules.items():
        if name == SEMANTIC.name:
            scores[name][np.isin(numbers, np.array(rule.get("numbers", ()), dtype=np.int64))] = 1
        elif folder is not None and (folder / MARKED[name][0]).exists():
            of = np.load(folder / MARKED[name][0], mmap_mode="r", allow_pickle=False)[numbers]
            scores[name][of >= 0 if name == AGAINST.name else of != numbers] = MARKED[name][1]
        elif name != AGAINST.name:
            pairs = pairs or find_pairs(rows, None)
            root = pairs.text_of if name == EXACT.name else pairs.cluster_of[pairs.text_of]
            first = np.unique(root, return_index=True)[1]
            scores[name][np.setdiff1d(np.arange(len(rows)), first)] = 1
    return scores


def lacking_embeddings(rows: Sequence[Row], extras: Extras) -> dict[str, str]:
    """What keeps these rows from being measured: an embedder that does not know their words."""
    return {SEMANTIC.name: UNKNOWN_WORDS} if extras.side_embeddings is None else {}
