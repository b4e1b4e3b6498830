"""Are the tokens of the answers spread as people's are? Frequencies by the tokenizer of the model to be trained.

Every part keeps an exact histogram of token ids, how many rows hold each token, and how many rows hold each phrase of
known assistant boilerplate (`BOILERPLATE`): whole numbers, which merge exactly. The same counts on a sample give the
measures. A text's tokens come from a cache of its pieces (`Pieces`), after a check that this changes nothing.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.family import Contrast, Draws, Evidence, Extras, Floats, Measure, Population, numbered
from pyrite.audit.rows import Row

Array = np.ndarray[Any, Any]
Tokenize = Callable[[Sequence[str]], list[list[int]]]

DISTANCE = Measure(
    "tokens", "distance", "Are tokens used at other rates than in the references?", "bits",
    "Look at the most over- and under-used tokens, and mix in human text until the rates come nearer.",
)  # fmt: skip
ZIPF = Measure(
    "tokens", "zipf_slope", "Does frequency fall faster from common to rare tokens than in the references?", "slope",
    "Ask the generator for more varied wording (temperature, personas, seeds), or add human text.",
)  # fmt: skip
TAIL = Measure(
    "tokens", "tail_mass", "Has the data lost the rare tokens of the references?", "share",
    "Add text that holds rare words: names, numbers, subject matter that the generator left out.",
)  # fmt: skip
OVERUSE = Measure(
    "tokens", "overuse", "Is some token held by far more rows than in the references?", "z",
    "Rewrite or drop the rows that hold the over-used tokens, or ban those words at generation.",
)  # fmt: skip
PHRASES = Measure(
    "tokens", "boilerplate", "Do more rows hold stock phrases of assistants than in the references?", "share",
    "Strip the stock phrases from the answers, or drop the rows.",
)  # fmt: skip
MEASURES: tuple[Measure, ...] = (DISTANCE, ZIPF, TAIL, OVERUSE, PHRASES)

BOILERPLATE: Mapping[str, tuple[str, str]] = {
    "as an AI": ("as an ai", r"\bas an ai\b"),
    "as a language model": ("language model", r"\b(?:as|i am|i'm) (?:just )?an? (?:\w+ ){0,2}language model"),
    "I am an AI": ("an ai", r"\bi(?:'m| am) (?:just |only )?an ai\b"),
    "I don't have personal …": (
        "have personal", r"\bi (?:do not|don't) have personal (?:experience|opinion|feeling|belief|preference|emotion)",
    ),
    "I cannot help with": ("i can", r"\bi can(?:not|'t) (?:help|assist|fulfil|fulfill|comply|provide|engage)\b"),
    "I'm sorry, but I": ("sorry, but", r"\bi(?:'m| am) sorry, but i\b"),
    "I apologize for": ("apologi", r"\bi apologi[sz]e for (?:any|the) (?:confusion|inconvenience|mistake|error|misund)"),
    "knowledge cutoff": ("knowledge cut", r"\bknowledge cut-?off\b"),
    "as of my last …": ("as of my", r"\bas of my (?:last|latest|most recent|knowledge|training)\b"),
    "I hope this helps": ("i hope", r"\bi hope (?:this|that|these|it) help"),
    "let me know if": ("let me know if", r"\blet me know if (?:you|there|i)\b"),
    "feel free to": ("feel free to", r"\bfeel free to (?:ask|reach out|let me know|contact|modify|adjust|add)\b"),
    "happy to help": ("to help", r"\b(?:happy|glad|here) to help\b"),
    "is there anything else": ("anything else", r"\bis there anything else (?:you|i|that)\b"),
    "how can I assist you": ("how can i", r"\bhow can i (?:assist|help) you\b"),
    "it's important to note": (
        "important to", r"\bit(?:'s| is) (?:also )?important to (?:note|remember|mention|consider|understand|recogni)",
    ),
    "it's worth noting": ("worth ", r"\bit(?:'s| is) (?:also )?worth (?:noting|mentioning)\b"),
    "please note that": ("please note", r"\bplease note that\b"),
    "keep in mind that": ("keep in mind", r"\bkeep in mind that\b"),
    "in conclusion": ("in conclusion", r"\bin conclusion,"),
    "in summary": ("in summary", r"\bin summary,"),
    "to summarize": ("to summari", r"\bto summari[sz]e,"),
    "overall, …": ("overall,", r"^overall,"),
    "delve into": ("delv", r"\bdelv(?:e|es|ed|ing) (?:deep(?:er|ly)? )?into\b"),
    "let's dive in": ("let's ", r"\blet's (?:dive|delve|explore|break (?:it|this|down))\b"),
    "Certainly! …": ("certainly", r"^certainly[!,.:]"),
    "Sure! …": ("sure", r"^sure(?: thing)?[!,.:]"),
    "Of course! …": ("of course", r"^of course[!,.:]"),
    "Absolutely! …": ("absolutely", r"^absolutely[!,.:]"),
    "great question": ("question", r"\b(?:great|good|excellent) question[!.,]"),
    "Here is/are …:": ("here ", r"^here (?:is|are) (?:an?|the|some|\d+|one|two|three|four|five|ten|my)\b.{0,80}:"),
    "Here's …": ("here's", r"^here's (?:an?|the|some|my|how|your)\b"),
    "a testament to": ("testament to", r"\b(?:a|as) (?:\w+ )?testament to\b"),
    "tapestry of": ("tapestry", r"\btapestry of\b"),
    "plays a crucial role": (
        " role", r"\bplay(?:s|ed|ing)? an? (?:crucial|vital|pivotal|significant|key|important|essential) role\b",
    ),
    "ever-evolving": ("ever-", r"\bever-(?:evolving|changing)\b"),
    "in today's … world": ("in today's", r"\bin today's (?:fast-paced|digital|modern|ever|world|society|increasingly)"),
    "navigate the complexities": ("navigat", r"\bnavigat(?:e|es|ing) the (?:complex|challeng|world|landscape|intrica)"),
    "game-changer": ("changer", r"\bgame[- ]changer\b"),
    "in the realm of": ("realm of", r"\bin the realm of\b"),
    "unlock the potential": ("unlock", r"\bunlock(?:s|ing)? (?:the|your) (?:full |true )?(?:potential|power|secret)"),
    "step-by-step guide": ("step-by-step", r"\bhere (?:is|are) (?:an? |some )?(?:simple )?step-by-step\b"),
}  # fmt: skip
"""Name -> (what the lower-case text must hold, pattern in it). `^` is the beginning of a line. English only."""
_PATTERNS = [(needle, re.compile(pattern, re.M)) for needle, pattern in BOILERPLATE.values()]

SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
STEM = rf"[{SPACE}]*+[!-;=-@\\-`{{-~]*+[A-Za-z]++(?![^\x00-\x7f])"
"""Space, marks, letters. No cut within what begins with `<` or `[`: `<|endoftext|>` may be one token."""
CUTS: Mapping[str, str] = {
    "words": rf"{STEM}|[{SPACE}]*+[^{SPACE}]++|[{SPACE}]+",
    "lines": rf"{STEM}|[{SPACE}]*+[^{SPACE}]++(?:[{SPACE}]*[\r\n]+)?|[{SPACE}]+",
    "spaces": rf"[{SPACE}]*+[^{SPACE}]++|[{SPACE}]+",
}
"""Where a text may be cut: between a letter and what is not one, and before the space of a word. `words`: GPT-2's kind of
byte-level BPE, WordPiece; `lines`: line ends stay with the mark before them (Llama 3, Qwen: `.\\n\\n` is one token);
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
BLOCK = 4_000_000
"""Characters taken in at a time."""
LARGEST_ID = 10_000_000

HEAD = 1000
"""`tail_mass`: the tail is all but so many of the commonest tokens, or but a tenth of the sample's distinct tokens."""
RANKS = (10, 1000)
HELD = 5
"""`overuse` looks at tokens that so many rows of the sample hold: none rarer can reach a large z."""
Z_RULE = 3.0
"""With the pooled counts as prior, z has a standard deviation of 0.58 under the null, so 3 is five of them."""
POINTS = 256


class _Index(dict[str, int]):
    """Numbers the pieces in the order in which they are first seen."""

    size = 0

    def __missing__(self, piece: str) -> int:
        number = self[piece] = len(self)
        self.size += len(piece)
        return number


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class Pieces:
    """What are the token ids of these texts? Each distinct piece (a word with the space before it) is tokenised once.

    `plan` names the cut (`CUTS`), or is "whole": no cut gives what the tokenizer gives for `PROBE` and the first texts,
    and every text is tokenised in full. It is found at the first call of `ids`, unless given.
    """

    def __init__(self, tokenize: Tokenize, plan: str | None = None) -> None:
        self.tokenize = tokenize
        self.plan = plan
        self.forget()

    def forget(self) -> None:
        """Begin with an empty cache."""
        self.index = _Index()
        self.flat = array("i")
        self.ends = array("q", [0])

    def ids(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Token ids of all texts in a row [tokens], and where each text's begin and end [texts + 1]."""
        texts = [clean(text) for text in texts]
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
            if all(ids[low:high].tolist() == one for low, high, one in zip(bounds, bounds[1:], true, strict=False)):
                return plan
        return "whole"

    def places(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Each text's pieces as numbers in the cache [pieces], and the texts' bounds [texts + 1]."""
        if len(self.index) > CACHE or self.index.size > 64 * CACHE:
            self.forget()
        cut, number = re.compile(CUTS[self.plan or "words"]), self.index.__getitem__
        made = [np.fromiter(map(number, _pieces(cut, text)), np.int32) for text in texts]
        self.learn()
        return _flat(made, np.int32)

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
    return cut.findall(text) if len(text) < BLOCK else (found.group() for found in cut.finditer(text))


def _joined(lists: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    return _flat([np.array(ids, dtype=np.int32) for ids in lists], np.int32)


def _flat(parts: Sequence[Array], kind: Any) -> tuple[Array, Array]:
    bounds = np.cumsum([0, *(len(part) for part in parts)])
    return (np.concatenate(parts) if parts else np.empty(0)).astype(kind), bounds


def phrases_in(text: str) -> list[int]:
    """Which phrases of `BOILERPLATE` (numbers) does a text hold?"""
    low = text.lower().replace("’", "'")
    return [at for at, (needle, pattern) in enumerate(_PATTERNS) if needle in low and pattern.search(low)]


def log_odds(ours: Array, theirs: Array, all_ours: Any, all_theirs: Any) -> Array:
    """How far is each token over-used, as a z-score?

    Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words", eq. 16, 20
    and 22). The counts are rows that hold the token, so that one odd row cannot make a score, and the prior is the
    pooled counts. ours, theirs: [tokens, …]; all_ours, all_theirs: their sums over all tokens [...]. 0 where no row
    holds the token. Under the null its standard deviation is 1 / sqrt(3), since the prior counts each row twice.
    """
    prior = ours + theirs
    safe = np.where(prior > 0, prior, 1)
    every = all_ours + all_theirs
    up, down = ours + safe, theirs + safe
    ratio = np.log(up / (all_ours + every - up + 1e-9)) - np.log(down / (all_theirs + every - down + 1e-9))
    return np.where(prior > 0, ratio / np.sqrt(1 / up + 1 / down), 0)


def at_equal_rows(ours: Array, theirs: Array, n_ours: int, n_theirs: int) -> Array:
    """`log_odds` [tokens] as if the larger side had as many rows as the smaller: its counts would make up the prior."""
    n = min(n_ours, n_theirs)
    mine, other = ours * (n / max(n_ours, 1)), theirs * (n / max(n_theirs, 1))
    return log_odds(mine, other, mine.sum(), other.sum())


def slope(counts: Array) -> Floats:
    """The slope of log frequency over log rank (Zipf's law: about -1), for each line of counts [lines, tokens].

    Least squares over 40 ranks from 10 to 1000, evenly spaced in their logarithm; ranks without a token are left out,
    and a line with fewer than two ranks has slope 0.
    """
    high = min(RANKS[1], counts.shape[1])
    ranks = np.unique(np.geomspace(min(RANKS[0], high), high, 40).round().astype(int)) if high else np.empty(0, int)
    kept = np.sort(np.partition(counts, -high, axis=1)[:, -high:], axis=1) if high else counts
    y = kept[:, high - ranks].astype(np.float64)
    used = (y > 0).astype(np.float64)
    n = np.maximum(used.sum(axis=1), 1)
    x, y = np.log(np.maximum(ranks, 1))[None, :], np.log(np.maximum(y, 1))
    away = (x - ((used * x).sum(axis=1) / n)[:, None]) * used
    squares = (away * away).sum(axis=1)
    return np.where(squares > 0, (away * y).sum(axis=1) / np.maximum(squares, 1e-12), 0.0)


class Stream:
    """Counts tokens, rows that hold each token, and rows that hold each phrase of boilerplate; exact whole numbers."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder = folder
        self.pieces = Pieces(extras.tokenize) if extras.tokenize else None
        self.gathered = Gathered()
        self.index, self.seen = _Index(), 0

    def add(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        """Take rows in; there are no columns."""
        texts = [row.answer for row in rows]
        for text in texts:
            self.gathered.phrases.update(phrases_in(text))
        self.gathered.rows += len(rows)
        for block in _blocks(texts) if self.pieces else ():
            self.count(block)
        return {}

    def count(self, texts: Sequence[str]) -> None:
        """Tokens of some texts."""
        assert self.pieces is not None
        ids, bounds = self.pieces.ids(texts)
        if len(ids) and int(ids.max()) > LARGEST_ID:
            raise ValueError(f"the tokenizer gave the id {ids.max()}; ids above {LARGEST_ID} cannot be counted")
        self.gathered.tokens = _grown(self.gathered.tokens, np.bincount(ids))
        held = np.zeros(len(self.gathered.tokens), dtype=np.int64)
        for low, high in pairwise(bounds.tolist()):
            held[ids[low:high]] = held[ids[low:high]] + 1  # an id that stands twice is given the same value twice
        self.gathered.holding = _grown(self.gathered.holding, held)
        if self.pieces.index is not self.index:
            self.index, self.seen = self.pieces.index, 0
        for number, piece in enumerate(islice(self.index, self.seen, None), self.seen):
            self.gathered.show(piece, self.pieces.of(number))
        self.seen = len(self.index)

    def close(self) -> None:
        """Write the counts."""
        self.gathered.save(self.folder)


def _blocks(texts: Sequence[str]) -> Iterable[list[str]]:
    """Texts, so many at a time that they come to about `BLOCK` characters."""
    some: list[str] = []
    size = 0
    for text in texts:
        if some and size + len(text) > BLOCK:
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text)
    if some:
        yield some


def _grown(old: Array, new: Array) -> Array:
    """The sum of two histograms that may differ in length."""
    made = np.zeros(max(len(old), len(new)), dtype=np.int64)
    made[: len(old)] += old
    made[: len(new)] += new
    return made


@dataclass
class Gathered:
    """Counts of a data set or a part. `tokens` and `holding` (rows) by token id; `phrases` by number: rows that hold it.
    `shown` gives, for a token id, the piece of text that shows it best: (ids in the piece, its length, the piece)."""

    rows: int = 0
    tokens: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    holding: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    phrases: Counter[int] = field(default_factory=Counter)
    shown: dict[int, tuple[int, int, str]] = field(default_factory=dict)

    def show(self, piece: str, ids: Sequence[int]) -> None:
        """Keep the piece where it shows a token better than what is known: fewest ids, shortest, first in order."""
        if len(piece) <= 40:
            mine = (len(ids), len(piece), piece)
            for one in ids:
                if one not in self.shown or mine < self.shown[one]:
                    self.shown[one] = mine

    def save(self, folder: Path) -> None:
        """Into a part's folder."""
        np.save(folder / "histogram.npy", self.tokens)
        np.save(folder / "rows.npy", self.holding)
        told: dict[str, Any] = {"rows": self.rows}
        told["phrases"] = {str(at): self.phrases[at] for at in sorted(self.phrases)}
        told["shown"] = {str(one): self.shown[one] for one in sorted(self.shown)}
        (folder / "counts.json").write_text(json.dumps(told))

    def text(self, token: int) -> str | None:
        """A token as readable text, or the piece that it is a part of; None where it was never seen in a short piece."""
        return told_piece(self.shown[token][2], self.shown[token][0] == 1) if token in self.shown else None


def told_piece(piece: str, alone: bool) -> str:
    """A piece of text as people read it: `␣the`, or `(part of) “quixotry”` where the token is not the whole piece."""
    seen = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in piece)[:40]
    if alone:
        return "␣" + seen[1:] if seen.startswith(" ") else seen
    return f"(part of) {seen.strip()}"


def merged(folders: Sequence[Path]) -> Gathered:
    """The counts of all parts together; how rows were divided among them makes no difference."""
    whole = Gathered()
    for folder in folders:
        told = json.loads((folder / "counts.json").read_text())
        whole.rows += told["rows"]
        whole.phrases.update({int(at): count for at, count in told["phrases"].items()})
        whole.tokens = _grown(whole.tokens, np.load(folder / "histogram.npy", allow_pickle=False))
        whole.holding = _grown(whole.holding, np.load(folder / "rows.npy", allow_pickle=False))
        for one, (ids, length, piece) in told["shown"].items():
            known = whole.shown.get(int(one))
            whole.shown[int(one)] = min(known, (ids, length, piece)) if known else (ids, length, piece)
    return whole


def whole(folders: Sequence[Path], out: Path, extras: Extras, reference: Sequence[Path] = ()) -> dict[str, Any]:
    """Which tokens does the whole data set hold, and how do they compare with the references at full size?

    Writes `histogram.npy` (int64, how often by token id) and `rows.npy` (rows that hold it) into `out`. Shares of
    `over_used` and `under_used` are of rows; `z` as in `log_odds`, 3 or more. `density` is the paper's figure.
    """
    ours, theirs = merged(folders), merged(reference)
    np.save(out / "histogram.npy", ours.tokens)
    np.save(out / "rows.npy", ours.holding)
    told: dict[str, Any] = {"rows": ours.rows}
    told["boilerplate"] = {name: ours.phrases[at] for at, name in enumerate(BOILERPLATE) if ours.phrases[at]}
    if extras.tokenize is None:
        return told
    told |= {"tokens": int(ours.tokens.sum()), "distinct": int(np.count_nonzero(ours.tokens))}
    told["zipf_slope"] = float(slope(ours.tokens[None, :])[0]) if told["distinct"] > RANKS[0] else None
    size = max(len(ours.tokens), len(theirs.tokens))
    grid = np.linspace(0, max(size - 1, 1), POINTS)
    told["density"] = {"grid": grid.tolist(), "data": density(ours.tokens, grid).tolist()}
    if theirs.rows:
        told["density"]["reference"] = density(theirs.tokens, grid).tolist()
        told |= {"over_used": most(ours, theirs), "under_used": most(theirs, ours, swapped=True)}
    return told


def density(histogram: Array, grid: Floats) -> Floats:
    """How are the occurrences spread over token ids? A Gaussian kernel density estimate at the points of the grid.

    What `scipy.stats.gaussian_kde` gives for every occurrence as a point of its own, with Scott's bandwidth (standard
    deviation times n^(-1/5), n occurrences), computed from the histogram. Zeros where there is no spread.
    """
    ids = np.flatnonzero(histogram)
    weights = histogram[ids].astype(np.float64)
    n = weights.sum()
    if len(ids) < 2:
        return np.zeros(len(grid))
    mean = (weights * ids).sum() / n
    width = float(np.sqrt((weights * (ids - mean) ** 2).sum() / (n - 1)) * n ** (-1 / 5))
    made = [np.exp(-0.5 * ((at - ids) / width) ** 2) @ weights for at in grid]
    return np.asarray(np.array(made) / (n * width * np.sqrt(2 * np.pi)), dtype=np.float64)


def most(ours: Gathered, theirs: Gathered, limit: int = 50, *, swapped: bool = False) -> list[dict[str, Any]]:
    """The tokens that far more rows of ours hold, worst first. `swapped`: ours are the references."""
    size = max(len(ours.holding), len(theirs.holding))
    mine, other = (_grown(one.holding, np.zeros(size, dtype=np.int64)) for one in (ours, theirs))
    z = at_equal_rows(mine, other, ours.rows, theirs.rows)
    made = []
    for token in np.argsort(-z, kind="stable")[:limit]:
        if z[token] < Z_RULE:
            break
        shares = [float(mine[token] / max(ours.rows, 1)), float(other[token] / max(theirs.rows, 1))]
        data, reference = shares[::-1] if swapped else shares
        line = {"token": int(token), "text": ours.text(int(token)), "data": data, "reference": reference}
        made.append(line | {"z": float(z[token])})
    return made


@dataclass(frozen=True)
class Sample:
    """Token counts of a sample: `counts` sparse [tokens, rows] fp32, `ids` of the tokens that occur."""

    counts: Any
    ids: Array

    @property
    def held(self) -> Any:
        """1 where a row holds a token."""
        made = self.counts.copy()
        made.data[:] = 1
        return made


def counted(rows: Sequence[Row], tokenize: Tokenize) -> Sample:
    """The token counts of a sample's answers."""
    from scipy.sparse import csr_matrix

    ids, bounds = Pieces(tokenize).ids([row.answer for row in rows])
    kinds, at = np.unique(ids, return_inverse=True)
    row = np.repeat(np.arange(len(rows)), np.diff(bounds))
    counts = csr_matrix((np.ones(len(ids), dtype=np.float32), (at, row)), shape=(len(kinds), len(rows)))
    counts.sum_duplicates()
    return Sample(counts, kinds)


def sums(counts: Any, a: Draws, b: Draws) -> tuple[Array, Array]:
    """Sums of sparse [tokens, rows] over groups of rows: two of [tokens, draws]."""
    ours = counts @ np.ascontiguousarray(a.T)
    both = a + b
    if (both == both[0]).all():
        return ours, (counts @ both[0])[:, None] - ours
    return ours, counts @ np.ascontiguousarray(b.T)


def contrasts(rows: Sequence[Row], extras: Extras) -> list[Contrast]:
    """The five measures; without a tokenizer, boilerplate alone."""
    marked = np.array([bool(phrases_in(row.answer)) for row in rows], dtype=np.float64)

    def boilerplate(a: Draws, b: Draws) -> Floats:
        return np.asarray((a @ marked) / a.sum(axis=1) - (b @ marked) / b.sum(axis=1), dtype=np.float64)

    made = [Contrast(PHRASES, boilerplate)]
    if extras.tokenize is None:
        return made
    sample = counted(rows, extras.tokenize)
    if len(sample.ids) <= 2 * RANKS[0]:
        return made
    return [
        Contrast(DISTANCE, divergence(sample)), Contrast(ZIPF, steeper(sample)), Contrast(TAIL, tail(sample)),
        Contrast(OVERUSE, overuse(sample)), *made,
    ]  # fmt: skip


def divergence(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """Jensen-Shannon divergence of two groups' token frequencies, in bits (Lin 1991).

    A token that one row alone holds is in one group alone, where it adds half its share: those are summed by row.
    """
    held = np.diff(sample.counts.indptr)
    lone = np.asarray(sample.counts[held == 1].sum(axis=0)).ravel().astype(np.float64)
    size = np.asarray(sample.counts.sum(axis=0)).ravel().astype(np.float64)
    shared = sample.counts[held > 1]
    least = np.float32(1e-30)

    def statistic(a: Draws, b: Draws) -> Floats:
        n_a, n_b = np.maximum(a @ size, 1), np.maximum(b @ size, 1)
        p, q = sums(shared, a, b)
        p, q = p / n_a.astype(np.float32), q / n_b.astype(np.float32)
        middle = np.maximum((p + q) / 2, least)
        bits = p * np.log2(np.maximum(p / middle, least)) + q * np.log2(np.maximum(q / middle, least))
        return np.asarray((bits.sum(axis=0, dtype=np.float64) + (a @ lone) / n_a + (b @ lone) / n_b) / 2)

    return statistic


def steeper(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """How much steeper than b's does a's frequency fall with rank?"""

    def statistic(a: Draws, b: Draws) -> Floats:
        ours, theirs = sums(sample.counts, a, b)
        return slope(np.ascontiguousarray(theirs.T)) - slope(np.ascontiguousarray(ours.T))

    return statistic


def tail(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """How much more of b's text than of a's are tokens outside the commonest of both together?"""
    size = np.asarray(sample.counts.sum(axis=0)).ravel().astype(np.float64)
    head = max(1, min(HEAD, len(sample.ids) // 10))

    def in_head(pooled: Array) -> Array:
        """How many tokens of each row are of the commonest."""
        common = np.argsort(-(sample.counts @ pooled), kind="stable")[:head]
        chosen = np.zeros(len(sample.ids), dtype=np.float32)
        chosen[common] = 1
        return np.asarray(sample.counts.T @ chosen, dtype=np.float64)

    def statistic(a: Draws, b: Draws) -> Floats:
        n_a, n_b = np.maximum(a @ size, 1), np.maximum(b @ size, 1)
        both = a + b
        if (both == both[0]).all():
            common = in_head(both[0])
            return np.asarray((a @ common) / n_a - (b @ common) / n_b)
        each = [in_head(one) for one in both]
        heads = [(float(x @ one), float(y @ one)) for x, y, one in zip(a, b, each, strict=True)]
        return np.array([x for x, _ in heads]) / n_a - np.array([y for _, y in heads]) / n_b

    return statistic


def overuse(sample: Sample) -> Callable[[Draws, Draws], Floats]:
    """The largest z-score (`log_odds`) of any token that at least `HELD` rows of the sample hold."""
    held = sample.held
    size = np.asarray(held.sum(axis=0)).ravel().astype(np.float32)
    often = held[np.diff(held.indptr) >= HELD]

    def statistic(a: Draws, b: Draws) -> Floats:
        if not often.shape[0]:
            return np.zeros(len(a))
        return np.asarray(log_odds(*sums(often, a, b), a @ size, b @ size).max(axis=0), dtype=np.float64)

    return statistic


@dataclass(frozen=True)
class View:
    """Data against pooled references, token by token. `ours`, `theirs`: occurrences; `rows_ours`, `rows_theirs`: rows that
    hold the token; each fp64 [tokens]. `n`: rows of data, then of references."""

    sample: Sample
    texts: Sequence[str]
    tokenize: Tokenize
    n: tuple[int, int]
    ours: Array
    theirs: Array
    rows_ours: Array
    rows_theirs: Array

    def shares(self) -> tuple[Array, Array]:
        """Of all tokens, by token."""
        return self.ours / max(self.ours.sum(), 1), self.theirs / max(self.theirs.sum(), 1)

    def names(self, places: Sequence[int], *, under: bool = False) -> list[str]:
        """Tokens (places in the sample) as people read them, from the pieces in which the two sides differ most."""
        pieces, lead, owner, flat, known = self.known
        made = []
        for token in self.sample.ids[list(places)]:
            holding = np.unique(owner[flat == token])
            if not len(holding):
                made.append(f"token {token}")
                continue
            best = int(holding[np.argmax(-lead[holding] if under else lead[holding])])
            made.append(told_piece(known[best], len(pieces.of(best)) == 1))
        return made

    @cached_property
    def known(self) -> tuple[Pieces, Array, Array, Array, list[str]]:
        """Pieces, by how much more often they stand in the data; which piece each of their ids is of; ids; texts."""
        pieces = Pieces(self.tokenize, "words")
        at, bounds = pieces.places([clean(text[:20_000]) for text in self.texts])
        split = bounds[self.n[0]]
        ours, theirs = (np.bincount(some, minlength=len(pieces.index)) for some in (at[:split], at[split:]))
        lead = ours / max(ours.sum(), 1) - theirs / max(theirs.sum(), 1)
        owner = np.repeat(np.arange(len(pieces.index)), np.diff(np.array(pieces.ends)))
        return pieces, lead, owner, np.array(pieces.flat), list(pieces.index)

    def rows_with(self, places: Sequence[int]) -> tuple[int, ...]:
        """Rows of the data that hold most of these tokens, at most 20."""
        count = np.asarray(self.sample.held[list(places)].sum(axis=0)).ravel()[: self.n[0]]
        return tuple(int(at) for at in np.argsort(-count, kind="stable")[:20] if count[at])


def viewed(data: Sequence[Row], human: Sequence[Row], tokenize: Tokenize) -> View:
    """Count both sides."""
    rows = [*data, *human]
    sample = counted(rows, tokenize)
    a = np.zeros((1, len(rows)), dtype=np.float32)
    a[:, : len(data)] = 1
    ours, theirs = sums(sample.counts, a, 1 - a)
    rows_ours, rows_theirs = sums(sample.held, a, 1 - a)
    made = (one[:, 0].astype(np.float64) for one in (ours, theirs, rows_ours, rows_theirs))
    return View(sample, [row.answer for row in rows], tokenize, (len(data), len(human)), *made)


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The tokens, phrases or figures that show a finding, as text; the rule for overuse and boilerplate."""
    human = [row for one in references.values() for row in one.rows]
    if measure == PHRASES.name:
        return numbered(phrase_evidence(data, list(references.values())), data)
    if extras.tokenize is None:
        return Evidence()
    if measure in (ZIPF.name, TAIL.name):
        n = min(len(data.rows), len(human)) or len(data.rows)
        return shape_evidence(measure, viewed(data.rows[:n], _spread(human, n), extras.tokenize))
    view = viewed(data.rows, human, extras.tokenize)
    return numbered(rate_evidence(view) if measure == DISTANCE.name else overuse_evidence(view), data)


def _spread(rows: Sequence[Row], n: int) -> list[Row]:
    """n rows from all over."""
    return [rows[at * len(rows) // n] for at in range(n)] if rows else []


def percent(share: float) -> str:
    """`12 %`, `0.4 %`."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.2g} %"


def rate_evidence(view: View) -> Evidence:
    """Which tokens make the distance? The largest parts of the divergence, on either side."""
    ours, theirs = view.shares()
    if not view.n[1]:
        top = np.argsort(-ours, kind="stable")[:10].tolist()
        named = zip(view.names(top), top, strict=True)
        return Evidence(tuple(f"“{name}”: {percent(ours[at])} of tokens" for name, at in named))
    middle = np.maximum((ours + theirs) / 2, 1e-300)
    part = ours * np.log2(np.maximum(ours / middle, 1e-300)) + theirs * np.log2(np.maximum(theirs / middle, 1e-300))
    order = np.argsort(-part, kind="stable")
    lead = ours - theirs
    over, under = ([int(at) for at in order[:200] if sign * lead[at] > 0][:5] for sign in (1, -1))
    lines: list[str] = []
    values: list[dict[str, Any]] = []
    for word, some in (("over", over), ("under", under)):
        for at, name in zip(some, view.names(some, under=word == "under"), strict=True):
            lines.append(f"{word}-used: “{name}”, {percent(ours[at])} of tokens (references {percent(theirs[at])})")
            line = {"token": int(view.sample.ids[at]), "text": name, "used": word}
            values.append(line | {"data": float(ours[at]), "reference": float(theirs[at]), "bits": float(part[at]) / 2})
    return Evidence(tuple(lines), view.rows_with(over), {"tokens": values})


def shape_evidence(measure: str, view: View) -> Evidence:
    """Slopes, or shares outside the commonest tokens, at an equal number of rows."""
    both = [some for some, n in zip((view.ours, view.theirs), view.n, strict=True) if n]
    head = max(1, min(HEAD, len(view.sample.ids) // 10))
    common = np.argsort(-(view.ours + view.theirs), kind="stable")[:head]
    told: dict[str, list[Any]] = {
        "slope": [float(slope(one[None, :])[0]) for one in both],
        "tail": [float(1 - one[common].sum() / max(one.sum(), 1)) for one in both],
        "ten": [float(np.sort(one)[::-1][:10].sum() / max(one.sum(), 1)) for one in both],
        "distinct": [int(np.count_nonzero(one)) for one in both],
    }
    says = {
        "slope": ("frequency falls with rank at a slope of {}", "{:.3f}"),
        "tail": (f"tokens outside the {head:,} commonest make up {{}}", "{:.1%}"),
        "ten": ("the ten commonest tokens make up {}", "{:.1%}"),
        "distinct": (f"{view.n[0]:,} rows hold {{}} distinct tokens", "{:,}"),
    }
    order = ["slope", "ten", "distinct"] if measure == ZIPF.name else ["tail", "distinct"]
    made = []
    for key in order:
        text, form = says[key]
        values = [form.format(value).replace("%", " %") for value in told[key]]
        made.append(text.format(values[0]) + (f" (references {values[1]})" if len(values) > 1 else ""))
    return Evidence(tuple(made), values={key: told[key] for key in order} | {"rows": view.n[0]})


def overuse_evidence(view: View, limit: int = 30) -> Evidence:
    """The most over-used tokens, and the rule that marks rows with them.

    The rule takes tokens with z >= 3 that at least 1 % of the data's rows hold, at least three times the references'
    share, and at most a tenth of the references' rows (so no function word): the `limit` worst of them. One of them
    is enough for a row to be marked where its share is ten times the references', so that nine in ten such rows are in
    excess, or where there is no other; else it takes two.
    """
    ours, theirs = view.rows_ours / max(view.n[0], 1), view.rows_theirs / max(view.n[1], 1)
    if not view.n[1]:
        top = np.argsort(-ours, kind="stable")[:10].tolist()
        return Evidence(
            tuple(f"“{a}”: in {percent(ours[b])} of rows" for a, b in zip(view.names(top), top, strict=True))
        )
    z = at_equal_rows(view.rows_ours, view.rows_theirs, *view.n)
    order = np.argsort(-z, kind="stable")
    low = np.flatnonzero((z >= Z_RULE) & (ours >= 0.01) & (ours >= 3 * theirs) & (theirs <= 0.1))
    chosen = low[np.argsort(-z[low], kind="stable")][:limit].tolist()
    shown = list(dict.fromkeys([*chosen[:7], *order[:3].tolist()]))
    under: list[int] = [at for at in order[::-1][:3].tolist() if z[at] <= -Z_RULE]
    named = [*zip(view.names(shown), shown, strict=True), *zip(view.names(under, under=True), under, strict=True)]
    lines = [
        f"“{name}”: in {percent(ours[at])} of rows (references {percent(theirs[at])}), z = {z[at]:.1f}"
        for name, at in named
    ]
    values = [{"token": int(view.sample.ids[at]), "text": name, "data": float(ours[at]), "reference": float(theirs[at]),
               "z": float(z[at])} for name, at in zip(view.names(chosen), chosen, strict=True)]  # fmt: skip
    sure = [len(chosen) == 1 or ours[at] >= 10 * theirs[at] for at in chosen]
    weights = [0.5 if one else 0.25 for one in sure]
    rule = {"tokens": view.sample.ids[chosen].tolist(), "weights": weights} if chosen else None
    return Evidence(tuple(lines), view.rows_with(chosen or shown), {"tokens": values}, rule)


def phrase_evidence(data: Population, references: Sequence[Population]) -> Evidence:
    """Which stock phrases, in how many rows? At full size where the whole data set was counted."""
    ours, n = _phrases([data])
    theirs, n_human = _phrases(references)
    names = list(BOILERPLATE)
    share = {at: ours[at] / max(n, 1) for at in ours}
    human = {at: theirs[at] / max(n_human, 1) for at in ours}
    order = sorted((at for at in ours if ours[at]), key=lambda at: (human[at] - share[at], at))
    of = [f" (references {percent(human[at])})" if n_human else "" for at in order]
    lines = [f"“{names[at]}” is in {percent(share[at])} of rows{end}" for at, end in zip(order[:8], of, strict=False)]
    count = [len(phrases_in(row.answer)) for row in data.rows]
    worst = sorted((at for at, many in enumerate(count) if many), key=lambda at: (-count[at], at))[:20]
    values = {names[at]: {"data": share[at], "reference": human[at] if n_human else None} for at in order}
    return Evidence(tuple(lines), tuple(worst), {"phrases": values}, {"phrases": "any"} if worst else None)


def _phrases(some: Sequence[Population]) -> tuple[Counter[int], int]:
    """Rows that hold each phrase (by number), and rows."""
    number = {name: at for at, name in enumerate(BOILERPLATE)}
    made: Counter[int] = Counter()
    n = 0
    for one in some:
        if "boilerplate" in one.whole:
            made.update({number[name]: count for name, count in one.whole["boilerplate"].items()})
            n += one.whole["rows"]
        else:
            for row in one.rows:
                made.update(phrases_in(row.answer))
            n += len(one.rows)
    return made, n


def marks(
    rows: Sequence[Row], rules: Mapping[str, Mapping[str, Any]], extras: Extras, folder: Path | None
) -> dict[str, Array]:
    """How strongly does each row show over-used tokens and boilerplate?

    Overuse: the sum of the weights (a quarter or a half) of the over-used tokens that the row holds. Boilerplate: a half for
    one phrase, a quarter for each further one. Both up to 1.
    """
    made: dict[str, Array] = {}
    if PHRASES.name in rules:
        count = np.array([len(phrases_in(row.answer)) for row in rows], dtype=np.float32)
        made[PHRASES.name] = np.where(count > 0, np.minimum(0.25 + 0.25 * count, 1), 0).astype(np.float32)
    if OVERUSE.name in rules and extras.tokenize is not None:
        rule = rules[OVERUSE.name]
        sample = counted(rows, extras.tokenize)
        weight = dict(zip(rule["tokens"], rule["weights"], strict=True))
        each = np.array([weight.get(token, 0.0) for token in sample.ids.tolist()])
        made[OVERUSE.name] = np.minimum(sample.held.T @ each, 1).astype(np.float32)
    return made
