"""Thought and final answer of a text that a reasoning model wrote."""

import re
from dataclasses import dataclass

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
)
"""What opens a thought, and what closes it."""
_OPEN = re.compile("|".join(re.escape(opening) for opening, _ in TAGS))
_CLOSE = re.compile("|".join(re.escape(closing) for _, closing in TAGS))
_CLOSING = dict(TAGS)
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*<\|message\|>(.*?)(<\|(?:end|return|call)\|>|(?=<\|(?:channel|start)\|>)|$)",
    re.DOTALL,
)
_SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>\s*)?$", re.DOTALL)


@dataclass(frozen=True)
class Thought:
    """`thought` and `answer` of a text, without the marks between them; `closed`: the thought, if any, came to an end."""

    thought: str
    answer: str
    closed: bool


def split_thought(text: str) -> Thought:
    """The thought and the final answer of a text.

    A text without a known mark is an answer as a whole. One that has a closing mark only (the template opened the thought)
    is a thought up to there. A thought at the beginning that is never closed has no answer.

    >>> split_thought("<think>2 + 2 is 4.</think>\\n\\n4")
    Thought(thought='2 + 2 is 4.', answer='4', closed=True)
    >>> split_thought("<think>2 + 2 is")
    Thought(thought='2 + 2 is', answer='', closed=False)
    """
    if "<|channel|>" in text:
        return _of_channels(text)
    if "<" not in text and "[" not in text:
        return Thought("", text, True)
    thoughts: list[str] = []
    answers: list[str] = []
    at = 0
    first, close = _OPEN.search(text), _CLOSE.search(text)
    if close is not None and (first is None or close.start() < first.start()):
        thoughts.append(text[: close.start()])
        at = close.end()
    while (opened := _OPEN.search(text, at)) is not None:
        closing = _CLOSING[opened.group()]
        end = text.find(closing, opened.end())
        if end < 0:
            if text[at : opened.start()].strip() or answers or thoughts:
                break  # a mark that is only spoken of
            return Thought(text[opened.end() :].strip(), "", False)
        answers.append(text[at : opened.start()])
        thoughts.append(text[opened.end() : end])
        at = end + len(closing)
    if not thoughts:
        return Thought("", text, True)
    answers.append(text[at:])
    answer = "\n".join(part for part in map(str.strip, answers) if part)
    solution = _SOLUTION.match(answer)
    answer = solution.group(1).strip() if solution else answer
    return Thought("\n".join(part.strip() for part in thoughts), answer, True)


def _of_channels(text: str) -> Thought:
    """A text in the channels of gpt-oss: `analysis` is the thought, all others are the answer."""
    parts = [(match.group(1), match.group(2), match.group(3)) for match in _CHANNEL.finditer(text)]
    if not parts:
        return Thought("", text, True)
    thought = "\n".join(part.strip() for channel, part, _ in parts if channel == "analysis")
    answer = "\n".join(part.strip() for channel, part, _ in parts if channel != "analysis")
    return Thought(thought, answer, bool(answer) or bool(parts[-1][2]))
