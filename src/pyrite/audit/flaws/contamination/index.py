"""An index of the runs of words of evaluation texts, by length, and what rows share with it."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyrite.audit import word_hashes
from pyrite.audit.rows import Row
from pyrite.audit.word_hashes import Array

BOILERPLATE = 3
SIZES = {"ngram_13": (13,), "ngram_8": (8, 7, 6, 5)}
"""Run lengths by measure; those below 8 are whole evaluation texts."""


@dataclass(frozen=True)
class Runs:
    """Hashes of the runs of one length: `grams`, sorted; those of `grams[i]` are the items `items[bounds[i] :
    bounds[i + 1]]`. `sieve[h >> shift]` is False where no gram has these leading bits."""

    grams: Array
    bounds: Array
    items: Array
    sieve: Array
    shift: int

    def look_up(self, hashes: Array) -> tuple[Array, Array]:
        """Which of the hashes are runs of an evaluation text, and which of `grams`: places in `wanted`, in `grams`."""
        places = np.flatnonzero(self.sieve[hashes >> np.uint64(self.shift)])
        at = np.minimum(np.searchsorted(self.grams, hashes[places]), len(self.grams) - 1)
        same = self.grams[at] == hashes[places]
        return places[same], at[same]


@dataclass(frozen=True)
class Index:
    """The evaluation sets: `names`, `starts` (item i of set k is number starts[k] + i), runs by length, and how many
    8-grams were left out as boilerplate."""

    names: tuple[str, ...]
    starts: Array
    runs: Mapping[int, Runs]
    boilerplate: int

    def named(self, item: int) -> str:
        """An item by its place, from 1, among the set's texts (each once, in the file's order)."""
        at = int(np.searchsorted(self.starts, item, side="right")) - 1
        return f"text {item - int(self.starts[at]) + 1} of {self.names[at]}"


def index_of(against: Mapping[str, Sequence[str]]) -> Index:
    """The runs of all evaluation texts."""
    return _index(tuple((name, tuple(texts)) for name, texts in against.items()))


@functools.lru_cache(maxsize=2)
def _index(against: tuple[tuple[str, tuple[str, ...]], ...]) -> Index:
    texts = [word_hashes.words(text)[: word_hashes.WORDS] for _, texts_of_set in against for text in texts_of_set]
    starts = np.cumsum([0, *(len(texts_of_set) for _, texts_of_set in against)])
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    all_words = word_hashes.text_hashes(texts)
    _, same_text = np.unique([word_hashes.words_key("", text) for text in texts], return_inverse=True)
    runs: dict[int, Runs] = {}
    boilerplate = 0
    for n in (size for texts_of_set in SIZES.values() for size in texts_of_set):
        run, _ = word_hashes.grams(all_words, n)
        items = np.repeat(np.arange(len(texts)), np.diff(run.starts))
        grams, items = _once(run.hashes, items)
        if n < 8:
            is_whole = sizes[items] == n
            grams, items = grams[is_whole], items[is_whole]
        if n == 8:
            common = _boilerplate_lines(grams, same_text[items])
            boilerplate = len(np.unique(grams[common]))
            grams, items = grams[~common], items[~common]
        runs[n] = _runs(grams, items)
    return Index(tuple(name for name, _ in against), starts, runs, boilerplate)


def _once(grams: Array, owners: Array) -> tuple[Array, Array]:
    """Each (gram, owner) once, in order."""
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    new = np.ones(len(grams), dtype=bool)
    new[1:] = (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])
    return grams[new], owners[new]


def _boilerplate_lines(grams: Array, texts: Array) -> Array:
    """Whether each (gram, item) line is of a gram that stands in `BOILERPLATE` or more different texts."""
    names, times = np.unique(_once(grams, texts)[0], return_counts=True)
    is_boilerplate: Array = np.isin(grams, names[times >= BOILERPLATE])
    return is_boilerplate


def _runs(grams: Array, items: Array) -> Runs:
    names, first = np.unique(grams, return_index=True)
    bits = int(np.clip(np.ceil(np.log2(16 * len(names) + 1)), 10, 26))
    shift = 64 - bits
    sieve = np.zeros(1 << bits, dtype=bool)
    sieve[names >> np.uint64(shift)] = True
    if not len(names):
        names, first = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    return Runs(names, np.append(first, len(items)), items, sieve, shift)


@dataclass(frozen=True, slots=True)
class Matches:
    """Runs that rows share with evaluation texts, a line each: `rows` (places in the batch), `words` (where in the row
    the run begins), `size` (its length), `runs` and `grams` (where the items are)."""

    rows: Array
    words: Array
    size: int
    runs: Runs
    grams: Array

    def items(self) -> tuple[Array, Array]:
        """(row, item) for each item of each match."""
        counts = self.runs.bounds[self.grams + 1] - self.runs.bounds[self.grams]
        ends = np.cumsum(counts)
        within = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
        return np.repeat(self.rows, counts), self.runs.items[np.repeat(self.runs.bounds[self.grams], counts) + within]


def matches(all_words: word_hashes.Flat, index: Index, measure: str) -> Iterator[Matches]:
    """What texts share with the evaluation sets, by length."""
    for n in SIZES[measure]:
        if len(index.runs[n].items):
            run, places = word_hashes.grams(all_words, n)
            hits, grams = index.runs[n].look_up(run.hashes)
            rows = np.searchsorted(run.starts, hits, side="right") - 1
            yield Matches(rows, places[hits] - all_words.starts[rows], n, index.runs[n], grams)


def _batches(rows: Sequence[Row]) -> Iterator[tuple[int, list[list[bytes]]]]:
    """Rows as words, a bounded number of words at a time: (place of the first row, words of each)."""
    start, held, batch = 0, 0, list[list[bytes]]()
    for row in rows:
        batch.append(word_hashes.words(row.whole_text)[: word_hashes.WORDS])
        held += len(batch[-1])
        if held >= word_hashes.AT_ONCE:
            yield start, batch
            start, held, batch = start + len(batch), 0, []
    if batch:
        yield start, batch


Told = Callable[[Array, Array], None]


def runs_by_row(rows: Sequence[Row], index: Index, touched: Mapping[str, Told] | None = None) -> dict[str, Array]:
    """How many runs of evaluation texts each row holds, by measure [rows]; `touched[measure](rows, items)` is told."""
    counts = {name: np.zeros(len(rows), dtype=np.int64) for name in SIZES}
    for start, texts in _batches(rows):
        all_words = word_hashes.text_hashes(texts)
        for name in SIZES:
            for match in matches(all_words, index, name):
                np.add.at(counts[name], start + match.rows, 1)
                if touched is not None:
                    places, items = match.items()
                    touched[name](start + places, items)
    return counts
