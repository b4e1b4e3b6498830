"""Texts that hold the same words, or nearly: words, hashes of n-grams, and sketches of rows, in memory and on disk.

Words are runs of letters, digits and marks, case-folded; all else (white space, punctuation, symbols) only parts them;
each character of Chinese and Japanese script is a word. Work on one text is bounded: past its first `CHARACTERS`
characters a text is compared as it is written, and n-grams are taken of the first `WORDS` words.

A row's sketch is a MinHash signature (rensa's R-MinHash, after Fast Similarity Sketching, Dahlgaard et al. 2017,
arXiv:1704.04370) of its word trigrams. `SLOTS` slots are kept with 8 bits each (b-bit minwise hashing, Li and König
2010): two rows of Jaccard similarity J agree in a slot with probability J + (1 - J) / 256, so that the estimate has a
standard error of at most sqrt(J (1 - J) / 128), 0.041 at J = 0.7. `BANDS` bands of `BAND` slots find candidates: a pair
becomes one with probability 1 - (1 - J^5)^25, which is 0.06 at J = 0.3, 0.55 at 0.5, 0.990 at 0.7 and 1.000 at 0.8.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

Array = np.ndarray[Any, Any]

CHARACTERS = 200_000
WORDS = 20_000
LEAST_WORDS = 5
"""Rows of fewer words have no sketch: they can only be the same, not nearly."""
SLOTS, BANDS, BAND = 128, 25, 5
NEAR = 0.7
"""Jaccard similarity of word trigrams from which two rows are near-duplicates."""
AGREE = int(np.ceil(SLOTS * (NEAR * 255 / 256 + 1 / 256)))
"""So many slots (90) agree where the estimate is `NEAR` or more."""
WINDOW, LONG_RUN, LONG_WINDOW = 16, 256, 4
"""In a band, a row is compared with so many next ones of the same hash; with fewer in a run of more than `LONG_RUN`."""
SEED = 42
AT_ONCE, ROWS_AT_ONCE = 500_000, 2000
"""Words, and rows, that are sketched at a time."""
CHUNK = 1 << 17
"""Rows that are read from disk at a time, and pairs that are compared at a time."""
PARTITION = 1 << 21
"""Rows that are sorted at a time (about 60 bytes each)."""

_FOLD = bytes(ord(chr(at).lower()) if at < 128 and chr(at).isalnum() else 32 for at in range(256))
_EACH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """A character that is a word of its own, or a letter or digit with what follows it, vowel signs and accents too."""
    marks = "".join(chr(at) for at in range(0x300, 0x10000) if unicodedata.category(chr(at))[0] == "M")
    return re.compile(f"[{_EACH}]|[^\\W_{_EACH}](?:[^\\W_{_EACH}]|[{re.escape(marks)}])*")


def words(text: str) -> list[bytes]:
    """The words of a text's first `CHARACTERS` characters, in UTF-8.

    >>> words("Don't STOP — 3.5 Äpfel!")
    [b'don', b't', b'stop', b'3', b'5', b'\\xc3\\xa4pfel']
    """
    head = text[:CHARACTERS]
    if head.isascii():
        return head.encode("ascii").translate(_FOLD).split()
    folded = unicodedata.normalize("NFKC", head).casefold()
    return " ".join(_word_pattern().findall(folded)).encode("utf-8", "surrogatepass").split()


def text_key(text: str, its_words: Sequence[bytes]) -> int:
    """A 64-bit hash that texts with the same words share. Texts without words are compared as they are written."""
    head = b" ".join(its_words) or text[:CHARACTERS].strip().encode("utf-8", "surrogatepass")
    if len(text) <= CHARACTERS:
        return xxhash.xxh3_64_intdigest(head)
    hasher = xxhash.xxh3_64(head)
    for at in range(CHARACTERS, len(text), 1 << 20):
        hasher.update(text[at : at + (1 << 20)].encode("utf-8", "surrogatepass"))
    return hasher.intdigest()


class _Known(dict[bytes, bytes]):
    """Hashes of words, kept while they are few and short."""

    def __missing__(self, word: bytes) -> bytes:
        hashed: bytes = xxhash.xxh3_64_digest(word)
        if len(word) <= 40:
            if len(self) >= 200_000:
                self.clear()
            self[word] = hashed
        return hashed


_KNOWN = _Known()


@dataclass(frozen=True, slots=True)
class Flat:
    """Hashes of the words (or n-grams) of some texts in a row: `hashes` uint64 [all], `starts` int64 [texts + 1]."""

    hashes: Array
    starts: Array


def text_hashes(texts: Iterable[Sequence[bytes]]) -> Flat:
    """The hashes of texts given as words."""
    texts = list(texts)
    joined = b"".join(map(_KNOWN.__getitem__, chain.from_iterable(texts)))
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return Flat(np.frombuffer(joined, dtype=">u8").astype(np.uint64), starts)


def grams(of: Flat, n: int) -> tuple[Flat, Array]:
    """The n-grams of words of each text, and at which place of `of.hashes` each begins."""
    starts, total = of.starts, len(of.hashes)
    sizes = np.maximum(np.diff(starts) - n + 1, 0)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    if total < n:
        return Flat(np.empty(0, dtype=np.uint64), bounds), np.empty(0, dtype=np.int64)
    mixed = of.hashes[: total - n + 1].copy()
    for at in range(1, n):
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += of.hashes[at : total - n + 1 + at]
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    inside = np.ones(total, dtype=bool)
    last = starts[1:, None] - 1 - np.arange(n - 1)
    inside[last[last >= starts[:-1, None]]] = False
    places = np.flatnonzero(inside)
    return Flat(mixed[places], bounds), places


@dataclass(frozen=True, slots=True)
class Sketches:
    """What is kept of rows: `keys` uint64 [rows] (`text_key`), `long` bool [rows] (has `LEAST_WORDS`), `signatures`
    uint8 [rows, SLOTS], `bands` uint32 [rows, BANDS]; the last two mean nothing where a row is not long."""

    keys: Array
    long: Array
    signatures: Array
    bands: Array


def sketches(texts: Iterable[str]) -> Sketches:
    """The sketches of texts, some at a time."""
    chunks: list[Sketches] = []
    word_lists: list[list[bytes]] = []
    keys: list[int] = []
    held = 0
    for text in texts:
        its_words = words(text)
        keys.append(text_key(text, its_words))
        word_lists.append(its_words[:WORDS])
        held += len(word_lists[-1])
        if held >= AT_ONCE or len(keys) >= ROWS_AT_ONCE:
            chunks.append(_sketch(keys, word_lists))
            word_lists, keys, held = [], [], 0
    chunks.append(_sketch(keys, word_lists))
    return Sketches(
        *(
            np.concatenate([getattr(chunk, name) for chunk in chunks])
            for name in ("keys", "long", "signatures", "bands")
        )
    )


def trigrams(text: str) -> Array:
    """The set of a text's word trigrams: sorted hashes."""
    return np.unique(grams(text_hashes([words(text)[:WORDS]]), 3)[0].hashes)


def _sketch(keys: list[int], texts: list[list[bytes]]) -> Sketches:
    from rensa import RMinHash

    long = np.array([len(text) >= LEAST_WORDS for text in texts], dtype=bool)
    shingles, _ = grams(text_hashes(texts), 3)
    if not texts:
        digests = np.empty((0, SLOTS), dtype=np.uint64)
    else:
        rows = RMinHash.digest_matrix_from_flat_token_hashes(
            shingles.hashes, shingles.starts.astype(np.uint64), SLOTS, SEED
        )
        digests = np.array(rows.to_rows(), dtype=np.uint64)
    mixed = np.zeros((len(texts), BANDS), dtype=np.uint64)
    for slot in range(BAND):
        mixed = (mixed ^ digests[:, slot : BANDS * BAND : BAND]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    bands = (mixed >> np.uint64(32)).astype(np.uint32)
    return Sketches(np.array(keys, dtype=np.uint64), long, (digests & np.uint64(255)).astype(np.uint8), bands)


def agreement(a: Array, b: Array) -> Array:
    """In how many slots two signatures agree [pairs]."""
    agreeing: Array = np.count_nonzero(a == b, axis=1)
    return agreeing


def jaccard(agreeing: Array) -> Array:
    """The similarity that so many agreeing slots speak for."""
    similarity: Array = np.clip((agreeing / SLOTS - 1 / 256) * 256 / 255, 0, 1)
    return similarity


def band_order(bands: Array, following: Array, ties: Array) -> tuple[Array, Array]:
    """Rows in the order of a band's hash, then of the next band's, so that the most alike stand together; and keys:
    band << 32 | next band, sorted."""
    keys = bands.astype(np.uint64) << np.uint64(32) | following.astype(np.uint64)
    order = np.lexsort((ties, keys))
    return order, keys[order]


def neighbours(keys: Array) -> Iterator[tuple[Array, Array]]:
    """Places in sorted keys (`band_order`) of rows to be compared: each with the next few of the same band hash."""
    hashes = (keys >> np.uint64(32)).astype(np.uint32)
    bounds = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1], [True]]))
    sizes = np.diff(bounds)
    short = np.repeat(sizes <= LONG_RUN, sizes)
    for step in range(1, min(WINDOW, len(keys) - 1) + 1):
        same = hashes[step:] == hashes[:-step]
        if step > LONG_WINDOW:
            same &= short[step:]
        at = np.flatnonzero(same)
        if not len(at):
            return
        yield at, at + step


# --- on disk ----------------------------------------------------------------------------------------------------------

COLUMNS = {"number": "<i8", "text": "<u8", "long": "u1", "signature": "u1"} | {
    f"band{at:02}": "<u4" for at in range(BANDS)
}
"""The files of a part: a column each, one value a row (a signature: `SLOTS`)."""
BYTES = 8 + 8 + 1 + SLOTS + 4 * BANDS


def append_rows(folder: Path, numbers: Sequence[int], sketched: Sketches) -> None:
    """Append rows to the files of a part."""
    columns = {"number": np.array(numbers, dtype=np.int64), "text": sketched.keys, "long": sketched.long}
    columns |= {"signature": sketched.signatures} | {f"band{at:02}": sketched.bands[:, at] for at in range(BANDS)}
    for name, values in columns.items():
        with (folder / name).open("ab") as sink:
            sink.write(values.astype(COLUMNS[name]).tobytes())


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

    def chunks(self, *names: str) -> Iterator[tuple[Array, ...]]:
        """Columns, some rows at a time, in the order of the folders: (places, column, …)."""
        kinds = [(name, np.dtype(COLUMNS[name])) for name in names]
        for folder, offset, size, start in zip(self.folders, self.offsets, self.sizes, self.starts, strict=False):
            for at in range(0, size, CHUNK):
                count = min(CHUNK, size - at)
                read = [np.fromfile(folder / name, k, count, offset=at * k.itemsize) for name, k in kinds]
                numbered = (
                    column + offset if name == "number" else column for name, column in zip(names, read, strict=True)
                )
                yield (np.arange(start + at, start + at + count), *numbered)

    def signatures(self, places: Array) -> Array:
        """uint8 [places, SLOTS]."""
        signatures = np.empty((len(places), SLOTS), dtype=np.uint8)
        part = np.searchsorted(self.starts, places, side="right") - 1
        for number, folder in enumerate(self.folders):
            where = np.flatnonzero(part == number)
            if len(where):
                held = np.memmap(folder / "signature", np.uint8, "r", shape=(self.sizes[number], SLOTS))
                signatures[where] = held[places[where] - self.starts[number]]
        return signatures

    def size_on_disk(self) -> int:
        """Bytes of all files."""
        return sum((folder / name).stat().st_size for folder in self.folders for name in COLUMNS)


def partitions(rows: int) -> int:
    """The number of partitions (by hash) that so many rows must be divided into to be sorted in memory."""
    return max(1, -(-rows // PARTITION))


def in_partition(hashes: Array, number: int, count: int) -> Array:
    """Whether each 32-bit hash is of this partition."""
    inside: Array = (hashes.astype(np.uint64) * np.uint64(count)) >> np.uint64(32) == np.uint64(number)
    return inside


def first_of_each(chunks: Iterable[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
    """Of (keys, ids): the distinct keys in order, the least id of each and how often it occurs. Memory grows with the
    distinct keys, not with the rows."""
    held: list[tuple[Array, Array, Array]] = []
    waiting = 0
    for keys, ids in chunks:
        held.append(_distinct(keys, ids, np.ones(len(keys), dtype=np.int64)))
        waiting += len(held[-1][0])
        if waiting > 2 * len(held[0][0]) + CHUNK:
            held, waiting = [_distinct(*map(np.concatenate, zip(*held, strict=True)))], 0
    if not held:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return _distinct(*map(np.concatenate, zip(*held, strict=True)))


def _distinct(keys: Array, ids: Array, counts: Array) -> tuple[Array, Array, Array]:
    order = np.lexsort((ids, keys))
    keys, ids = keys[order], ids[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)
    return keys[starts], ids[starts], np.add.reduceat(counts[order], starts) if len(keys) else counts


def unite(roots: Array, a: Array, b: Array) -> None:
    """Join the clusters of the pairs (a, b). `roots[x]` is the least member of x's cluster, before and after."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, ends = np.unique(np.concatenate([roots[a], roots[b]]), return_inverse=True)
    left, right = np.split(ends, 2)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, groups = connected_components(graph, directed=False)
    least = np.full(groups.max() + 1, len(nodes))
    np.minimum.at(least, groups, np.arange(len(nodes)))
    roots[nodes] = nodes[least[groups]]
    for at in range(0, len(roots), CHUNK):
        roots[at : at + CHUNK] = roots[np.asarray(roots[at : at + CHUNK])]


def texts_of(parts: Parts, at: int, count: int, column: str) -> Iterator[tuple[Array, Array]]:
    """Hashes of words and numbers (or places) of the rows of one partition."""
    for places, keys, numbers in parts.chunks("text", "number"):
        inside = in_partition(keys >> np.uint64(32), at, count)
        yield keys[inside], (numbers if column == "number" else places)[inside]


def merge_exact(data: Parts, exact_of: Array, column: str = "number") -> tuple[int, int]:
    """Sets `exact_of`: of each row, the first of the same words. Returns rows that share theirs, and groups."""
    rows = groups = 0
    count = partitions(data.rows)
    for at in range(count):
        keys, first, times = first_of_each(texts_of(data, at, count, column))
        rows += int(times[times > 1].sum())
        groups += int(np.count_nonzero(times > 1))
        for keys_here, numbers in texts_of(data, at, count, column):
            exact_of[numbers] = first[np.searchsorted(keys, keys_here)]
    return rows, groups


def band_of(parts: Parts, band: int, at: int, count: int, exact_of: Array, column: str) -> tuple[Array, Array, Array]:
    """The texts of a partition in the order of a band: keys, numbers (or places), places. Each text once."""
    held: list[tuple[Array, ...]] = []
    names = ("long", f"band{band:02}", f"band{(band + 1) % BANDS:02}", "number", "text")
    for places, long, band_hashes, following, numbers, texts in parts.chunks(*names):
        ids = numbers if column == "number" else places
        chosen = (long > 0) & in_partition(band_hashes, at, count)
        chosen[chosen] = exact_of[ids[chosen]] == ids[chosen]
        ties = ids if column == "number" else texts
        held.append(tuple(column_values[chosen] for column_values in (band_hashes, following, ties, ids, places)))
    band_hashes, following, ties, ids, places = map(np.concatenate, zip(*held, strict=True))
    order, keys = band_order(band_hashes, following, ties)
    return keys, ids[order], places[order]


def merge_near(data: Parts, exact_of: Array, copy_of: Array) -> None:
    """Joins clusters in `copy_of` (as `exact_of` at first) along near-duplicates, band by band."""
    count = partitions(data.rows)
    for band, at in np.ndindex(BANDS, count):
        keys, ids, places = band_of(data, band, at, count, exact_of, "number")
        for lefts, rights in neighbours(keys):
            for start in range(0, len(lefts), CHUNK):
                left, right = lefts[start : start + CHUNK], rights[start : start + CHUNK]
                new = copy_of[ids[left]] != copy_of[ids[right]]
                left, right = left[new], right[new]
                alike = agreement(data.signatures(places[left]), data.signatures(places[right]))
                is_near = alike >= AGREE
                if is_near.any():
                    unite(copy_of, ids[left[is_near]], ids[right[is_near]])


def near_reference(data: Parts, reference_parts: Parts, ours: Any, theirs: Any, reference_of: Array) -> None:
    """Sets `reference_of` of texts that a reference text nearly equals, in one band (`band_of` of either side)."""
    keys, ids, places = ours
    their_keys, _, their_places = theirs
    if not len(their_keys):
        return
    at = np.searchsorted(their_keys, keys)
    half, hash_bits = WINDOW // 2, np.uint64(32)
    for step in range(-half, half):
        place = np.clip(at + step, 0, len(their_keys) - 1)
        same = (place == at + step) & (their_keys[place] >> hash_bits == keys >> hash_bits) & (reference_of[ids] < 0)
        lefts = np.flatnonzero(same)
        for start in range(0, len(lefts), CHUNK):
            left = lefts[start : start + CHUNK]
            right = their_places[place[left]]
            alike = agreement(data.signatures(places[left]), reference_parts.signatures(right))
            is_near = alike >= AGREE
            reference_of[ids[left[is_near]]] = right[is_near]
