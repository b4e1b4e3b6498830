"""What was thought before an answer, where a turn of a chat has it apart: in a key of its own, or in a part."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyrite.thoughts import KEYS, split_thought

_PART_TYPES = frozenset({"thinking", "reasoning"})


def thought_in(turn: Mapping[str, Any]) -> tuple[str, str]:
    """The key of a turn that holds a thought, and the thought; two empty texts where none does."""
    thoughts = ((name, _plain_text(turn.get(name))) for name in KEYS)
    return next(((name, text) for name, text in thoughts if text), ("", ""))


def part_thought(part: object) -> str | None:
    """The thought that a part of a content is, {"type": "thinking", "thinking": …} (it may be empty); None where it is
    no thought, or one that cannot be read."""
    if not isinstance(part, Mapping) or part.get("type") not in _PART_TYPES:
        return None
    return next((text for name in ("thinking", "reasoning", "text") if (text := _plain_text(part.get(name))) is not None), None)  # fmt: skip


def with_thought(thought: str, answer: str) -> str:
    """A thought and the answer as one text, which `split_thought` divides again; the answer alone where it begins with
    the same thought."""
    if not thought or split_thought(answer).thought == thought:
        return answer
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def _plain_text(value: object) -> str | None:
    """The text of a thought without markers and blanks around it; None where it is no text."""
    if isinstance(value, Sequence) and not isinstance(value, str):  # Mistral: [{"type": "text", "text": …}]
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        value = "\n".join(text for text in texts if isinstance(text, str)) if all(isinstance(text, str) for text in texts) else None  # fmt: skip
    if not isinstance(value, str):
        return None
    marked = split_thought(value)
    return marked.thought if marked.thought and not marked.answer else value.strip()
