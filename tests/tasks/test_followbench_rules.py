"""FollowBench's rules on answers that keep to all requirements but one."""

import pytest

from pyrite.tasks.followbench_rules import rule_for, satisfied, unfit_target

CNN = "Potter star turns 18 with £20.5 million. The actor will not waste it. His films have made him rich."
XSUM = "Workers are repairing roads in a large operation after floods."
SAMSUM = "Kim will get stuff done tomorrow."
GIGAWORD = "two killed in attack on philippines coach monday"
ARXIV = "We find that middle activations store facts."
FIRST = "Wipe the wooden table with a soft and slightly damp cloth every few days so that no dust or crumbs stay on it."
TABLE = "\n\n".join(f"{number}. {FIRST}" for number in (1, 2, 3))
POINT = "**{n}. Jobs:** Innovation brings well paid work to towns in every single state."
SPEECH = "\n\n".join(POINT.format(n=n) for n in range(1, 6))

FAILS_FROM = [
    ("cnn_dailymail", CNN, None),
    ("cnn_dailymail", CNN + " So it is.", 1),
    ("cnn_dailymail", CNN.replace("waste it", "waste one single penny of it on cars or drinks or parties at all"), 2),
    ("cnn_dailymail", CNN.replace("actor", "man"), 3),
    ("cnn_dailymail", CNN.replace("waste it", "be lavish"), 4),
    ("cnn_dailymail", CNN.replace("have made", "made"), 5),
    ("xsum", XSUM + "\n", None),
    ("xsum", XSUM + " It rained.", 1),
    ("xsum", XSUM.replace("floods", "floods that hit the whole of the south and west of the country hard"), 2),
    ("xsum", XSUM.replace("floods", "floods in Newton Stewart"), 3),
    ("xsum", XSUM.replace("are repairing", "repair"), 4),
    ("xsum", XSUM.replace("operation", "effort"), 5),
    ("samsum", SAMSUM, None),
    ("samsum", SAMSUM.replace("stuff", "things"), 3),
    ("samsum", SAMSUM.replace("tomorrow", "after Procrastinating"), 4),
    ("samsum", SAMSUM.replace("Kim", "Kim, tired,"), 5),
    ("gigaword", GIGAWORD, None),
    ("gigaword", GIGAWORD + " night", 1),
    ("gigaword", GIGAWORD + ".", 2),
    ("gigaword", GIGAWORD.title(), 3),
    ("gigaword", GIGAWORD.replace("coach", "bus"), 4),
    ("gigaword", GIGAWORD.replace(" in ", " by "), 5),
    ("arxiv", ARXIV, None),
    ("arxiv", ARXIV.replace("We find", "Western teams find"), 3),
    ("arxiv", ARXIV.replace("activations", "layers"), 4),
    ("arxiv", ARXIV.replace("facts", "facts of a transformer"), 5),
    ("format-22", TABLE, 5),
    ("format-22", TABLE + "\n\nThose are suggestions.", None),
    ("format-22", TABLE + " Those are suggestions", None),
    ("format-22", TABLE + "\n\n" + FIRST, 1),
    ("format-22", TABLE.replace("2. ", f"2. {FIRST} {FIRST} "), 2),
    ("format-22", TABLE + " Enjoy it.", 3),
    ("format-22", TABLE.replace("2. ", ""), 4),
    ("format-30", SPEECH, None),
    ("format-30", SPEECH.replace("*", ""), 1),
    ("format-30", SPEECH + " It does so for all of us in this great land.", 2),
    ("format-30", SPEECH + "\n\nThank you.", 3),
    ("format-30", SPEECH.replace("well", "highly"), 4),
    ("format-30", SPEECH.replace("single", "family"), None),
    ("format-30", SPEECH.replace("**5. Jobs:** ", "It helps: "), 5),
]


@pytest.mark.parametrize(("rule", "answer", "first_failure"), FAILS_FROM)
def test_counted(rule: str, answer: str, first_failure: int | None) -> None:
    expected = [first_failure is None or level < first_failure for level in range(1, 6)]
    assert [satisfied(rule, answer, "", level) for level in range(1, 6)] == expected


EVENTS = "a died\nb died\nc died"


@pytest.mark.parametrize(
    ("rule", "answer", "target", "level", "right"),
    [
        ("E2E", "name[The Mill]\n", "name[The Mill]", 1, True),
        ("E2E", "name[the mill]", "name[The Mill]", 1, False),
        ("text_editing", "pples love eting i.", "pples love eting i.", 4, True),
        ("WIKIEVENTS", "b died\na died", EVENTS, 2, True),
        ("WIKIEVENTS", "b died", EVENTS, 2, False),  # one is missing
        ("WIKIEVENTS", "b died\nb died", EVENTS, 2, False),  # one twice
        ("WIKIEVENTS", "b died\nd died", EVENTS, 2, False),
        ("CONLL2003", "Bonn", "['Bonn', 'BRUSSELS']", 4, True),
        ("CONLL2003", "Brussels", "['Bonn', 'BRUSSELS']", 4, False),
        ("BBH_logical", "Not (A), so (B).", "(B)", 2, True),
        ("BBH_logical", "(B), not (A).", "(B)", 2, False),
        ("BBH_logical", "B", "(B)", 2, False),
        ("BBH_time", "12/24/1937 plus five days: 12/29/1937", "12/29/1937", 1, True),
        ("BBH_time", "12/29/37", "12/29/1937", 1, False),
        ("self_made_space", "On the 14th floor, Apartment 2.", "14th floor, Apartment 2", 4, True),
        ("self_made_space", "On the 14th floor of Apartment 2.", "14th floor, Apartment 2", 4, False),
        ("gsm_8k", "$12 an hour makes $14.", "$14", 1, True),
        ("gsm_8k", "$14 at $12 an hour.", "$14", 1, False),
        ("example", "{'Bot': 'a (new) trip'}", "{instruction}\n{{'Bot': '{answer}'}}", 3, True),
        ("example", "Bot: a trip", "{instruction}\n{{'Bot': '{answer}'}}", 3, False),
        ("example", "#Bot#\na trip", "{instruction}\n#Bot#\n{answer}", 3, True),
        ("example", "#Bot#\na trip\nor two", "{instruction}\n#Bot#\n{answer}", 3, False),
        ("example", "", "{instruction}\n{answer}", 3, False),
    ],
)
def test_against_target(rule: str, answer: str, target: str, level: int, right: bool) -> None:
    assert satisfied(rule, answer, target, level) is right


def test_which_rule() -> None:
    assert rule_for("mixed", "xsum", 12) == "xsum"
    assert rule_for("example", "xsum", 12) == "example"  # the same source under another category
    assert rule_for("format", "oasst", 22) == "format-22"
    assert rule_for("format", "oasst", 21) is None
    assert rule_for("mixed", "oasst", 22) is None
    assert rule_for("content", "COGNAC", 9) is None


def test_unfit_targets() -> None:
    assert unfit_target("xsum", "") is None
    assert unfit_target("E2E", "x") is None
    assert unfit_target("E2E", " ") == "the target is empty"
    for bad in ("Bonn", "['Bonn'", "[]", "[1]", "__import__('os').getcwd()", "(" * 9999):
        assert unfit_target("CONLL2003", bad) == "the target is no list of names"
