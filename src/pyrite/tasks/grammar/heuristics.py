"""Where can I get fresh blind-spot pairs, as many as I like, that no model has seen?

Writes pairs in the manner of HANS (McCoy, Pavlick and Linzen, 2019, arXiv 1902.01007): its three heuristics and thirty
subcases under its names, with templates and words of our own. Labels hold by construction (see `templates.py`).
"""

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable

import numpy as np

from pyrite.errors import UserError
from pyrite.records import Pair
from pyrite.tasks.grammar.lexicon import UNDERSTOOD_OBJECTS, Word
from pyrite.tasks.grammar.templates import CLAUSES, FUNCTION_SLOTS, SLOTS, SUBCASES, Subcase, Template

_SLOT = re.compile(r"\{([a-z]+)(\d*)(?::([a-z]+))?\}")
_MAX_DUPLICATES_IN_A_ROW = 1000


def generate_pairs(
    n: int,
    *,
    seed: int,
    subcases: Collection[str] | None = None,
    leave_out_heuristics: Collection[str] = (),
    leave_out_subcases: Collection[str] = (),
    balance: bool = True,
    spaced_period: bool = True,
) -> list[Pair]:
    """`n` distinct pairs, labelled "entailment" or "non-entailment"; the same arguments give the same list.

    Args:
        n: how many pairs.
        seed: any whole number from 0 up.
        subcases: names of the subcases to write; all thirty when None.
        leave_out_heuristics: heuristics to leave out of those.
        leave_out_subcases: subcases to leave out of those.
        balance: give every subcase, and every template within it, the same number of pairs up to one; otherwise draw
            templates at random. Balanced lists are nested: the first 100 of 1,000 are what `n=100` gives.
        spaced_period: set commas and full stops apart, as HANS does.

    Raises:
        UserError: a name is unknown, nothing is left to write, or there are no `n` distinct pairs.
    """
    names = _choose_subcases(subcases, leave_out_heuristics, leave_out_subcases)
    if n < 1 or seed < 0:
        raise UserError(
            "cannot write these pairs", f"n={n}, seed={seed}", "ask for n of at least 1 and a seed of at least 0"
        )
    rng = np.random.default_rng(seed)
    pairs: list[Pair] = []
    drawn_pairs: set[tuple[str, str]] = set()
    for name, template in _balanced(names, n, rng) if balance else _drawn(names, n, rng):
        for _ in range(_MAX_DUPLICATES_IN_A_ROW):
            premise, hypothesis = _fill(template, rng)
            if (premise, hypothesis) not in drawn_pairs:
                break
        else:
            raise UserError(
                f"cannot write {n} distinct pairs",
                f"template {template.name} gives no new pair after {len(pairs)}",
                "ask for fewer pairs or for more subcases",
            )
        drawn_pairs.add((premise, hypothesis))
        subcase = SUBCASES[name]
        pairs.append(
            Pair(
                premise=premise if spaced_period else _closed_up(premise),
                hypothesis=hypothesis if spaced_period else _closed_up(hypothesis),
                label=subcase.label,
                id=f"grammar-{seed}-{len(pairs)}",
                meta={"heuristic": subcase.heuristic, "subcase": name, "template": template.name},
            )
        )
    return pairs


def as_three_way(pairs: Iterable[Pair]) -> list[Pair]:
    """The same pairs with "non-entailment" spelled out as "neutral" or "contradiction", for training on three labels.

    Which of the two is a property of the subcase (`Subcase.three_way`), so nothing is drawn. All fifteen are neutral:
    none of their premises rules its hypothesis out. (Annotators who take both sentences to tell of one event sometimes
    call a role swap a contradiction; by the meaning of the words it is not.)

    Raises:
        UserError: a pair is not from this grammar or from HANS: its subcase is unknown, or its label isn't the subcase's.
    """
    result = []
    for pair in pairs:
        subcase = SUBCASES.get(str(pair.meta.get("subcase")))
        if subcase is None or pair.label != subcase.label:
            raise UserError(
                "cannot tell neutral from contradiction for this pair",
                f"pair {pair.id}: label {pair.label!r}, subcase {pair.meta.get('subcase')!r}",
                "pass pairs labelled entailment / non-entailment whose meta names a subcase of HANS",
            )
        result.append(dataclasses.replace(pair, label=subcase.three_way))
    return result


def _choose_subcases(
    subcases: Collection[str] | None, leave_out_heuristics: Collection[str], leave_out_subcases: Collection[str]
) -> list[str]:
    _check_known("subcase", [*(subcases or ()), *leave_out_subcases], SUBCASES)
    _check_known("heuristic", leave_out_heuristics, {subcase.heuristic for subcase in SUBCASES.values()})
    names = [
        name
        for name, subcase in SUBCASES.items()
        if (subcases is None or name in subcases)
        and name not in leave_out_subcases
        and subcase.heuristic not in leave_out_heuristics
    ]
    if not names:
        raise UserError(
            "no subcase is left to write", "everything was left out", "leave out less, or name other subcases"
        )
    return names


def _check_known(kind: str, names: Collection[str], allowed: Collection[str]) -> None:
    if isinstance(names, str):
        raise UserError(f"{kind} names must be a list", repr(names), f"write [{names!r}]")
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.4)
            fix = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(allowed))}"
            raise UserError(f"unknown {kind}", repr(name), fix)


def _balanced(names: list[str], n: int, rng: np.random.Generator) -> Iterable[tuple[str, Template]]:
    """Rounds over all subcases, each round in a new order with labels in turn; each subcase goes round its templates."""
    groups = [[name for name in names if SUBCASES[name].label == label] for label in ("entailment", "non-entailment")]
    orders = {name: rng.permutation(len(SUBCASES[name].templates)) for name in names}
    written = 0
    while written < n:
        first, second = ([group[i] for i in rng.permutation(len(group))] for group in groups)
        for name in _in_turn(first, second)[: n - written]:
            subcase: Subcase = SUBCASES[name]
            yield name, subcase.templates[orders[name][written // len(names) % len(subcase.templates)]]
        written += min(len(names), n - written)


def _in_turn(first: list[str], second: list[str]) -> list[str]:
    shared = min(len(first), len(second))
    paired = [name for pair in zip(first, second, strict=False) for name in pair]
    return paired + first[shared:] + second[shared:]


def _drawn(names: list[str], n: int, rng: np.random.Generator) -> Iterable[tuple[str, Template]]:
    choices = [(name, template) for name in names for template in SUBCASES[name].templates]
    for _ in range(n):
        yield choices[_below(len(choices), rng)]


def _fill(template: Template, rng: np.random.Generator) -> tuple[str, str]:
    """One pair from a template: every slot filled, no content word (by lemma) used twice."""
    text_of: dict[str, str] = {}
    word_of: dict[str, tuple[Word, int]] = {}
    used: set[str] = set()

    def draw(kind: str, number: str) -> tuple[Word, int]:
        pools = (UNDERSTOOD_OBJECTS[word_of["o" + number][0]],) if kind == "x" else SLOTS[kind]
        while True:
            pool = pools[_below(len(pools), rng)]
            word = pool[_below(len(pool), rng)]
            if kind in FUNCTION_SLOTS or word.base not in used:
                break
        used.add(word.base)
        plural = kind == "p" or (kind == "n" and _below(2, rng) == 1)
        return word, int(plural)

    def slot(match: re.Match[str]) -> str:
        kind, number, form = match.groups()
        key = kind + number
        if kind == "c":
            if key not in text_of:
                text_of[key] = _SLOT.sub(slot, CLAUSES[_below(len(CLAUSES), rng)])
            return text_of[key]
        word, plural = word_of[key] if number and key in word_of else draw(kind, number)
        if number:
            word_of[key] = word, plural
        if form == "was":
            return "were" if plural else "was"
        if kind in ("n", "p"):
            return word.forms[plural]
        if len(word.forms) == 1:
            return word.forms[0]
        return word.forms[{"base": 0, None: 1, "participle": 2}[form]]

    premise = _SLOT.sub(slot, template.premise)
    hypothesis = _SLOT.sub(slot, template.hypothesis)
    return premise[0].upper() + premise[1:], hypothesis[0].upper() + hypothesis[1:]


def _below(bound: int, rng: np.random.Generator) -> int:
    return int(rng.random() * bound)


def _closed_up(sentence: str) -> str:
    return sentence.replace(" .", ".").replace(" ,", ",")
