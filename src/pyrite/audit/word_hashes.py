"""The words of texts, and hashes of their n-grams: what copies and evaluation texts are found by.

Words are those of `pyrite.data.words`, without regard to case and Unicode's compatibility forms; all else (white space,
punctuation, symbols) only parts them. Work on one text is bounded: past its first `CHARACTERS` characters a text is
compared as it is written, and n-grams are taken of the first `WORDS` words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import xxhash

from pyrite.data.words import folded, plain_pattern, separated

Array = np.ndarray[Any, Any]

CHARACTERS = 200_000
WORDS = 20_000
AT_ONCE = 500_000
"""Words that are hashed at a time."""

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


def words_key(text: str, its_words: Sequence[bytes]) -> int:
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


def trigrams(its_words: Sequence[bytes]) -> Array:
    """The set of a text's word trigrams: sorted hashes."""
    return np.unique(grams(text_hashes([its_words[:WORDS]]), 3)[0].hashes)
