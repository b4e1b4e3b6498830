"""What shows that answers share one shape: the openings, closings and layouts that come too often, spelled out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.format.answer_shape import (
    Shape,
    Words,
    drawn_structure,
    fold,
    joined,
    phrase,
    structural_tokens,
    template_text,
)
from pyrite.audit.flaws.format.patterns import (
    BAR,
    Answers,
    Counted,
    answer_shapes,
    commonest,
    difference_low,
    over_represented,
)
from pyrite.audit.flaws.format.statistics import (
    CLOSING,
    DISTANCE,
    ENTROPY,
    LENGTH,
    OPENING,
    SKELETON,
    bits,
    closing_of,
    opening_of,
)
from pyrite.audit.flaws.format.stream import EDGE
from pyrite.audit.rows import Row
from pyrite.audit.wording import percent
from pyrite.data.words import written_words

PLAIN = ("", "p", "p+")
"""Skeletons that no row is marked for."""


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """Which openings, closings or layouts are over-represented (see `patterns.Bar`), with shares and examples.

    The rule names them: `openings`, `closings` (words from the edge inwards), `skeletons`, `structures`.
    """
    theirs = [row for population in references.values() for row in population.rows]
    sides = _Sides(data.rows, answer_shapes(data.rows), answer_shapes(theirs) if theirs else None, theirs)
    if not sides.ours.shapes:
        return Evidence(("No row has an answer.",))
    match measure:
        case OPENING.name:
            return _as_evidence(sides, _edges(sides, "openings"), extra=_commonest(sides, "openings"))
        case CLOSING.name:
            return _as_evidence(sides, _edges(sides, "closings"), extra=_commonest(sides, "closings"))
        case SKELETON.name:
            return _as_evidence(sides, _layouts(sides, "skeletons"), extra=_commonest(sides, "skeletons"))
        case ENTROPY.name:
            return _as_evidence(sides, _layouts(sides, "structures"), extra=(*_effective(sides), *_tokens(sides)))
        case DISTANCE.name:
            return _templates(sides)
        case LENGTH.name:
            return _length_lines(sides)
    raise KeyError(measure)


class _Sides(NamedTuple):
    rows: Sequence[Row]
    ours: Answers
    theirs: Answers | None
    their_rows: Sequence[Row]


class _Listed(NamedTuple):
    """Over-represented patterns of one kind, and how they are shown."""

    kind: str
    lines: tuple[str, ...]
    patterns: tuple[Counted, ...]
    shown: tuple[str, ...]


def _edges(sides: _Sides, kind: str) -> _Listed:
    """Over-represented openings or closings; without references of three words or more. One word alone is an opening
    where a mark sets it off ("Certainly!"), and never a closing: every last word has a mark."""
    key, verb = (opening_of, "begins") if kind == "openings" else (closing_of, "ends")
    least = 2 if sides.theirs else EDGE

    def allowed(words: Words) -> bool:
        return phrase(words, least) if kind == "openings" else len(words) >= least

    patterns = over_represented(sides.ours, sides.theirs, key, allowed=allowed)
    texts = tuple(_as_written(sides.rows, pattern, kind) for pattern in patterns)
    lines = [
        f"“{text}” {verb} {share_of_answers(counted, sides.theirs)}"
        for counted, text in zip(patterns, texts, strict=True)
    ]
    return _Listed(kind, tuple(lines), tuple(patterns), texts)


def _layouts(sides: _Sides, kind: str) -> _Listed:
    """Over-represented skeletons or structures. Without references, plain paragraphs are not counted as a pattern."""

    def key(shape: Shape) -> Words:
        plain = sides.theirs is None and shape.skeleton in PLAIN
        return () if plain else (getattr(shape, kind[:-1]),)

    patterns = over_represented(sides.ours, sides.theirs, key)
    show = template_text if kind == "skeletons" else drawn_structure
    texts = tuple(show(pattern.key[0]) for pattern in patterns)
    lines = [
        f"`{text}`: {share_of_answers(counted, sides.theirs)}" for counted, text in zip(patterns, texts, strict=True)
    ]
    return _Listed(kind, tuple(lines), tuple(patterns), texts)


def _as_evidence(sides: _Sides, listed: _Listed, extra: Sequence[str] = ()) -> Evidence:
    lead = () if listed.patterns else (f"None of the {listed.kind} stands out by itself.",)
    rule = {listed.kind: _named(listed)} if listed.patterns else None
    values = {listed.kind: _values(listed)}
    return Evidence((*lead, *listed.lines[:6], *extra), _examples(sides, listed.patterns), values, rule)


def _named(listed: _Listed) -> list[str]:
    """The patterns as a rule names them. Plain paragraphs are told, but no row is marked for being one."""
    names = [" ".join(pattern.key) for pattern in listed.patterns]
    layouts = listed.kind in ("skeletons", "structures")
    return [name for name in names if not (layouts and name.split(" ")[0] in PLAIN)]


def _values(listed: _Listed) -> list[dict[str, Any]]:
    return [
        {"text": text, "share": pattern.share, "reference": pattern.reference_share, "difference_low": pattern.low}
        for pattern, text in zip(listed.patterns, listed.shown, strict=True)
    ]


def _examples(sides: _Sides, patterns: Sequence[Counted]) -> tuple[int, ...]:
    """Numbers of rows of the worst patterns, five of each, at most 20."""
    places = [at for pattern in patterns for at in list(dict.fromkeys(row for row, _ in pattern.where))[:5]]
    return tuple(sides.rows[at].number for at in dict.fromkeys(places))[:20]


def _templates(sides: _Sides) -> Evidence:
    """Whole shapes, opening and layout together, then what is over-represented in parts."""
    parts = [_edges(sides, "openings"), _edges(sides, "closings"), _layouts(sides, "skeletons")]
    parts = [part for part in parts if part.patterns]
    openings = [pattern for part in parts if part.kind == "openings" for pattern in part.patterns]
    spelled = {opening.key: _as_written(sides.rows, opening, "openings").removesuffix(" …") for opening in openings}

    def key(shape: Shape) -> Words:
        begins = next((beginning for beginning in spelled if shape.opening[: len(beginning)] == beginning), ())
        plain = sides.theirs is None and not begins and shape.skeleton in PLAIN
        return () if plain else (f"{' '.join(begins)}\n{shape.skeleton}",)

    lines = []
    for pattern in over_represented(sides.ours, sides.theirs, key):
        begins, skeleton = pattern.key[0].split("\n")
        text = template_text(skeleton, spelled.get(tuple(begins.split(" ")), ""))
        lines.append(f"`{text}`: {share_of_answers(pattern, sides.theirs)}")
    closings = [line for part in parts if part.kind == "closings" for line in part.lines]
    rule = {part.kind: _named(part) for part in parts}
    ranked = sorted((pattern for part in parts for pattern in part.patterns), key=lambda pattern: -pattern.low)
    values = {part.kind: _values(part) for part in parts}
    summary = (*lines[:6], *closings[:2], *_commonest(sides, "skeletons"), *_tokens(sides)[:3])
    return Evidence(summary, _examples(sides, ranked), values, rule or None)


def _commonest(sides: _Sides, kind: str) -> tuple[str, ...]:
    """The commonest patterns that the measure counts, over-represented or not, in one line."""
    edge = opening_of if kind == "openings" else closing_of

    def key(shape: Shape) -> Words:
        return (shape.skeleton,) if kind == "skeletons" else edge(shape)[:EDGE]

    shares = []
    for pattern in commonest(sides.ours, sides.theirs, key):
        text = (
            f"`{template_text(pattern.key[0])}`"
            if kind == "skeletons"
            else f"“{_as_written(sides.rows, pattern, kind)}”"
        )
        shares.append(
            f"{text} {percent(pattern.share)}"
            + (f" (references {percent(pattern.reference_share or 0)})" if sides.theirs else "")
        )
    lead = "layouts" if kind == "skeletons" else f"{kind} of three words"
    return (f"The commonest {lead}: {', '.join(shares)}.",)


def _effective(sides: _Sides) -> tuple[str, ...]:
    """How many equally common structures would have the same entropy."""
    parts = []
    for name, answers in (("the data", sides.ours), ("the references", sides.theirs)):
        if answers:
            counts = np.array([list(Counter(shape.structure for shape in answers.shapes).values())], dtype=np.float64)
            parts.append(f"{2 ** bits(counts)[0]:.1f} in {name} ({len(answers.shapes):,} answers)")
    return (f"Layouts are as varied as this number of equally common ones: {', '.join(parts)}.",)


def _tokens(sides: _Sides) -> list[str]:
    """Structural tokens and words that lead a later line, where they are over-represented, the commonest first."""
    texts = [sides.rows[at].answers[number] for at, number in sides.ours.places]
    their_answers = [answer for row in sides.their_rows for answer in row.answers]
    ours, theirs = _token_counts(texts), _token_counts(their_answers)
    ranked = []
    for token, count in ours.items():
        p, q = count / len(texts), theirs[token] / max(1, len(their_answers))
        low = difference_low(p, sides.ours.rows, q, sides.theirs.rows) if sides.theirs else p
        if p >= (BAR.share if sides.theirs else BAR.alone) and p >= BAR.times * q and low > 0:
            beside = f" (references {percent(q)})" if sides.theirs else ""
            ranked.append((-p, token, f"{token} in {percent(p)} of answers{beside}"))
    return [line for *_, line in sorted(ranked)][:5]


def _token_counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(token for text in texts for token in structural_tokens(text))


def _length_lines(sides: _Sides) -> Evidence:
    lines, values = [], {}
    for name, answers in (("data", sides.ours), ("references", sides.theirs)):
        if answers and answers.shapes:
            words = [shape.words for shape in answers.shapes]
            low, first, middle, third, high = np.quantile(words, [0.05, 0.25, 0.5, 0.75, 0.95])
            spread = float(np.log(np.maximum(words, 1)).std())
            lines.append(
                f"{name}: half of the answers have {first:.0f}–{third:.0f} words, nine in ten {low:.0f}–{high:.0f} "
                f"(middle {middle:.0f}; lengths vary by a factor of {np.exp(spread):.1f})"
            )
            values[name] = {"quantiles": [low, first, middle, third, high], "sd_log": spread}
    return Evidence(tuple(lines), values=values)


def _as_written(rows: Sequence[Row], pattern: Counted, kind: str) -> str:
    """A pattern as its first example writes it, with dots where the answer goes on, cut to 80 characters."""
    backwards = kind == "closings"
    text = joined(pattern.key, backwards)
    at, number = pattern.where[0]
    words = written_words(rows[at].answers[number][:400])[: len(pattern.key)]
    if not backwards and fold(words) == pattern.key and "N" not in text:
        text = joined(tuple(words))
    cut = text[-78:] if backwards else text[:78]
    return f"… {cut}" if backwards else f"{cut} …"


def share_of_answers(pattern: Counted, theirs: Answers | None) -> str:
    """Its share in words."""
    return f"{percent(pattern.share)} of answers" + (
        f" (references {percent(pattern.reference_share or 0.0)})" if theirs else ""
    )
