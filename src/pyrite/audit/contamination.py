"""Contamination: does the data hold what models are to be evaluated on?

A row touches an evaluation text if they share a run of 13 words (GPT-3's overlap, Brown et al. 2020, appendix C, on
words as `pyrite.audit.hashes.words` finds them) or, more sensitive, of 8. Unlike there nothing is removed around a
match, and an 8-gram that stands in `BOILERPLATE` or more different evaluation texts ("answer with one of the following
options") is no evidence; such 8-grams are left out and counted. An evaluation text of 5 to 7 words counts for the
8-grams if all of it stands in the row as one run. Runs are compared by 64-bit hashes. Of a row, the first
`hashes.WORDS` words are read.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.audit import hashes
from pyrite.audit.family import Alone, Contrast, Draws, Extras, Floats, Measure
from pyrite.audit.hashes import Array
from pyrite.audit.rows import Row, as_row
from pyrite.errors import UserError
from pyrite.records import Pair

BOILERPLATE = 3
SIZES = {"ngram_13": (13,), "ngram_8": (8, 7, 6, 5)}
"""Run lengths by measure; those below 8 are whole evaluation texts."""

_ADVICE = "Take these rows out before training (`--clean` does), or leave this evaluation set out of the results."
MEASURES = tuple(
    Measure("contamination", name, f"Do rows hold {n} words in a row of an evaluation text?", "share", _ADVICE)
    for name, n in (("ngram_13", 13), ("ngram_8", 8))
)
FEW = {"ngram_13": 0.0, "ngram_8": 0.005}
"""Up to this share of rows is no finding."""


# --- evaluation sets --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """Hashes of the runs of one length: `grams`, sorted; those of `grams[i]` are the items `items[bounds[i] :
    bounds[i + 1]]`. `sieve[h >> shift]` is False where no gram has these leading bits."""

    grams: Array
    bounds: Array
    items: Array
    sieve: Array
    shift: int

    def look_up(self, wanted: Array) -> tuple[Array, Array]:
        """Which of the hashes are runs of an evaluation text, and which of `grams`: places in `wanted`, in `grams`."""
        places = np.flatnonzero(self.sieve[wanted >> np.uint64(self.shift)])
        at = np.minimum(np.searchsorted(self.grams, wanted[places]), len(self.grams) - 1)
        same = self.grams[at] == wanted[places]
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
    texts = [hashes.words(text)[: hashes.WORDS] for _, some in against for text in some]
    starts = np.cumsum([0, *(len(some) for _, some in against)])
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    all_words = hashes.flat(texts)
    _, same_text = np.unique([hashes.text_key("", text) for text in texts], return_inverse=True)
    runs: dict[int, Runs] = {}
    boilerplate = 0
    for n in (size for some in SIZES.values() for size in some):
        found, _ = hashes.grams(all_words, n)
        items = np.repeat(np.arange(len(texts)), np.diff(found.starts))
        grams, items = _once(found.hashes, items)
        if n < 8:
            whole = sizes[items] == n
            grams, items = grams[whole], items[whole]
        if n == 8:
            common = _common(grams, same_text[items])
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


def _common(grams: Array, texts: Array) -> Array:
    """Which (gram, item) lines are of a gram that stands in `BOILERPLATE` or more different texts?"""
    names, times = np.unique(_once(grams, texts)[0], return_counts=True)
    made: Array = np.isin(grams, names[times >= BOILERPLATE])
    return made


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


def matches(all_words: hashes.Flat, index: Index, measure: str) -> Iterator[Matches]:
    """What texts share with the evaluation sets, by length."""
    for n in SIZES[measure]:
        if len(index.runs[n].items):
            found, places = hashes.grams(all_words, n)
            hits, grams = index.runs[n].look_up(found.hashes)
            rows = np.searchsorted(found.starts, hits, side="right") - 1
            yield Matches(rows, places[hits] - all_words.starts[rows], n, index.runs[n], grams)


def _batches(rows: Sequence[Row]) -> Iterator[tuple[int, list[list[bytes]]]]:
    """Rows as words, a bounded number of words at a time: (place of the first row, words of each)."""
    start, held, some = 0, 0, list[list[bytes]]()
    for row in rows:
        some.append(hashes.words(row.text)[: hashes.WORDS])
        held += len(some[-1])
        if held >= hashes.AT_ONCE:
            yield start, some
            start, held, some = start + len(some), 0, []
    if some:
        yield start, some


Told = Callable[[Array, Array], None]


def counted(rows: Sequence[Row], index: Index, touched: Mapping[str, Told] | None = None) -> dict[str, Array]:
    """How many runs of evaluation texts each row holds, by measure [rows]; `touched[measure](rows, items)` is told."""
    made = {name: np.zeros(len(rows), dtype=np.int64) for name in SIZES}
    for start, texts in _batches(rows):
        all_words = hashes.flat(texts)
        for name in SIZES:
            for found in matches(all_words, index, name):
                np.add.at(made[name], start + found.rows, 1)
                if touched is not None:
                    places, items = found.items()
                    touched[name](start + places, items)
    return made


# --- every row --------------------------------------------------------------------------------------------------------


class Stream:
    """Counts the rows that touch each evaluation set, and the items that are touched. Columns: `contamination_13` and
    `contamination_8`, how many runs of evaluation texts a row holds (at most 65,535)."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder, self.index = folder, index_of(extras.against)
        self.rows = 0
        self.hit = {name: np.zeros(1 + len(self.index.names), dtype=np.int64) for name in SIZES}
        self.touched = {name: np.zeros(int(self.index.starts[-1]), dtype=bool) for name in SIZES}

    def add(self, rows: Sequence[Row]) -> Mapping[str, Array]:
        """Take rows in; returns the columns; none without evaluation sets."""
        self.rows += len(rows)
        if not self.index.names:
            return {}
        sets = {name: np.zeros((len(self.index.names), len(rows)), dtype=bool) for name in SIZES}

        def told(name: str) -> Told:
            def tell(places: Array, items: Array) -> None:
                self.touched[name][items] = True
                sets[name][np.searchsorted(self.index.starts, items, side="right") - 1, places] = True

            return tell

        found = counted(rows, self.index, {name: told(name) for name in SIZES})
        for name in SIZES:
            self.hit[name][1:] += sets[name].sum(1)
            self.hit[name][0] += np.count_nonzero(found[name])
        return {
            f"contamination_{name.removeprefix('ngram_')}": np.minimum(found[name], 65535).astype(np.uint16)
            for name in SIZES
        }

    def close(self) -> None:
        """Write the counts."""
        told = {"rows": self.rows} | {name: self.hit[name].tolist() for name in SIZES}
        (self.folder / "counts.json").write_bytes(orjson.dumps(told))
        np.save(self.folder / "touched.npy", np.array([self.touched[name] for name in SIZES]))


def whole(folders: Sequence[Path], out: Path, extras: Extras, reference: Sequence[Path] = ()) -> dict[str, Any]:
    """How many rows of the whole data set touch an evaluation text?

    Returns `rows`; by measure {rows, share} over all sets; `sets`: name -> {items, and by measure {rows, share,
    items_touched}}; `boilerplate`: 8-grams left out. Exact, and the same however rows were divided into parts.
    """
    index = index_of(extras.against)
    counts = [orjson.loads((folder / "counts.json").read_bytes()) for folder in folders]
    total = sum(count["rows"] for count in counts)
    told: dict[str, Any] = {"rows": total}
    if not total or not index.names:
        return told
    hit = {name: np.sum([count[name] for count in counts], axis=0).tolist() for name in SIZES}
    touched = np.any([np.load(folder / "touched.npy", allow_pickle=False) for folder in folders], axis=0)
    told |= {name: {"rows": hit[name][0], "share": hit[name][0] / total} for name in SIZES}
    told |= {"boilerplate": index.boilerplate, "sets": {}}
    for at, name in enumerate(index.names):
        items = slice(index.starts[at], index.starts[at + 1])
        told["sets"][name] = {"items": int(index.starts[at + 1] - index.starts[at])} | {
            size: {
                "rows": hit[size][at + 1],
                "share": hit[size][at + 1] / total,
                "items_touched": int(touched[number, items].sum()),
            }
            for number, size in enumerate(SIZES)
        }
    return told


# --- the sample -------------------------------------------------------------------------------------------------------


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The share of rows that touch an evaluation text, data minus references; none without evaluation sets."""
    if not extras.against:
        return []
    found = counted(rows, index_of(extras.against))
    return [Contrast(measure, _difference((found[measure.name] > 0).astype(np.float32))) for measure in MEASURES]


def _difference(hit: Array) -> Callable[[Draws, Draws], Floats]:
    def statistic(a: Draws, b: Draws) -> Floats:
        made: Floats = (a @ hit / a.sum(1) - b @ hit / b.sum(1)).astype(np.float64)
        return made

    return statistic


def alone(rows: Sequence[Row], extras: Extras) -> list[Alone]:
    """The share of rows that touch an evaluation text; any is a warning. Intervals are Wilson's."""
    from pyrite.stats.intervals import wilson

    if not extras.against or not rows:
        return []
    found = counted(rows, index_of(extras.against))
    shares = {measure: wilson(int(np.count_nonzero(found[measure.name])), len(rows)) for measure in MEASURES}
    return [
        Alone(measure, one.value, None, len(rows), FEW[measure.name], one.low, one.high)
        for measure, one in shares.items()
    ]


def alone_from_whole(whole: Mapping[str, Any]) -> list[Alone]:
    """The share of all rows that touch an evaluation text. One row with thirteen words is a finding; eight words in a row
    come about by chance, so a few rows are not."""
    return [
        Alone(measure, whole[measure.name]["share"], None, whole["rows"], FEW[measure.name])
        for measure in MEASURES
        if measure.name in whole
    ]


def marks(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """1 for a row that holds a run of an evaluation text."""
    found = counted(rows, index_of(extras.against))
    return {name: (found[name] > 0).astype(np.float32) for name in rules}


# --- evaluation sets that Pyrite knows --------------------------------------------------------------------------------


def known_task_texts(name: str, path: Path) -> list[str]:
    """The texts of an evaluation set, each once, in the file's order.

    `ifeval`: the prompts. `followbench`: one text for each example, its requests of all levels (each level repeats the
    one before). `mt_bench`: one text for each question, both turns and the judge's references. Any other name is a file
    in a layout that Pyrite reads: what stands in a row is a text; of pairs (`nli`, `hans`) premise and hypothesis are
    a text each, as several pairs share a premise.

    Raises:
        UserError: the file is not what the name says, or a row is bad.
    """
    readers = {"ifeval": _ifeval, "followbench": _followbench, "mt_bench": _mt_bench}
    texts = list(dict.fromkeys(text for text in readers.get(name, _any)(Path(path)) if text.strip()))
    if not texts:
        raise UserError("There are no evaluation texts.", str(path), "check the file")
    return texts


def _ifeval(path: Path) -> Iterator[str]:
    from pyrite.io.files import find_file
    from pyrite.io.formats import raw_rows
    from pyrite.io.raw_row import BadRow

    file = find_file(path)
    for number, raw in raw_rows(file):
        prompt = None if isinstance(raw, BadRow) else raw.get("prompt")
        if not isinstance(prompt, str):
            raise UserError(
                "bad row: no prompt", file.location(number), "take IFEval's input_data.jsonl as it was published"
            )
        yield prompt


def _followbench(path: Path) -> Iterator[str]:
    from pyrite.tasks import followbench

    examples = {item.meta["example"]: item.meta["requests"] for item in followbench.read(path)}
    for requests in examples.values():
        yield "\n".join(dict.fromkeys(request for request in requests if request))


def _mt_bench(path: Path) -> Iterator[str]:
    from pyrite.tasks import mt_bench

    for item in mt_bench.read(path):
        yield "\n".join(one for one in (*item.meta["turns"], *item.meta["reference"]) if one)


def _any(path: Path) -> Iterator[str]:
    from pyrite.io import open_records

    for record in open_records(path):
        if isinstance(record, Pair):
            yield from (record.premise, record.hypothesis)
        else:
            yield as_row(record, 0).text
