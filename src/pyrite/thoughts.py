"""What a reasoning model thinks before it answers, and the answer that follows: told apart by the markers between them."""

import re
from dataclasses import dataclass

PAIRS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
)
"""Opening and closing markers of published model families."""
LONE = tuple(
    (closing, re.compile(rf"(?:\A|(?<=\n))[ \t]*{re.escape(closing)}|{re.escape(closing)}(?=[ \t]*(?:\n|\Z))"))
    for _, closing in PAIRS
    if closing in ("</think>", "<|end_of_thought|>", "[/THINK]", "</seed:think>", "<channel|>")
)
"""Closing markers that end a thought even where its opening stands in the prompt: at the beginning or end of a line, so that an
answer may speak of them."""
_BLANKS = re.compile(r"\s*")
KEYS = ("reasoning_content", "thinking", "reasoning")
"""Keys of a turn, or of an endpoint's message, that hold the thought beside the content."""
HARMONY = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>(analysis|commentary)\b[^<]*<\|message\|>")
HARMONY_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final\b[^<]*<\|message\|>")
MARKERS = frozenset(marker for pair in PAIRS for marker in pair) | {
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
}
"""Every marker, to be kept where a text is decoded without its special tokens."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A text's `thought` and `answer`, and whether the thought was `closed`: of one that was cut off the answer is empty.

    A text without a thought is all answer, and closed. `thought_at` and `answer_at` are where they begin in the text.
    """

    thought: str
    answer: str
    closed: bool
    thought_at: int = 0
    answer_at: int = 0


def split_thought(text: str) -> Thought:
    r"""Where does the thought end and the answer begin?

    A thought stands at the beginning of a text, between one of `PAIRS`, or in the channels of the harmony format; one
    that follows it at once belongs to it. Where the prompt opened the thought, the text holds its closing marker alone, at the
    beginning or end of a line.
    Blanks around the two are left out.

    >>> split_thought("<think>\n2 + 2\n</think>\n\nIt is 4.").answer
    'It is 4.'
    >>> split_thought("<think>\n2 + 2 is").closed, split_thought("It is 4.").closed
    (False, True)
    """
    if HARMONY.match(text) or HARMONY_FINAL.match(text):
        return harmony(text)
    first, end = None, 0
    while (opened := opening_at(text, end)) is not None:
        start, closing = opened
        first = start if first is None else first
        at = text.find(closing, start)
        if at < 0:
            return cut(text, first, text[first:], len(text), closed=False)
        last, end = at, at + len(closing)
    if first is None:
        lone = min(
            (match for closing, marker in LONE if closing in text and (match := marker.search(text))),
            key=lambda match: match.start(),
            default=None,
        )
        if lone is None or any(opening in text[: lone.start()] for opening, _ in PAIRS):
            return Thought("", text, closed=True)
        first, last, end = 0, lone.start(), lone.end()
    return cut(text, first, text[first:last], end, closed=True)


def has_thought(text: str) -> bool:
    """Does a text begin with a thought, be it an empty one?"""
    thought = split_thought(text)
    return bool(thought.thought) or not thought.closed or thought.answer_at > 0


def harmony(text: str) -> Thought:
    """A text in the harmony format: the answer is in the channel `final`, the thought in those before it."""
    final = HARMONY_FINAL.search(text)
    first = HARMONY.match(text)
    start = first.end() if first is not None else 0
    if final is None:
        return cut(text, start, text[start:], len(text), closed=False)
    thought = text[start : final.start()].removesuffix("<|end|>") if first is not None else ""
    whole = cut(text, start, thought, final.end(), closed=True)
    answer = re.split(r"<\|(?:return|end|call)\|>", whole.answer)[0]
    return Thought(whole.thought, answer, whole.closed, whole.thought_at, whole.answer_at)


def opening_at(text: str, start: int) -> tuple[int, str] | None:
    """Does a thought open here, blanks aside? Where its words begin, and the marker that closes it."""
    blanks = _BLANKS.match(text, start)
    assert blanks is not None
    at = blanks.end()
    for opening, closing in PAIRS:
        if text.startswith(opening, at):
            return at + len(opening), closing
    return None


def cut(text: str, first: int, thought: str, end: int, *, closed: bool) -> Thought:
    """A text cut in two, blanks around the parts left out."""
    thought_at = first + len(thought) - len(thought.lstrip())
    answer = text[end:]
    answer_at = end + len(answer) - len(answer.lstrip())
    return Thought(thought.strip(), answer.strip(), closed, thought_at, answer_at)


def open_marker(text: str) -> str:
    """The marker with which a text, such as an opened prompt, ends in the middle of a thought; "" where it does not."""
    bare = text.rstrip()
    return next((opening for opening, _ in PAIRS if bare.endswith(opening)), "")
