"""Rows that hold the same words, or nearly: words, hashes of n-grams, and sketches of rows, in memory and on disk.

Words are those of `pyrite.data.words`, without regard to case and Unicode's compatibility forms; all else (white space,
punctuation, symbols) only parts them. Work on one text is bounded: past its first `CHARACTERS` characters a text is
compared as it is written, and n-grams are taken of the first `WORDS` words.

A row's sketch is a MinHash signature (rensa's R-MinHash, after Fast Similarity Sketching, Dahlgaard et al. 2017,
arXiv:1704.04370) of its word trigrams. `SLOTS` slots are kept with 8 bits each (b-bit minwise hashing, Li and König
2010): two rows of Jaccard similarity J agree in a slot with probability J + (1 - J) / 256, so that the estimate has a
standard error of at most sqrt(J (1 - J) / 128), 0.041 at J = 0.7. `BANDS` bands of `BAND` slots find candidates: a pair
becomes one with probability 1 - (1 - J^5)^25, which is 0.06 at J = 0.3, 0.55 at 0.5, 0.990 at 0.7 and 1.000 at 0.8.

A row has two sides, what was asked and what was answered (`Row.parts`), and of copies both are alike: each is at least
`HALF` the same by itself. Of answers, word trigrams are compared (those of fewer than `LEAST_WORDS` words have the same
words); of prompts, words, where sentences that both prompts hold are left out: two questions on one passage are two
prompts. (Where that leaves nothing of one, all sentences count.) Both are estimated from `SIDE_SLOTS` further slots for
the answer and for each sentence of the prompt, with a standard error of 0.125 at `HALF`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pyrite.data.words import folded, plain_pattern, sentences, separated

Array = np.ndarray[Any, Any]

CHARACTERS = 200_000
WORDS = 20_000
LEAST_WORDS = 5
"""Rows of fewer words have no sketch: they can only be the same, not nearly. The same goes for answers."""
SLOTS, BANDS, BAND = 128, 25, 5
NEAR = 0.7
"""Jaccard similarity of word trigrams from which two rows are near-duplicates."""
AGREE = int(np.ceil(SLOTS * (NEAR * 255 / 256 + 1 / 256)))
"""So many slots (90) agree where the estimate is `NEAR` or more."""
SENTENCES = 16
"""Sentences of a prompt that are kept; of longer ones, those in the middle are kept as one."""
HALF = 0.5
"""Jaccard similarity from which one side of two rows is alike."""
SIDE_SLOTS = 16
SIDE_AGREE = int(SIDE_SLOTS * HALF)
WINDOW, LONG_RUN, LONG_WINDOW = 16, 256, 4
"""In a band, a row is compared with so many next ones of the same hash; with fewer in a run of more than `LONG_RUN`."""
SEED = 42
AT_ONCE, ROWS_AT_ONCE = 500_000, 2000
"""Words, and rows, that are sketched at a time."""
CHUNK = 1 << 17
"""Rows that are read from disk at a time, and pairs that are compared at a time."""
PAIRS_AT_ONCE = 1 << 13
"""Pairs whose prompts are compared at a time."""
PARTITION = 1 << 21
"""Rows that are sorted at a time (about 60 bytes each)."""

_FOLD = bytes(ord(chr(at).lower()) if at < 128 and chr(at).isalnum() else 32 for at in range(256))


def words(text: str) -> list[bytes]:
    """The words of a text's first `CHARACTERS` characters, in UTF-8.

    >>> words("Don't STOP — 3.5 Äpfel!")
    [b'don', b't', b'stop', b'3', b'5', b'\\xc3\\xa4pfel']
    """
    head = text[:CHARACTERS]
    if head.isascii():
        return head.encode("ascii").translate(_FOLD).split()
    return " ".join(plain_pattern().findall(separated(folded(head)))).encode("utf-8", "surrogatepass").split()


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
class PromptSketches:
    """The sentences of some prompts in a row: `hashes` uint64 [sentences] of their words, `slots` uint16 [sentences,
    SIDE_SLOTS], the least hashes of their words (the leading bits), `counts` uint8 [prompts] (0: no prompt)."""

    hashes: Array
    slots: Array
    counts: Array

    def padded(self, rows: Array) -> tuple[Array, Array]:
        """Of some prompts, `hashes` [prompts, SENTENCES], 0 where there is none, and `slots` [prompts, SENTENCES,
        SIDE_SLOTS]."""
        starts = np.cumsum(self.counts, dtype=np.int64) - self.counts
        return padded(self.hashes, self.slots, starts[rows], self.counts[rows])


def padded(hashes: Array, slots: Array, starts: Array, counts: Array) -> tuple[Array, Array]:
    """Sentences that stand in a row, by prompt: `PromptSketches.padded`."""
    within = np.arange(SENTENCES)
    present = within < counts[:, None]
    places = (starts[:, None] + within)[present]
    by_prompt = np.zeros((len(counts), SENTENCES), dtype=np.uint64)
    by_prompt[present] = hashes[places]
    slots_by_prompt = np.full((len(counts), SENTENCES, SIDE_SLOTS), 0xFFFF, dtype=np.uint16)
    slots_by_prompt[present] = slots[places]
    return by_prompt, slots_by_prompt


def prompts_alike(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    """Whether the prompts of each pair are alike [pairs]; each side as `PromptSketches.padded`."""
    (hashes_a, slots_a), (hashes_b, slots_b) = a, b
    held_a, held_b = hashes_a != 0, hashes_b != 0
    same = hashes_a[:, :, None] == hashes_b[:, None, :]
    own_a, own_b = held_a & ~same.any(2), held_b & ~same.any(1)
    apart = (own_a.any(1) & own_b.any(1))[:, None]
    least_a, least_b = (
        np.where(chosen[:, :, None], slots, 0xFFFF).min(1)
        for chosen, slots in ((np.where(apart, own_a, held_a), slots_a), (np.where(apart, own_b, held_b), slots_b))
    )
    alike: Array = np.count_nonzero(least_a == least_b, axis=1) >= SIDE_AGREE
    return alike


def sides_alike(a: tuple[Array, Array], b: tuple[Array, Array], answers_a: Array, answers_b: Array) -> Array:
    """Whether both sides of pairs of rows that are alike as a whole are so by themselves [pairs]. Where one has no prompt
    there is but one side: the rows as a whole."""
    unprompted = (a[0][:, 0] == 0) | (b[0][:, 0] == 0)
    alike: Array = unprompted | ((np.count_nonzero(answers_a == answers_b, axis=1) >= SIDE_AGREE) & prompts_alike(a, b))
    return alike


@dataclass(frozen=True, slots=True)
class Sketches:
    """What is kept of rows: `keys` uint64 [rows] (of the words of both sides), `long` bool [rows] (has `LEAST_WORDS`),
    `signatures` uint8 [rows, SLOTS], `bands` uint32 [rows, BANDS], `nexts` uint16 [rows, BANDS] (which bring together
    the most alike of many rows of one band), `answers` uint16 [rows, SIDE_SLOTS], and the `prompts`. All but the first
    two mean nothing where a row is not long."""

    keys: Array
    long: Array
    signatures: Array
    bands: Array
    nexts: Array
    answers: Array
    prompts: PromptSketches


def sketches(answers: Iterable[str], prompts: Iterable[str] | None = None) -> Sketches:
    """The sketches of rows, some at a time: of what was answered, and of what was asked where `prompts` are given."""
    chunks: list[Sketches] = []
    batch = _Batch()
    for answer, prompt in zip(answers, repeat("") if prompts is None else prompts, strict=prompts is not None):
        batch.add(answer, prompt)
        if batch.held >= AT_ONCE or len(batch.keys) >= ROWS_AT_ONCE:
            chunks.append(batch.sketch())
            batch = _Batch()
    chunks.append(batch.sketch())
    asked = [chunk.prompts for chunk in chunks]
    prompt_columns = ([getattr(part, name) for part in asked] for name in ("hashes", "slots", "counts"))
    columns = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("keys", "long", "signatures", "bands", "nexts", "answers")
    }
    return Sketches(**columns, prompts=PromptSketches(*map(np.concatenate, prompt_columns)))


class _Batch:
    """Rows that are sketched together, as words: of each the sentences of its prompt, then its answer."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.answer_keys: list[int] = []
        self.sentence_keys: list[int] = []
        self.counts: list[int] = []
        self.texts: list[list[bytes]] = []
        self.held = 0

    def add(self, answer: str, prompt: str) -> None:
        """Take a row in."""
        answer_words = words(answer)
        answer_key = key = text_key(answer, answer_words)
        asked = prompt_sentences(prompt) if prompt else []
        room = WORDS
        if asked:
            joined = [b" ".join(text) for text in asked]
            self.sentence_keys += map(xxhash.xxh3_64_intdigest, joined)
            key = xxhash.xxh3_64_intdigest(b"%d %b" % (key, b" ".join(joined)))
            for text in asked:
                self.texts.append(text[:room])
                room -= len(self.texts[-1])
        self.texts.append(answer_words[:room])
        self.keys.append(key)
        self.answer_keys.append(answer_key)
        self.counts.append(len(asked))
        self.held += WORDS - room + len(self.texts[-1])

    def sketch(self) -> Sketches:
        """The sketches of the rows."""
        counts = np.array(self.counts, dtype=np.uint8)
        of_texts = text_hashes(self.texts)
        ends = np.cumsum(counts.astype(np.int64) + 1)
        rows = Flat(of_texts.hashes, of_texts.starts[np.concatenate([[0], ends])])
        digests = _digests(grams(rows, 3)[0])
        bands = mixed_bands(digests)
        nexts = (np.roll(bands, -1, axis=1) >> np.uint32(16)).astype(np.uint16)
        answers = np.zeros((len(counts), SIDE_SLOTS), dtype=np.uint16)
        is_answer = np.zeros(len(self.texts), dtype=bool)
        is_answer[ends - 1] = True
        of_sentences = least_hashes(_some_texts(of_texts, ~is_answer))
        prompted = np.flatnonzero(counts)
        if len(prompted):
            is_answer[ends[counts == 0] - 1] = False
            said = _some_texts(of_texts, is_answer)
            short = np.diff(said.starts) < LEAST_WORDS
            keys = np.array(self.answer_keys, dtype=np.uint64)[prompted]
            of_answers = least_hashes(_with_keys(grams(said, 3)[0], short, keys))
            answers[prompted] = of_answers & np.uint32(0xFFFF)
            nexts[prompted] = _nexts(of_answers, short, of_sentences, counts[prompted])
        return Sketches(
            np.array(self.keys, dtype=np.uint64),
            np.diff(rows.starts) >= LEAST_WORDS,
            (digests & np.uint64(255)).astype(np.uint8),
            bands,
            nexts,
            answers,
            PromptSketches(
                np.array(self.sentence_keys, dtype=np.uint64), (of_sentences >> np.uint32(16)).astype(np.uint16), counts
            ),
        )


def _some_texts(of: Flat, chosen: Array) -> Flat:
    """Those of the texts that are chosen."""
    sizes = np.diff(of.starts)
    return Flat(of.hashes[np.repeat(chosen, sizes)], np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int64))


def _nexts(answers: Array, short: Array, sentences: Array, counts: Array) -> Array:
    """What brings rows with prompts together that have a band in common, as they share the text of their prompts with
    many: a slot of the answer; where that is short, so that many rows have it, too, a slot of each sentence in turn
    [prompts, BANDS]."""
    bands = np.arange(BANDS)
    starts = np.cumsum(counts, dtype=np.int64) - counts
    in_turn = sentences[starts[:, None] + bands % counts[:, None], bands % SIDE_SLOTS]
    chosen: Array = np.where(short[:, None], in_turn, answers[:, bands % SIDE_SLOTS])
    return chosen & np.uint32(0xFFFF)


def prompt_sentences(prompt: str) -> list[list[bytes]]:
    """The words of a prompt's sentences; of more than `SENTENCES`, those in the middle are one."""
    of_sentences = [its_words for text in sentences(prompt[:CHARACTERS]) if (its_words := words(text))]
    if len(of_sentences) > SENTENCES:
        first, last = SENTENCES // 2, len(of_sentences) - (SENTENCES - SENTENCES // 2 - 1)
        middle = list(chain.from_iterable(of_sentences[first:last]))
        of_sentences = [*of_sentences[:first], middle, *of_sentences[last:]]
    return of_sentences or [[prompt[:CHARACTERS].strip().encode("utf-8", "surrogatepass")]]


def _with_keys(shingles: Flat, short: Array, keys: Array) -> Flat:
    """The shingles of texts, where a short text has none but its key."""
    sizes = np.where(short, 1, np.diff(shingles.starts))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    hashes = np.empty(starts[-1], dtype=np.uint64)
    own = np.zeros(len(hashes), dtype=bool)
    own[starts[:-1][short]] = True
    hashes[own] = keys[short]
    hashes[~own] = shingles.hashes[np.repeat(~short, np.diff(shingles.starts))]
    return Flat(hashes, starts)


def _digests(shingles: Flat) -> Array:
    """The MinHash signatures of sets of hashes: uint64 [sets, SLOTS]."""
    from rensa import RMinHash

    if len(shingles.starts) < 2:
        return np.empty((0, SLOTS), dtype=np.uint64)
    starts = shingles.starts.astype(np.uint64)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(shingles.hashes, starts, SLOTS, SEED)
    return np.array(rows.to_rows(), dtype=np.uint64)


_MULTIPLIERS = np.random.default_rng(SEED).integers(0, 2**63, SIDE_SLOTS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def least_hashes(shingles: Flat) -> Array:
    """Small MinHash signatures of sets of hashes: uint32 [sets, SIDE_SLOTS], the least of multiply-shift hashes
    (Dietzfelbinger et al. 1997). That of a union is the least of both, slot by slot."""
    sizes = np.diff(shingles.starts)
    least = np.full((len(sizes), SIDE_SLOTS), 0xFFFFFFFF, dtype=np.uint32)
    if len(shingles.hashes):
        held = np.flatnonzero(sizes)
        for slot, multiplier in enumerate(_MULTIPLIERS):
            mixed = ((shingles.hashes * multiplier) >> np.uint64(32)).astype(np.uint32)
            least[held, slot] = np.minimum.reduceat(mixed, shingles.starts[held])
    return least


def mixed_bands(digests: Array) -> Array:
    """A hash of each band of some signatures: uint32 [rows, BANDS]."""
    mixed = np.zeros((len(digests), BANDS), dtype=np.uint64)
    for slot in range(BAND):
        mixed = (mixed ^ digests[:, slot : BANDS * BAND : BAND]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    bands: Array = (mixed >> np.uint64(32)).astype(np.uint32)
    return bands


def trigrams(its_words: Sequence[bytes]) -> Array:
    """The set of a text's word trigrams: sorted hashes."""
    return np.unique(grams(text_hashes([its_words[:WORDS]]), 3)[0].hashes)


def same_answers(a: str, b: str) -> bool:
    """Whether two answers are alike: what the slots of `Sketches.answers` estimate."""
    words_a, words_b = words(a), words(b)
    if min(len(words_a), len(words_b)) < LEAST_WORDS:
        return text_key(a, words_a) == text_key(b, words_b)
    ours, theirs = trigrams(words_a), trigrams(words_b)
    shared = len(np.intersect1d(ours, theirs, assume_unique=True))
    return shared >= HALF * (len(ours) + len(theirs) - shared)


def same_prompts(a: str, b: str) -> bool:
    """Whether two prompts are alike: what `prompts_alike` estimates."""
    ours, theirs = ({b" ".join(text) for text in prompt_sentences(prompt)} for prompt in (a, b))
    own_a, own_b = ours - theirs, theirs - ours
    if not own_a or not own_b:
        own_a, own_b = ours, theirs
    words_a, words_b = ({word for text in own for word in text.split()} for own in (own_a, own_b))
    return len(words_a & words_b) >= HALF * len(words_a | words_b)


def agreement(a: Array, b: Array) -> Array:
    """In how many slots two signatures agree [pairs]."""
    agreeing: Array = np.count_nonzero(a == b, axis=1)
    return agreeing


def jaccard(agreeing: Array) -> Array:
    """The similarity that so many agreeing slots speak for."""
    similarity: Array = np.clip((agreeing / SLOTS - 1 / 256) * 256 / 255, 0, 1)
    return similarity


def band_order(bands: Array, following: Array, ties: Array) -> tuple[Array, Array]:
    """Rows in the order of a band's hash, then of `Sketches.nexts`, so that the most alike stand together; and keys:
    band << 32 | next, sorted."""
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
        self._sentences: dict[int, tuple[Array, Array]] = {}

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

    def slots(self, name: str, count: int, places: Array) -> Array:
        """A column of so many slots of these rows [places, count]."""
        kind = np.dtype(COLUMNS[name])
        slots = np.empty((len(places), count), dtype=kind)
        part = np.searchsorted(self.starts, places, side="right") - 1
        for number, folder in enumerate(self.folders):
            where = np.flatnonzero(part == number)
            if len(where):
                held = np.memmap(folder / name, kind, "r", shape=(self.sizes[number], count))
                slots[where] = held[places[where] - self.starts[number]]
        return slots

    def signatures(self, places: Array) -> Array:
        """uint8 [places, SLOTS]."""
        return self.slots("signature", SLOTS, places)

    def prompts(self, places: Array) -> tuple[Array, Array]:
        """The sentences of these rows' prompts, as `PromptSketches.padded`."""
        hashes = np.zeros((len(places), SENTENCES), dtype=np.uint64)
        slots = np.full((len(places), SENTENCES, SIDE_SLOTS), 0xFFFF, dtype=np.uint16)
        part = np.searchsorted(self.starts, places, side="right") - 1
        for number, folder in enumerate(self.folders):
            where = np.flatnonzero(part == number)
            if len(where) and (folder / "sentence_hash").stat().st_size:
                rows = places[where] - self.starts[number]
                counts, starts = self.sentence_starts(number)
                held = np.memmap(folder / "sentence_hash", "<u8", "r")
                held_slots = np.memmap(folder / "sentence_slots", "<u2", "r").reshape(-1, SIDE_SLOTS)
                hashes[where], slots[where] = padded(held, held_slots, starts[rows], counts[rows])
        return hashes, slots

    def sentence_starts(self, number: int) -> tuple[Array, Array]:
        """Of one part: how many sentences each row's prompt has, and where they begin."""
        if number not in self._sentences:
            counts = np.fromfile(self.folders[number] / "sentences", np.uint8)
            self._sentences[number] = counts, np.cumsum(counts, dtype=np.int64) - counts
        return self._sentences[number]

    def alike(self, places: Array, others: "Parts", other_places: Array) -> Array:
        """Whether the rows of each pair, and both of their sides, are alike [pairs]."""
        alike = agreement(self.signatures(places), others.signatures(other_places)) >= AGREE
        left = np.flatnonzero(alike)
        for at in range(0, len(left), PAIRS_AT_ONCE):
            some = left[at : at + PAIRS_AT_ONCE]
            ours, theirs = self.prompts(places[some]), others.prompts(other_places[some])
            answers = (
                side.slots("answer", SIDE_SLOTS, of)
                for side, of in ((self, places[some]), (others, other_places[some]))
            )
            alike[some] = sides_alike(ours, theirs, *answers)
        return alike

    def size_on_disk(self) -> int:
        """Bytes of all files."""
        names = (*COLUMNS, *SENTENCE_COLUMNS)
        return sum((folder / name).stat().st_size for folder in self.folders for name in names)


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
    names = ("long", f"band{band:02}", f"next{band:02}", "number", "text")
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
                is_near = data.alike(places[left], data, places[right])
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
            is_near = data.alike(places[left], reference_parts, right)
            reference_of[ids[left[is_near]]] = right[is_near]
