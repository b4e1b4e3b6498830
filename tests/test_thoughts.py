"""Thoughts and the answers that follow them, under the markers of many families."""

import time

import pytest

from pyrite.thoughts import PAIRS, Thought, open_marker, split_thought


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_every_pair_of_markers(opening: str, closing: str) -> None:
    text = f"\n{opening}\n2 + 2 \n{closing}\n\nFour.\n"
    thought = split_thought(text)
    assert (thought.thought, thought.answer, thought.closed) == ("2 + 2", "Four.", True)
    assert text[thought.thought_at :].startswith("2 + 2")
    assert text[thought.answer_at :].startswith("Four.")
    cut_off = split_thought(f"{opening}2 + 2 is")
    assert (cut_off.thought, cut_off.answer, cut_off.closed) == ("2 + 2 is", "", False)


@pytest.mark.parametrize(
    ("text", "thought", "answer", "closed"),
    [
        ("Four.", "", "Four.", True),
        ("", "", "", True),
        (" Four. ", "", " Four. ", True),
        ("<think></think>Four.", "", "Four.", True),
        ("2 + 2\n</think>\nFour.", "2 + 2", "Four.", True),
        ("<think>a</think><think>b</think>Four.", "a</think><think>b", "Four.", True),
        ("<think>a</think><think>b", "a</think><think>b", "", False),
        ("Write <think> and </thinking>.", "", "Write <think> and </thinking>.", True),
        ("42.\n\nNote that </think> ends the thought.", "", "42.\n\nNote that </think> ends the thought.", True),
        ("Use <think> and </think>\nto mark it.", "", "Use <think> and </think>\nto mark it.", True),
        ("2 + 2</think>\n\nFour.", "2 + 2", "Four.", True),
        ("<think>a</think>The tag </think> ends it.", "a", "The tag </think> ends it.", True),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>", "a", "Four.", True),
        ("<|channel|>analysis<|message|>a", "a", "", False),
        ("<|channel|>final<|message|>Four.", "", "Four.", True),
    ],
)  # fmt: skip
def test_by_hand(text: str, thought: str, answer: str, closed: bool) -> None:
    result = split_thought(text)
    assert isinstance(result, Thought)
    assert (result.thought, result.answer, result.closed) == (thought, answer, closed)


def test_a_prompt_that_opens_a_thought() -> None:
    assert open_marker("<|Assistant|><think>\n") == "<think>"
    assert open_marker("<think>\n\n</think>\n\n") == ""
    assert open_marker("assistant\n") == ""


def test_the_time_grows_with_the_text_and_not_with_its_square() -> None:
    def seconds(thoughts: int) -> float:
        text = "<think>a</think>" * thoughts + "b"
        began = time.process_time()
        assert split_thought(text).answer == "b"
        return time.process_time() - began

    seconds(1000)
    assert seconds(64_000) < 40 * max(seconds(8000), 0.001)  # eight times the text: 64 times the time, before
