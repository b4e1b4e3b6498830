"""What is graded of an answer: what follows its thought; nothing where the thought never ended."""

from pyrite.models.answers import Answer
from pyrite.probe.missing_answers import with_missing
from pyrite.probe.texts import final_answer, texts_of, thought_notes

ANSWERS = [
    Answer("plain", " It is 4. ", "stop"),
    Answer("thoughtful", "<think>\n2 + 2\n</think>\n\nIt is 4.", "stop"),
    Answer("cut off", "<think>\n2 + 2 is", "length"),
    Answer("refused", "", "refused"),
]


def test_the_final_answer() -> None:
    assert texts_of(ANSWERS) == {"plain": " It is 4. ", "thoughtful": "It is 4.", "cut off": None, "refused": None}
    assert final_answer(Answer("x", "", "stop")) == ""


def test_thoughts_are_noted() -> None:
    assert thought_notes(ANSWERS[:1]) == []
    (note,) = thought_notes(ANSWERS)
    assert note.startswith("2 of 4 answers hold a thought")


def test_an_answer_that_never_left_its_thought_is_counted_as_missing() -> None:
    share, note, *_ = with_missing(["note"], ANSWERS)
    assert share.startswith("50% of the answers are missing")
    assert "1 answers were refused" in share
    assert "1 of 4 prompts got no answer and count as missing: ended within its thought" in note
