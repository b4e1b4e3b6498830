"""Sketches on disk: the files of a part, and the rows of several parts as one table that is never held in memory."""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pyrite.audit.minhash import AGREE, BANDS, SENTENCES, SIDE_SLOTS, SLOTS, Sketches, agreement, padded, sides_alike
from pyrite.audit.word_hashes import Array

CHUNK = 1 << 17
"""Rows that are read from disk at a time, and pairs that are compared at a time."""
PAIRS_AT_ONCE = 1 << 13
"""Pairs whose prompts are compared at a time."""
BLOCK = 64
"""Rows of a part of which it is kept where the sentences of the first one begin."""
COLUMNS = {"number": "<i8", "text": "<u8", "long": "u1", "signature": "u1", "answer": "<u2", "sentences": "u1"} | {
    f"{name}{at:02}": kind for name, kind in (("band", "<u4"), ("next", "<u2")) for at in range(BANDS)
}
"""The files of a part: a column each, one value a row (a signature: `SLOTS`, an answer: `SIDE_SLOTS`)."""
SENTENCE_COLUMNS = {"sentence_hash": "<u8", "sentence_slots": "<u2"}
"""Files with a value (`SIDE_SLOTS` values) for each sentence of a prompt."""
BYTES = 8 + 8 + 1 + SLOTS + 2 * SIDE_SLOTS + 1 + (4 + 2) * BANDS
"""Bytes of a row without a prompt; each sentence of a prompt takes `SENTENCE_BYTES` more."""
SENTENCE_BYTES = 8 + 2 * SIDE_SLOTS


def append_rows(folder: Path, numbers: Sequence[int], sketched: Sketches) -> None:
    """Append rows to the files of a part."""
    columns = {"number": np.array(numbers, dtype=np.int64), "text": sketched.keys, "long": sketched.long}
    columns |= {"signature": sketched.signatures, "answer": sketched.answers, "sentences": sketched.prompts.counts}
    columns |= {f"band{at:02}": sketched.bands[:, at] for at in range(BANDS)}
    columns |= {f"next{at:02}": sketched.nexts[:, at] for at in range(BANDS)}
    columns |= {"sentence_hash": sketched.prompts.hashes, "sentence_slots": sketched.prompts.slots}
    for name, values in columns.items():
        with (folder / name).open("ab") as sink:
            sink.write(values.astype((COLUMNS | SENTENCE_COLUMNS)[name]).tobytes())


class Parts:
    """The rows of a data set on disk, in the folders of its parts. A row's place counts through the folders; its number
    is the one that was written, plus the folder's offset."""

    def __init__(self, folders: Sequence[Path], offsets: Sequence[int] = ()) -> None:
        pairs = zip(folders, offsets or [0] * len(folders), strict=True)
        present = [(folder, offset) for folder, offset in pairs if (folder / "number").exists()]
        self.folders, self.offsets = [folder for folder, _ in present], [offset for _, offset in present]
        self.sizes = [(folder / "number").stat().st_size // 8 for folder in self.folders]
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.rows = int(self.starts[-1])
        self._mapped: dict[tuple[int, str], Array] = {}
        self._block_starts: dict[int, Array] = {}

    def chunks(self, *names: str) -> Iterator[tuple[Array, ...]]:
        """Columns, block rows at a time, in the order of the folders: (places, column, …)."""
        kinds = [(name, np.dtype(COLUMNS[name])) for name in names]
        for folder, offset, size, start in zip(self.folders, self.offsets, self.sizes, self.starts, strict=False):
            for at in range(0, size, CHUNK):
                count = min(CHUNK, size - at)
                read = [np.fromfile(folder / name, k, count, offset=at * k.itemsize) for name, k in kinds]
                numbered = (
                    column + offset if name == "number" else column for name, column in zip(names, read, strict=True)
                )
                yield (np.arange(start + at, start + at + count), *numbered)

    def by_part(self, places: Array) -> Iterator[tuple[int, Array]]:
        """Of block places, those of each part that has any: the part's number, and which of the places they are."""
        if not len(places):
            return
        part = np.searchsorted(self.starts, places, side="right") - 1
        order = np.argsort(part, kind="stable")
        numbers, first = np.unique(part[order], return_index=True)
        yield from zip(numbers.tolist(), np.split(order, first[1:]), strict=True)

    @contextmanager
    def mapped(self, number: int, name: str) -> Iterator[Array]:
        """A file of a part, mapped from disk. It is mapped once (with many parts, that takes longer than looking up); what was
        looked up is given back, and stays with the system as long as there is room."""
        if (number, name) not in self._mapped:
            kind = np.dtype((COLUMNS | SENTENCE_COLUMNS)[name])
            self._mapped[number, name] = np.memmap(self.folders[number] / name, kind, "r")
        held = self._mapped[number, name]
        yield held
        held._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def slots(self, name: str, count: int, places: Array) -> Array:
        """A column of so many slots of these rows [places, count]."""
        slots = np.empty((len(places), count), dtype=COLUMNS[name])
        for number, where in self.by_part(places):
            with self.mapped(number, name) as held:
                slots[where] = held.reshape(-1, count)[places[where] - self.starts[number]]
        return slots

    def signatures(self, places: Array) -> Array:
        """uint8 [places, SLOTS]."""
        return self.slots("signature", SLOTS, places)

    def prompts(self, places: Array) -> tuple[Array, Array]:
        """The sentences of these rows' prompts, as `PromptSketches.padded`."""
        hashes = np.zeros((len(places), SENTENCES), dtype=np.uint64)
        slots = np.full((len(places), SENTENCES, SIDE_SLOTS), 0xFFFF, dtype=np.uint16)
        for number, where in self.by_part(places):
            if (self.folders[number] / "sentence_hash").stat().st_size:
                starts, counts = self.sentences_of(number, places[where] - self.starts[number])
                with self.mapped(number, "sentence_hash") as held, self.mapped(number, "sentence_slots") as held_slots:
                    hashes[where], slots[where] = padded(held, held_slots.reshape(-1, SIDE_SLOTS), starts, counts)
        return hashes, slots

    def sentences_of(self, number: int, rows: Array) -> tuple[Array, Array]:
        """Where the sentences of these rows' prompts begin in a part, and how many they are. What is kept in memory is where
        those of every `BLOCK`-th row begin."""
        with self.mapped(number, "sentences") as counts:
            if number not in self._block_starts:
                sums = np.add.reduceat(counts, np.arange(0, len(counts), BLOCK), dtype=np.int64)
                self._block_starts[number] = np.cumsum(sums) - sums
            block = rows // BLOCK
            within = block[:, None] * BLOCK + np.arange(BLOCK)
            before = np.where(within < rows[:, None], counts[np.minimum(within, len(counts) - 1)], 0)
            return self._block_starts[number][block] + before.sum(1, dtype=np.int64), np.asarray(counts[rows])

    def alike(self, places: Array, others: "Parts", other_places: Array) -> Array:
        """Whether the rows of each pair, and both of their sides, are alike [pairs]."""
        alike = agreement(self.signatures(places), others.signatures(other_places)) >= AGREE
        left = np.flatnonzero(alike)
        for at in range(0, len(left), PAIRS_AT_ONCE):
            block = left[at : at + PAIRS_AT_ONCE]
            ours, theirs = self.prompts(places[block]), others.prompts(other_places[block])
            answers = (
                side.slots("answer", SIDE_SLOTS, of)
                for side, of in ((self, places[block]), (others, other_places[block]))
            )
            alike[block] = sides_alike(ours, theirs, *answers)
        return alike

    def size_on_disk(self) -> int:
        """Bytes of all files."""
        names = (*COLUMNS, *SENTENCE_COLUMNS)
        return sum((folder / name).stat().st_size for folder in self.folders for name in names)
