"""What is graded of an answer: what follows its thought; nothing where the thought never ended."""

from pyrite.models.answers import Answer
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
    graded, missing = thought_notes(ANSWERS)
    assert graded.startswith("2 of 4 answers hold a thought")
    assert missing.startswith("1 answers ended within their thought and count as missing")
