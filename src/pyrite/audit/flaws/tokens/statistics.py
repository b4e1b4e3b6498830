"""Are the tokens of the answers spread as people's are? Frequencies by the tokenizer of the model to be trained.

Every part keeps an exact histogram of token ids, how many rows hold each token, and how many rows hold each phrase of
known assistant boilerplate (`pyrite.audit.flaws.tokens.boilerplate`): whole numbers, which merge exactly. The same counts on a sample
give the measures. A text's tokens come from a cache of its pieces (`pyrite.audit.flaws.tokens.tokenise`).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Contrast, Draws, Extras, Floats, Measure
from pyrite.audit.flaws.tokens.boilerplate import BOILERPLATE, phrases_in
from pyrite.audit.flaws.tokens.frequencies import RANKS, at_equal_rows, density, log_odds, slope
from pyrite.audit.flaws.tokens.tokenise import BLOCK, Numbers, Pieces, Tokenize
from pyrite.audit.rows import Row

Array = np.ndarray[Any, Any]

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

LARGEST_ID = 10_000_000

HEAD = 1000
"""`tail_mass`: the tail is all but so many of the commonest tokens, or but a tenth of the sample's distinct tokens."""
HELD = 5
"""`overuse` looks at tokens that so many rows of the sample hold: none rarer can reach a large z."""
Z_RULE = 3.0
"""With the pooled counts as prior, z has a standard deviation of 0.58 under the null, so 3 is five of them."""
POINTS = 256


class Stream:
    """Counts tokens, rows that hold each token, and rows that hold each phrase of boilerplate; exact whole numbers."""

    def __init__(self, folder: Path, extras: Extras) -> None:
        self.folder = folder
        self.pieces = Pieces(extras.tokenize) if extras.tokenize else None
        self.gathered = Gathered()
        self.index, self.seen = Numbers(), 0

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
    `over_used` and `under_used` are of rows; `z` as in `frequencies.log_odds`, 3 or more. `density` is the paper's figure.
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

    answered = [at for at, row in enumerate(rows) if row.answer.strip()]
    made = [Contrast(PHRASES, boilerplate, answered)]
    if extras.tokenize is None:
        return made
    sample = counted(rows, extras.tokenize)
    if len(sample.ids) <= 2 * RANKS[0]:
        return made
    return [
        Contrast(DISTANCE, divergence(sample), answered),
        Contrast(ZIPF, steeper(sample), answered),
        Contrast(TAIL, tail(sample), answered),
        Contrast(OVERUSE, overuse(sample), answered),
        *made,
    ]


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
