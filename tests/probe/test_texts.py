"""What is graded of an answer: what follows its thought; nothing where the thought never ended."""

import pytest

from pyrite.errors import UserError
from pyrite.models.answers import Answer
from pyrite.probe.config import ProbeConfig
from pyrite.probe.missing_answers import with_missing
from pyrite.probe.result import common_scales
from pyrite.probe.texts import final_answer, texts_of, thought_notes
from pyrite.tasks.scoring import Metric

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


def test_a_prompt_that_the_model_cannot_be_given_is_missing_for_its_own_reason() -> None:
    """A refusal of ours does not read like an answer that somebody withheld."""
    answers = [Answer(str(at), "a", "stop") for at in range(19)]
    answers.append(Answer("long", "", "refused", meta={"reason": "longer than the model can read"}))
    (note,) = with_missing([], answers)
    assert "1 of 20 prompts got no answer and count as missing: longer than the model can read 1" in note


def test_only_metrics_of_both_models_are_compared() -> None:
    three, two = (Metric("accuracy"), Metric("accuracy_2way")), (Metric("accuracy_2way"),)
    assert common_scales(three, two) == common_scales(two, three) == two


@pytest.mark.parametrize("wrong", [{"labels": ("positive",)}, {"chat_template_kwargs": ("enable_thinking",)}])
def test_options_that_mean_nothing_are_refused_where_they_are_read(wrong: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UserError):
        ProbeConfig(task=("reviews=30",), model="m", **wrong)
