"""Exact counts over a whole data set: how often each token occurs, and in how many rows. They merge exactly."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.flaw import Extras
from pyrite.audit.flaws.tokens.boilerplate import BOILERPLATE, phrases_in
from pyrite.audit.flaws.tokens.frequencies import RANKS, Z_RULE, at_equal_rows, id_density, slope
from pyrite.audit.flaws.tokens.tokenise import BLOCK, Array, Numbers, Pieces
from pyrite.audit.rows import Row

LARGEST_ID = 10_000_000
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
        texts = [row.answer for row in rows if row.answers]
        for text in texts:
            self.gathered.phrases.update(phrases_in(text))
        self.gathered.rows += len(texts)
        for block in _blocks(texts) if self.pieces else ():
            self.count(block)
        return {}

    def count(self, texts: Sequence[str]) -> None:
        """Tokens of some texts."""
        assert self.pieces is not None
        ids, bounds = self.pieces.ids(texts)
        if len(ids) and int(ids.max()) > LARGEST_ID:
            raise ValueError(f"the tokenizer gave the id {ids.max()}; ids above {LARGEST_ID} cannot be counted")
        self.gathered.tokens = _summed(self.gathered.tokens, np.bincount(ids))
        held = np.zeros(len(self.gathered.tokens), dtype=np.int64)
        for low, high in pairwise(bounds.tolist()):
            held[ids[low:high]] = held[ids[low:high]] + 1  # an id that stands twice is given the same value twice
        self.gathered.holding = _summed(self.gathered.holding, held)
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
    block: list[str] = []
    size = 0
    for text in texts:
        if block and size + len(text) > BLOCK:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text)
    if block:
        yield block


@dataclass
class Gathered:
    """Counts of a data set or a part. `tokens` and `holding` (rows) by token id; `phrases` by number: rows that hold
    it. `shown` gives, for a token id, the piece of text that shows it best: (ids in the piece, its length, the
    piece)."""

    rows: int = 0
    tokens: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    holding: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    phrases: Counter[int] = field(default_factory=Counter)
    shown: dict[int, tuple[int, int, str]] = field(default_factory=dict)

    def show(self, piece: str, ids: Sequence[int]) -> None:
        """Keep the piece where it shows a token better than what is known: fewest ids, shortest, first in order."""
        if len(piece) <= 40:
            mine = (len(ids), len(piece), piece)
            for token in ids:
                if token not in self.shown or mine < self.shown[token]:
                    self.shown[token] = mine

    def save(self, folder: Path) -> None:
        """Into a part's folder."""
        np.save(folder / "histogram.npy", self.tokens)
        np.save(folder / "rows.npy", self.holding)
        counts: dict[str, Any] = {"rows": self.rows}
        counts["phrases"] = {str(at): self.phrases[at] for at in sorted(self.phrases)}
        counts["shown"] = {str(token): self.shown[token] for token in sorted(self.shown)}
        (folder / "counts.json").write_text(json.dumps(counts))

    def text(self, token: int) -> str | None:
        """A token as readable text, or the piece that it is a part of; None where it was never seen in a short
        piece."""
        return shown_piece(self.shown[token][2], self.shown[token][0] == 1) if token in self.shown else None


def merged(folders: Sequence[Path]) -> Gathered:
    """The counts of all parts together; how rows were divided among them makes no difference."""
    gathered = Gathered()
    for folder in folders:
        counts = json.loads((folder / "counts.json").read_text())
        gathered.rows += counts["rows"]
        gathered.phrases.update({int(at): count for at, count in counts["phrases"].items()})
        gathered.tokens = _summed(gathered.tokens, np.load(folder / "histogram.npy", allow_pickle=False))
        gathered.holding = _summed(gathered.holding, np.load(folder / "rows.npy", allow_pickle=False))
        for token, (ids, length, piece) in counts["shown"].items():
            best = gathered.shown.get(int(token))
            gathered.shown[int(token)] = min(best, (ids, length, piece)) if best else (ids, length, piece)
    return gathered


def merge(
    folders: Sequence[Path],
    out: Path,
    extras: Extras,
    reference: Sequence[Path] = (),
    offsets: Sequence[int] = (),
) -> dict[str, Any]:
    """The tokens of the whole data set, and how they compare with those of the references at full size.

    Writes `histogram.npy` (int64, how often by token id) and `rows.npy` (rows that hold it) into `out`. Shares of
    `over_used` and `under_used` are of rows; `z` as in `frequencies.log_odds`, 3 or more. `density` is the paper's
    figure."""
    ours, theirs = merged(folders), merged(reference)
    np.save(out / "histogram.npy", ours.tokens)
    np.save(out / "rows.npy", ours.holding)
    totals: dict[str, Any] = {"rows": ours.rows}
    totals["boilerplate"] = {name: ours.phrases[at] for at, name in enumerate(BOILERPLATE) if ours.phrases[at]}
    if extras.tokenize is None:
        return totals
    totals |= {"tokens": int(ours.tokens.sum()), "distinct": int(np.count_nonzero(ours.tokens))}
    totals["zipf_slope"] = float(slope(ours.tokens[None, :])[0]) if totals["distinct"] > RANKS[0] else None
    size = max(len(ours.tokens), len(theirs.tokens))
    grid = np.linspace(0, max(size - 1, 1), POINTS)
    totals["density"] = {"grid": grid.tolist(), "data": id_density(ours.tokens, grid).tolist()}
    if theirs.rows:
        totals["density"]["reference"] = id_density(theirs.tokens, grid).tolist()
        totals |= {"over_used": most(ours, theirs), "under_used": most(theirs, ours, swapped=True)}
    return totals


def most(ours: Gathered, theirs: Gathered, limit: int = 50, *, swapped: bool = False) -> list[dict[str, Any]]:
    """The tokens that far more rows of ours hold, worst first. `swapped`: ours are the references."""
    size = max(len(ours.holding), len(theirs.holding))
    mine, reference_rows = (_summed(side.holding, np.zeros(size, dtype=np.int64)) for side in (ours, theirs))
    z = at_equal_rows(mine, reference_rows, ours.rows, theirs.rows)
    lines = []
    for token in np.argsort(-z, kind="stable")[:limit]:
        if z[token] < Z_RULE:
            break
        shares = [float(mine[token] / max(ours.rows, 1)), float(reference_rows[token] / max(theirs.rows, 1))]
        data, reference = shares[::-1] if swapped else shares
        line = {"token": int(token), "text": ours.text(int(token)), "data": data, "reference": reference}
        lines.append(line | {"z": float(z[token])})
    return lines


def _summed(old: Array, new: Array) -> Array:
    """The sum of two histograms that may differ in length."""
    total = np.zeros(max(len(old), len(new)), dtype=np.int64)
    total[: len(old)] += old
    total[: len(new)] += new
    return total


def shown_piece(piece: str, alone: bool) -> str:
    """A piece of text as people read it: `␣the`, or `(part of) “quixotry”` where the token is not the whole piece."""
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in piece)[:40]
    if alone:
        return "␣" + printable[1:] if printable.startswith(" ") else printable
    return f"(part of) {printable.strip()}"
