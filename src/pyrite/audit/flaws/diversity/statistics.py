"""Do the answers say as many different things as people's do? Word n-grams within rows, across rows, and compression.

Words are lower-case runs of letters and digits, a CJK sign being a word of its own. Words and n-grams are known by 64-bit
hashes (two of a million n-grams are taken for one with probability below 1e-7).
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Contrast, Draws, Extras, Floats, Measure
from pyrite.audit.rows import Row

Array = np.ndarray[Any, Any]

DISTINCT_2 = Measure(
    "diversity", "distinct_2", "Are fewer of the word pairs different than in the references?", "share",
    "Vary what the generator is asked for (topics, personas, seeds), or raise its temperature.",
)  # fmt: skip
DISTINCT_3 = Measure(
    "diversity", "distinct_3", "Are fewer of the word triples different than in the references?", "share",
    "Vary what the generator is asked for (topics, personas, seeds), or raise its temperature.",
)  # fmt: skip
CROSS_ROW = Measure(
    "diversity", "cross_row_repetition", "Do answers share more of their five-word stretches than in the references?",
    "share", "Drop rows that repeat other rows' sentences, or ask the generator not to reuse them.",
)  # fmt: skip
NOVELTY = Measure(
    "diversity", "novelty", "Do the data's four-word stretches stand in the references already?", "share",
    "Add rows on subjects that the references leave out; what is there says little that is new.",
)  # fmt: skip
SELF = Measure(
    "diversity", "self_repetition", "Do answers repeat themselves more than in the references?", "share",
    "Drop the rows that loop, and set a repetition penalty or a shorter limit at generation.",
)  # fmt: skip
MEASURES: tuple[Measure, ...] = (DISTINCT_2, DISTINCT_3, CROSS_ROW, NOVELTY, SELF)

FIRST = 60
"""Words of an answer that `distinct_2` and `distinct_3` look at, so that lengths matter little."""
LONGEST = 20_000
"""Words of an answer that anything here looks at; compression looks at its first megabyte."""
CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
CACHE = 1_000_000
"""Distinct words kept; then the cache begins anew."""
BLOCK = 1_000_000
"""Bytes that are compressed at a time."""
LEVEL = 3
LG_K = 14
"""HyperLogLog registers (2^14) of a sketch."""
BINS = 1000
"""Bins of per-row self-repetition, 0 to 1."""
ABOVE = 0.3
"""The least self-repetition for which a row is marked."""
ODD = np.random.default_rng(4).integers(0, 2**63, 5, dtype=np.uint64) * 2 + 1
"""Odd multipliers, one for each place of an n-gram."""


class _Hashes(dict[str, int]):
    """A word's 64-bit hash, worked out once."""

    def __missing__(self, word: str) -> int:
        made = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = made
        return made


@dataclass(frozen=True)
class Words:
    """The words of some texts as hashes: `flat` [words] uint64, and each text's bounds [texts + 1]."""

    flat: Array
    bounds: Array

    def grams(self, n: int, first: int | None = None) -> tuple[Array, Array]:
        """All n-grams (hashes), and the text that each stands in; of the first so many words of each text."""
        lengths = np.diff(self.bounds)
        if first is not None:
            lengths = np.minimum(lengths, first)
        many = np.maximum(lengths - (n - 1), 0)
        text = np.repeat(np.arange(len(many)), many)
        done = np.cumsum(many) - many
        at = np.arange(len(text)) - np.repeat(done, many) + np.repeat(self.bounds[:-1], many)
        made = np.zeros(len(text), dtype=np.uint64)
        for step in range(n):
            made += self.flat[at + step] * ODD[step]
        return made ^ (made >> np.uint64(29)), text


def words_of(texts: Sequence[str], cache: _Hashes | None = None) -> Words:
    """The texts' words."""
    number = (cache if cache is not None else _Hashes()).__getitem__
    made = [np.fromiter(map(number, words_in(text)), np.uint64) for text in texts]
    return Words(np.concatenate(made) if made else np.empty(0, np.uint64), np.cumsum([0, *(len(one) for one in made)]))


def words_in(text: str) -> list[str]:
    """The words of a text, the first `LONGEST`."""
    return WORD.findall(text[: 40 * LONGEST].lower())[:LONGEST]


def self_repetition(words: Words) -> tuple[Array, Array]:
    """What share of each text's 4-grams stood in the text before? [texts] fp32, and how many 4-grams it has."""
    grams, text = words.grams(4)
    count = np.bincount(text, minlength=len(words.bounds) - 1)
    order = np.lexsort((grams, text))
    grams, text = grams[order], text[order]
    again = (grams[1:] == grams[:-1]) & (text[1:] == text[:-1])
    repeats = np.bincount(text[1:][again], minlength=len(count))
    return np.where(count > 0, repeats / np.maximum(count, 1), np.nan).astype(np.float32), count


class Stream:
    """Per row: self-repetition and how well its text compresses. Over all rows: distinct n-grams, compression."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        from datasketches import hll_sketch, tgt_hll_type
        from zstandard import ZstdCompressor

        self.folder = folder
        self.cache = _Hashes()
        self.sketches = {n: hll_sketch(LG_K, tgt_hll_type.HLL_8) for n in (2, 3)}
        self.squeeze = ZstdCompressor(level=LEVEL).compress
        self.waiting = bytearray()
        self.told = {"rows": 0, "words": 0, "grams_2": 0, "grams_3": 0, "bytes": 0, "squeezed": 0}
        self.bins = np.zeros(BINS + 1, dtype=np.int64)

    def add(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        """Returns `diversity_self_repetition` (share of the answer's 4-grams that stood in it before; nan without one)
        and `diversity_compression` (bytes over bytes after zlib, level 6; nan for an empty answer), both fp32."""
        if len(self.cache) > CACHE:
            self.cache = _Hashes()
        texts = [row.answer for row in rows]
        raw = [text.encode("utf-8", "replace") for text in texts]
        words = words_of(texts, self.cache)
        repeated, _ = self_repetition(words)
        known = repeated[~np.isnan(repeated)]
        self.bins += np.bincount(np.rint(known * BINS).astype(np.int64), minlength=BINS + 1)
        self.told["rows"] += len(rows)
        self.told["words"] += len(words.flat)
        for n, sketch in self.sketches.items():
            grams, _ = words.grams(n, FIRST)
            self.told[f"grams_{n}"] += len(grams)
            for one in np.unique(grams.view(np.int64)).tolist():
                sketch.update(one)
        for one in raw:
            self.waiting += one + b"\n"
            self.compress(BLOCK)
        ratio = [len(one) / len(zlib.compress(one, 6)) if one else np.nan for one in (full[:BLOCK] for full in raw)]
        return {"diversity_self_repetition": repeated, "diversity_compression": np.array(ratio, dtype=np.float32)}

    def compress(self, least: int) -> None:
        """Compress whole blocks of what is waiting, as long as there are so many bytes."""
        done = 0
        while len(self.waiting) - done >= max(least, 1):
            block = bytes(self.waiting[done : done + BLOCK])
            self.told["bytes"] += len(block)
            self.told["squeezed"] += len(self.squeeze(block))
            done += len(block)
        del self.waiting[:done]

    def close(self) -> None:
        """Write the counts and the sketches."""
        self.compress(1)
        (self.folder / "counts.json").write_text(json.dumps(self.told))
        np.save(self.folder / "self_repetition.npy", self.bins)
        for n, sketch in self.sketches.items():
            (self.folder / f"distinct_{n}.hll").write_bytes(sketch.serialize_compact())


def whole(folders: Sequence[Path], out: Path, extras: Extras, reference: Sequence[Path] = ()) -> dict[str, Any]:
    """How diverse is the whole data set, and are the references?

    `compression`: bytes of all answers over bytes after zstd, level 3, in blocks of 1 MB; a part's last block may be
    shorter, so the ratio depends on the division into parts by less than a block's worth for each part. `distinct_2`,
    `distinct_3`: distinct n-grams of the first 60 words of each answer, from a HyperLogLog sketch, with the relative
    standard error of the count; `share` falls as rows are added, so compare it at equal rows only. `self_repetition`:
    quantiles over rows, from exact counts in steps of 0.001 (not by
    a KLL sketch: the one of datasketches draws at random without a seed). `reference`: the same of the references.
    """
    told = _merged(folders)
    if reference:
        told["reference"] = _merged(reference)
    return told


def _merged(folders: Sequence[Path]) -> dict[str, Any]:
    from datasketches import hll_sketch, hll_union

    parts = [json.loads((folder / "counts.json").read_text()) for folder in folders]
    total = {name: sum(part[name] for part in parts) for name in (parts[0] if parts else ())}
    if not parts or not total["rows"]:
        return {"rows": 0}
    told: dict[str, Any] = {name: total[name] for name in ("rows", "words", "bytes")}
    told["compression"] = total["bytes"] / max(total["squeezed"], 1)
    for n in (2, 3):
        union = hll_union(LG_K)
        for folder in [*folders, *folders]:  # twice, so that one part is estimated in the way of many
            union.update(hll_sketch.deserialize((folder / f"distinct_{n}.hll").read_bytes()))
        of, distinct = total[f"grams_{n}"], union.get_estimate()
        told[f"distinct_{n}"] = {
            "distinct": distinct, "of": of, "share": min(distinct / of, 1.0) if of else None,
            "error": 1.04 / 2 ** (LG_K / 2),
        }  # fmt: skip
    bins = sum(np.load(folder / "self_repetition.npy", allow_pickle=False) for folder in folders)
    told["self_repetition"] = _quantiles(bins)
    return told


def _quantiles(bins: Array) -> dict[str, float]:
    """Quantiles of per-row self-repetition."""
    done = np.cumsum(bins)
    if not done[-1]:
        return {}
    return {f"q{q}": int(np.searchsorted(done, np.ceil(done[-1] * q / 100))) / BINS for q in (50, 90, 95, 99)}


@dataclass(frozen=True)
class Grams:
    """n-grams of a sample, once for each row that holds them: `shared` sparse [n-grams in two rows or more, rows] 0 or 1;
    `lone` [rows] how many n-grams no other row of the sample holds; `size` [rows] distinct n-grams of each row;
    `all` [rows] with repeats; `kinds` the hashes of the shared ones."""

    shared: Any
    lone: Floats
    size: Floats
    all: Floats
    kinds: Array


def grams_of(words: Words, n: int, first: int | None = None) -> Grams:
    """The n-grams of a sample."""
    from scipy.sparse import csr_matrix

    grams, row = words.grams(n, first)
    rows = len(words.bounds) - 1
    kinds, at = np.unique(grams, return_inverse=True)
    table = csr_matrix((np.ones(len(at), dtype=np.float32), (at, row)), shape=(len(kinds), rows))
    table.sum_duplicates()
    table.data[:] = 1
    many = np.diff(table.indptr) > 1
    size = np.asarray(table.sum(axis=0), dtype=np.float64).ravel()
    shared = table[many]
    lone = size - np.asarray(shared.sum(axis=0), dtype=np.float64).ravel()
    return Grams(shared, lone, size, np.bincount(row, minlength=rows).astype(np.float64), kinds[many])


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The five measures, each of the rows that have an n-gram."""
    words = words_of([row.answer for row in rows])
    repeated, count = self_repetition(words)

    def of(measure: Measure, grams: Grams, statistic: Callable[[Grams], Callable[[Draws, Draws], Floats]]) -> Contrast:
        return Contrast(measure, statistic(grams), np.flatnonzero(grams.size > 0).tolist())

    return [
        of(DISTINCT_2, grams_of(words, 2, FIRST), distinct),
        of(DISTINCT_3, grams_of(words, 3, FIRST), distinct),
        of(CROSS_ROW, grams_of(words, 5), cross_row),
        of(NOVELTY, grams_of(words, 4), novelty),
        Contrast(SELF, mean_difference(np.nan_to_num(repeated).astype(np.float64)), np.flatnonzero(count).tolist()),
    ]


def _groups(grams: Grams, a: Draws, b: Draws) -> tuple[Array, Array]:
    """In how many rows of each group does each shared n-gram stand? [n-grams, draws]"""
    ours = grams.shared @ np.ascontiguousarray(a.T)
    both = a + b
    if (both == both[0]).all():
        return ours, (grams.shared @ both[0])[:, None] - ours
    return ours, grams.shared @ np.ascontiguousarray(b.T)


def distinct(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """Distinct n-grams over n-grams (Li et al. 2016) of b minus that of a."""

    def statistic(a: Draws, b: Draws) -> Floats:
        shares = [
            (np.count_nonzero(held, axis=0) + some @ grams.lone) / np.maximum(some @ grams.all, 1)
            for held, some in zip(_groups(grams, a, b), (a, b), strict=True)
        ]
        return np.asarray(shares[1] - shares[0], dtype=np.float64)

    return statistic


def cross_row(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """The share of the n-grams (each counted once for a row) that stand in another row of the group: a's minus b's.

    A stand-in for the compression ratio of a group's text, which cannot be taken for thousands of draws.
    """

    def statistic(a: Draws, b: Draws) -> Floats:
        shares = [
            np.where(held > 1, held, 0).sum(axis=0, dtype=np.float64) / np.maximum(some @ grams.size, 1)
            for held, some in zip(_groups(grams, a, b), (a, b), strict=True)
        ]
        return np.asarray(shares[0] - shares[1], dtype=np.float64)

    return statistic


def novelty(grams: Grams) -> Callable[[Draws, Draws], Floats]:
    """How little of a is new? The share of a's n-grams that b has (each counted once for a row)."""

    def statistic(a: Draws, b: Draws) -> Floats:
        ours, theirs = _groups(grams, a, b)
        known = np.where(theirs > 0, ours, 0).sum(axis=0, dtype=np.float64)
        return np.asarray(known / np.maximum(a @ grams.size, 1), dtype=np.float64)

    return statistic


def mean_difference(values: Floats) -> Callable[[Draws, Draws], Floats]:
    """The mean of a's rows minus that of b's."""

    def statistic(a: Draws, b: Draws) -> Floats:
        return np.asarray((a @ values) / a.sum(axis=1) - (b @ values) / b.sum(axis=1), dtype=np.float64)

    return statistic


def marks(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """How strongly does each row repeat itself? 0.5 at the rule's bound, 1 where every 4-gram is a repeat."""
    if SELF.name not in rules:
        return {}
    above = float(rules[SELF.name]["above"])
    share = np.nan_to_num(self_repetition(words_of([row.answer for row in rows]))[0])
    over = 0.5 + 0.5 * (share - above) / max(1 - above, 1e-6)
    return {SELF.name: np.where(share > above, np.minimum(over, 1), 0.49 * share / max(above, 1e-6)).astype(np.float32)}
