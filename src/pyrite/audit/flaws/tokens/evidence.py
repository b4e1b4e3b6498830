"""What shows that tokens or stock phrases are used otherwise than by people: which ones, and how often."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pyrite.audit.flaw import Evidence, Extras, Population, answered, numbered
from pyrite.audit.flaws.tokens.boilerplate import BOILERPLATE, phrases_in
from pyrite.audit.flaws.tokens.frequencies import Z_RULE, at_equal_rows, slope
from pyrite.audit.flaws.tokens.statistics import (
    DISTANCE,
    HEAD,
    PHRASES,
    TAIL,
    ZIPF,
    Sample,
    sums,
    token_counts,
)
from pyrite.audit.flaws.tokens.stream import shown_piece
from pyrite.audit.flaws.tokens.tokenise import Array, Pieces, Tokenize, well_formed
from pyrite.audit.rows import Row
from pyrite.audit.wording import percent


@dataclass(frozen=True)
class View:
    """Data against pooled references, token by token. `ours`, `theirs`: occurrences; `rows_ours`, `rows_theirs`: rows
    that hold the token; each fp64 [tokens]. `n`: rows of data, then of references."""

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
        pieces, lead, owner, flat, texts = self.seen_pieces
        names = []
        for token in self.sample.ids[list(places)]:
            holding = np.unique(owner[flat == token])
            if not len(holding):
                names.append(f"token {token}")
                continue
            best = int(holding[np.argmax(-lead[holding] if under else lead[holding])])
            names.append(shown_piece(texts[best], len(pieces.of(best)) == 1))
        return names

    @cached_property
    def seen_pieces(self) -> tuple[Pieces, Array, Array, Array, list[str]]:
        """Pieces, by how much more often they stand in the data; which piece each of their ids is of; ids; texts."""
        pieces = Pieces(self.tokenize, "words")
        at, bounds = pieces.places([well_formed(text[:20_000]) for text in self.texts])
        split = bounds[self.n[0]]
        ours, theirs = (np.bincount(side, minlength=len(pieces.index)) for side in (at[:split], at[split:]))
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
    sample = token_counts(rows, tokenize)
    a = np.zeros((1, len(rows)), dtype=np.float32)
    a[:, : len(data)] = 1
    ours, theirs = sums(sample.counts, a, 1 - a)
    rows_ours, rows_theirs = sums(sample.held, a, 1 - a)
    sums_of_sides = (side[:, 0].astype(np.float64) for side in (ours, theirs, rows_ours, rows_theirs))
    return View(sample, [row.answer for row in rows], tokenize, (len(data), len(human)), *sums_of_sides)


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The tokens, phrases or figures that show a finding, as text; the rule for overuse and boilerplate."""
    data, people = answered(data), [answered(population) for population in references.values()]
    human = [row for population in people for row in population.rows]
    if measure == PHRASES.name:
        return numbered(phrase_evidence(data, people), data)
    if extras.tokenize is None:
        return Evidence()
    if measure in (ZIPF.name, TAIL.name):
        n = min(len(data.rows), len(human)) or len(data.rows)
        return shape_evidence(measure, viewed(data.rows[:n], _spread_rows(human, n), extras.tokenize))
    view = viewed(data.rows, human, extras.tokenize)
    return numbered(rate_evidence(view) if measure == DISTANCE.name else overuse_evidence(view), data)


def drawn_values(
    measure: str, data: Population, references: Mapping[str, Population], extras: Extras
) -> dict[str, Any]:
    """The density over token ids of the whole sets, with the distance."""
    return {"density": data.totals["density"]} if measure == DISTANCE.name and "density" in data.totals else {}


def _spread_rows(rows: Sequence[Row], n: int) -> list[Row]:
    """n rows from all over."""
    return [rows[at * len(rows) // n] for at in range(n)] if rows else []


def rate_evidence(view: View) -> Evidence:
    """The tokens that make the distance: the largest parts of the divergence, on either side."""
    ours, theirs = view.shares()
    if not view.n[1]:
        top = np.argsort(-ours, kind="stable")[:10].tolist()
        named = zip(view.names(top), top, strict=True)
        return Evidence(tuple(f"“{name}”: {percent(ours[at], fine=True)} of tokens" for name, at in named))
    middle = np.maximum((ours + theirs) / 2, 1e-300)
    part = ours * np.log2(np.maximum(ours / middle, 1e-300)) + theirs * np.log2(np.maximum(theirs / middle, 1e-300))
    order = np.argsort(-part, kind="stable")
    lead = ours - theirs
    over, under = ([int(at) for at in order[:200] if sign * lead[at] > 0][:5] for sign in (1, -1))
    lines: list[str] = []
    values: list[dict[str, Any]] = []
    for word, places in (("over", over), ("under", under)):
        for at, name in zip(places, view.names(places, under=word == "under"), strict=True):
            lines.append(
                f"{word}-used: “{name}”, {percent(ours[at], fine=True)} of tokens (references {percent(theirs[at], fine=True)})"
            )
            line = {"token": int(view.sample.ids[at]), "text": name, "used": word}
            values.append(line | {"data": float(ours[at]), "reference": float(theirs[at]), "bits": float(part[at]) / 2})
    return Evidence(tuple(lines), view.rows_with(over), {"tokens": values})


def shape_evidence(measure: str, view: View) -> Evidence:
    """Slopes, or shares outside the commonest tokens, at an equal number of rows."""
    both = [counts for counts, n in zip((view.ours, view.theirs), view.n, strict=True) if n]
    head = max(1, min(HEAD, len(view.sample.ids) // 10))
    common = np.argsort(-(view.ours + view.theirs), kind="stable")[:head]
    numbers: dict[str, list[Any]] = {
        "slope": [float(slope(side[None, :])[0]) for side in both],
        "tail": [float(1 - side[common].sum() / max(side.sum(), 1)) for side in both],
        "ten": [float(np.sort(side)[::-1][:10].sum() / max(side.sum(), 1)) for side in both],
        "distinct": [int(np.count_nonzero(side)) for side in both],
    }
    says = {
        "slope": ("frequency falls with rank at a slope of {}", "{:.3f}"),
        "tail": (f"tokens outside the {head:,} commonest make up {{}}", "{:.1%}"),
        "ten": ("the ten commonest tokens make up {}", "{:.1%}"),
        "distinct": (f"{view.n[0]:,} rows hold {{}} distinct tokens", "{:,}"),
    }
    order = ["slope", "ten", "distinct"] if measure == ZIPF.name else ["tail", "distinct"]
    lines = []
    for key in order:
        text, form = says[key]
        values = [form.format(value).replace("%", " %") for value in numbers[key]]
        lines.append(text.format(values[0]) + (f" (references {values[1]})" if len(values) > 1 else ""))
    return Evidence(tuple(lines), values={key: numbers[key] for key in order} | {"rows": view.n[0]})


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
            tuple(f"“{a}”: in {percent(ours[b], fine=True)} of rows" for a, b in zip(view.names(top), top, strict=True))
        )
    z = at_equal_rows(view.rows_ours, view.rows_theirs, *view.n)
    order = np.argsort(-z, kind="stable")
    low = np.flatnonzero((z >= Z_RULE) & (ours >= 0.01) & (ours >= 3 * theirs) & (theirs <= 0.1))
    chosen = low[np.argsort(-z[low], kind="stable")][:limit].tolist()
    listed = list(dict.fromkeys([*chosen[:7], *order[:3].tolist()]))
    under: list[int] = [at for at in order[::-1][:3].tolist() if z[at] <= -Z_RULE]
    named = [*zip(view.names(listed), listed, strict=True), *zip(view.names(under, under=True), under, strict=True)]
    lines = [
        f"“{name}”: in {percent(ours[at], fine=True)} of rows (references {percent(theirs[at], fine=True)}), z = {z[at]:.1f}"
        for name, at in named
    ]
    values = [{"token": int(view.sample.ids[at]), "text": name, "data": float(ours[at]), "reference": float(theirs[at]),
               "z": float(z[at])} for name, at in zip(view.names(chosen), chosen, strict=True)]  # fmt: skip
    sure = [len(chosen) == 1 or ours[at] >= 10 * theirs[at] for at in chosen]
    weights = [0.5 if is_sure else 0.25 for is_sure in sure]
    rule = {"tokens": view.sample.ids[chosen].tolist(), "weights": weights} if chosen else None
    return Evidence(tuple(lines), view.rows_with(chosen or listed), {"tokens": values}, rule)


def phrase_evidence(data: Population, references: Sequence[Population]) -> Evidence:
    """The stock phrases, and in how many rows they stand: at full size where the whole data set was counted."""
    ours, n = _phrases([data])
    theirs, n_human = _phrases(references)
    names = list(BOILERPLATE)
    share = {at: ours[at] / max(n, 1) for at in ours}
    human = {at: theirs[at] / max(n_human, 1) for at in ours}
    order = sorted((at for at in ours if ours[at]), key=lambda at: (human[at] - share[at], at))
    of = [f" (references {percent(human[at], fine=True)})" if n_human else "" for at in order]
    lines = [
        f"“{names[at]}” is in {percent(share[at], fine=True)} of rows{end}"
        for at, end in zip(order[:8], of, strict=False)
    ]
    count = [len(phrases_in(row.answer)) for row in data.rows]
    worst = sorted((at for at, many in enumerate(count) if many), key=lambda at: (-count[at], at))[:20]
    values = {names[at]: {"data": share[at], "reference": human[at] if n_human else None} for at in order}
    return Evidence(tuple(lines), tuple(worst), {"phrases": values}, {"phrases": "any"} if worst else None)


def _phrases(populations: Sequence[Population]) -> tuple[Counter[int], int]:
    """Rows that hold each phrase (by number), and rows."""
    number = {name: at for at, name in enumerate(BOILERPLATE)}
    counts: Counter[int] = Counter()
    n = 0
    for population in populations:
        if "boilerplate" in population.totals:
            counts.update({number[name]: count for name, count in population.totals["boilerplate"].items()})
            n += population.totals["rows"]
        else:
            for row in population.rows:
                counts.update(phrases_in(row.answer))
            n += len(population.rows)
    return counts, n
