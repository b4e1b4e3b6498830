"""Token ids of many texts, quickly: each distinct piece of text (a word with the space before it) is
tokenised once, after a check that this changes nothing."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Tokenize = Callable[[Sequence[str]], list[list[int]]]

SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
STEM = rf"[{SPACE}]*+[!-;=-@\\-`{{-~]*+[A-Za-z]++(?![^\x00-\x7f])"
"""Space, marks, letters. No cut within what begins with `<` or `[`: `<|endoftext|>` may be one token."""
CUTS: Mapping[str, str] = {
    "words": rf"{STEM}|[{SPACE}]*+[^{SPACE}]++|[{SPACE}]+",
    "lines": rf"{STEM}|[{SPACE}]*+[^{SPACE}]++(?:[{SPACE}]*[\r\n]+)?|[{SPACE}]+",
    "spaces": rf"[{SPACE}]*+[^{SPACE}]++|[{SPACE}]+",
}
"""Where a text may be cut: between a letter and what is not one, and before the space of a word. `words`: GPT-2's kind
of byte-level BPE, WordPiece; `lines`: line ends stay with the mark before them (Llama 3, Qwen: `.\\n\\n` is one token);
`spaces`: before the space of a word only."""
PROBE = [
    "Well, I don't.\n\nNo  way! \n \n  1. A-b\t(c):\n\n\n- d\u3000e \xa0 f 42  ",
    "\n\n a ",
    "  x\r\n\r\ny?!\n",
    "«Ça»\n日本 語。\n",
]
CHECKED = 32
"""So many of the first texts, and `PROBE`, are tokenised whole as well before the cuts are believed."""
CACHE = 400_000
"""Distinct pieces kept, and at most 64 times as many characters; then the cache begins anew."""
LONGEST = 50_000
"""Characters of a piece: a longer one (base64, a line of one sign) is cut again, which changes a token at each cut. The time
that a tokenizer takes for one piece grows faster than its length."""
BLOCK = 4_000_000
"""Characters taken in at a time."""


class Numbers(dict[str, int]):
    """Numbers the pieces in the order in which they are first seen."""

    size = 0

    def __missing__(self, piece: str) -> int:
        number = self[piece] = len(self)
        self.size += len(piece)
        return number


def well_formed(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class Pieces:
    """Texts to token ids with a cache: each distinct piece (a word with the space before it) is tokenised once.

    `plan` names the cut (`CUTS`), or is "whole": no cut gives what the tokenizer gives for `PROBE` and the first texts,
    and every text is tokenised in full. It is found at the first call of `ids`, unless given.
    """

    def __init__(self, tokenize: Tokenize, plan: str | None = None) -> None:
        self.tokenize = tokenize
        self.plan = plan
        self.forget()

    def forget(self) -> None:
        """Begin with an empty cache."""
        self.index = Numbers()
        self.flat = array("i")
        self.ends = array("q", [0])

    def ids(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Token ids of all texts in a row [tokens], and where each text's begin and end [texts + 1]."""
        texts = [well_formed(text) for text in texts]
        if self.plan is None:
            self.plan = self.choose(texts[:CHECKED])
        if self.plan == "whole":
            return _joined(self.tokenize(texts) if texts else [])
        return self.expand(*self.places(texts))

    def choose(self, texts: Sequence[str]) -> str:
        """The first plan that gives what full tokenisation gives."""
        tried = [*PROBE, *(text[:20_000] for text in texts)]
        true = self.tokenize(tried)
        for plan in CUTS:
            ids, bounds = Pieces(self.tokenize, plan).ids(tried)
            if all(
                ids[low:high].tolist() == of_text for low, high, of_text in zip(bounds, bounds[1:], true, strict=False)
            ):
                return plan
        return "whole"

    def places(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Each text's pieces as numbers in the cache [pieces], and the texts' bounds [texts + 1]."""
        if len(self.index) > CACHE or self.index.size > 64 * CACHE:
            self.forget()
        cut, number = re.compile(CUTS[self.plan or "words"]), self.index.__getitem__
        numbers = [np.fromiter(map(number, _pieces(cut, text)), np.int32) for text in texts]
        self.learn()
        return _flat(numbers, np.int32)

    def learn(self) -> None:
        """Tokenise the pieces that were not seen before."""
        new = list(islice(self.index, len(self.ends) - 1, None))
        for ids in self.tokenize(new) if new else []:
            self.flat.extend(ids)
            self.ends.append(len(self.flat))

    def expand(self, places: Array, bounds: Array) -> tuple[Array, Array]:
        """Numbers of pieces -> token ids and bounds."""
        ends, flat = np.array(self.ends, dtype=np.int64), np.frombuffer(self.flat, dtype=np.int32)
        lengths = np.diff(ends)[places]
        done = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(ends[places] - done[:-1], lengths) + np.arange(done[-1])
        return flat[at], done[bounds]

    def of(self, number: int) -> list[int]:
        """The ids of a piece."""
        return self.flat[self.ends[number] : self.ends[number + 1]].tolist()


def _pieces(cut: "re.Pattern[str]", text: str) -> Iterable[str]:
    return cut.findall(text) if len(text) <= LONGEST else _bounded(match.group() for match in cut.finditer(text))


def _bounded(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        yield from (piece[at : at + LONGEST] for at in range(0, len(piece), LONGEST))


def _joined(lists: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    return _flat([np.array(ids, dtype=np.int32) for ids in lists], np.int32)


def _flat(parts: Sequence[Array], kind: Any) -> tuple[Array, Array]:
    bounds = np.cumsum([0, *(len(part) for part in parts)])
    return (np.concatenate(parts) if parts else np.empty(0)).astype(kind), bounds
