"""When are two rows the same? One reading for leak notes, overlap tables, copies, groups and pools."""

from collections import Counter

import pytest

from pyrite.data.keys import as_written, prompt_key, row_key, same_fields, same_text
from pyrite.records import Chat, Labelled, Message, Text
from pyrite.study.labelled_overlap import overlap_table
from pyrite.study.labelled_steps import overlap
from pyrite.synth.select import drop_exact
from pyrite.tasks.groups import group_of

SAME = ["The Straße is long.", "the STRASSE  is long. ", "Ｔhe strasse is ｌong."]
"""One text in three spellings: case beyond ASCII, blanks, full-width letters."""


def row(text: str, name: str = "1", label: str = "a") -> Labelled:
    return Labelled({"text": text}, label, name, {})


@pytest.mark.parametrize("text", SAME)
def test_every_room_takes_the_same_spellings_for_one_row(text: str) -> None:
    first = row(SAME[0])
    assert same_fields(row(text, label="b")) == same_fields(first)
    assert row_key(row(text)) == row_key(first)
    assert row_key(Text(text, "1", {})) == row_key(Text(SAME[0], "1", {}))
    assert group_of(row(text), "text") == group_of(first, "text")
    dropped: Counter[str] = Counter()
    assert drop_exact([first, row(text, "2")], dropped) == [first]
    assert dropped == {"exact duplicate": 1}
    chats = [Chat((Message("user", one), Message("assistant", "yes")), "1", {}) for one in (text, SAME[0])]
    assert prompt_key(chats[0]) == prompt_key(chats[1])


def test_a_leak_is_counted_in_any_spelling() -> None:
    """Three rows of a probe are one row that was trained on: a table that minded spelling would count one."""
    probe = [row(text, str(at)) for at, text in enumerate(SAME)] + [row("another text", "4")]
    (line,) = overlap_table({"start plain": [row(SAME[0])], "probe general": probe})
    assert (line["shared"], line["shared_a"], line["shared_b"]) == (1, 1, 3)
    assert overlap({"x": [row(SAME[1])], "y": [row(SAME[2])]})[0]["shared"] == 1


def test_the_stricter_reading_is_named() -> None:
    assert len({as_written(row(text)) for text in SAME}) == 3
    assert same_text("don't") != same_text("dont")  # words only is the audit's own question
