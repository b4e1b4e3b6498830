"""One grammar of conditions for every verb; older spellings are read with the new one as a hint."""

import pytest

from pyrite.conditions import parse_condition
from pyrite.errors import UserError

SPELLINGS = [
    ("hans.accuracy[gold=non-entailment] >= 10%", ("hans.accuracy", (("gold", "non-entailment"),), ">=", 0.1), ""),
    ("severity < fail", ("severity", (), "<", "fail"), ""),
    ("verdict != worse", ("verdict", (), "!=", "worse"), ""),
    ("primary >= -2 %", ("primary", (), ">=", -0.02), ""),
    ("spot[arm=share=0.5][against=human] > 0", ("spot", (("arm", "share=0.5"), ("against", "human")), ">", 0.0), ""),
    ("change hans[gold=a b] < 29 %", ("hans", (("gold", "a b"), ("against", "before")), "<", 0.29), "hans[gold=a b][against=before] < 29 %"),
    ("change >= 0.5", ("change", (), ">=", 0.5), ""),
    ("full mix - human on spot.accuracy >= -1e-2", ("spot.accuracy", (("arm", "full mix"), ("against", "human")), ">=", -0.01), "spot.accuracy[arm=full mix][against=human] >= -1e-2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning", "hint"), SPELLINGS)
def test_every_verb_reads_the_same_grammar(text: str, meaning: tuple[object, ...], hint: str) -> None:
    condition = parse_condition(text, "such as")
    assert (condition.name, condition.where, condition.op, condition.bound) == meaning
    assert condition.hint == hint
    if hint:  # the new spelling means the same, and asks for no other
        again = parse_condition(hint, "such as")
        assert (again.name, again.where, again.op, again.bound, again.hint) == (*meaning, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hans", "no gate"),
        ("hans >=", "no gate"),
        ("hans == 1", "no gate"),
        ("hans >= 1; rm", "no gate"),
        ("hans[gold] >= 1", "COLUMN=VALUE"),
        ("hans[a=1][a=2] >= 1", "twice"),
        ("hans >= 1e999", "too large"),
        ("__import__('os') >= 0", None),
    ],
)
def test_what_is_no_condition_is_refused_and_never_run(text: str, says: str | None) -> None:
    if says is None:
        assert parse_condition(text, "").name == "__import__('os')"  # a name that no verb has
        return
    with pytest.raises(UserError, match=says):
        parse_condition(text, "such as")
