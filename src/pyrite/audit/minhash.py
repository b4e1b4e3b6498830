"""Sketches of rows that hold nearly the same words: what is kept of a row, and when two are alike.

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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import xxhash

from pyrite.audit.word_hashes import (
    AT_ONCE,
    CHARACTERS,
    WORDS,
    Array,
    Flat,
    grams,
    text_hashes,
    trigrams,
    words,
    words_key,
)
from pyrite.data.words import sentences

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
ROWS_AT_ONCE = 2000
"""Rows that are sketched at a time."""


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
        answer_key = key = words_key(answer, answer_words)
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


def same_answers(a: str, b: str) -> bool:
    """Whether two answers are alike: what the slots of `Sketches.answers` estimate."""
    words_a, words_b = words(a), words(b)
    if min(len(words_a), len(words_b)) < LEAST_WORDS:
        return words_key(a, words_a) == words_key(b, words_b)
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
