"""Chat templates of many families, whole and changed, and chats of any shape: refused, or every answer has a span of its own."""

import json
import random
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conftest import save_tokenizer
from tests.models.chat_templates import SPECIAL, TEMPLATES

from pyrite.errors import UserError
from pyrite.models.template import chat_with_answers, render_chat
from pyrite.records import Chat, Message

TEXTS = [
    "a", "Four.", " Four. \n", "\n\n", "What is two and two?", "é😀", "\u2028", "\U000f0000", "\U00100000", "<|im_end|>", "{{ x }}", "{% if %}",
    "<think>\nw\n</think>\n\nFour.", "<think>w", "</think>", "<think></think>", "user", "assistant", "\0", "<|eot_id|>Four.", "x" * 200,
]  # fmt: skip
CALLS: list[Any] = [
    {"name": "add", "arguments": {"a": 2}}, {"type": "function", "id": "1", "function": {"name": "add", "arguments": "{}"}},
    {"function": {"name": "f", "arguments": "no JSON"}}, {"name": 3}, {}, "f()", 3, None, {"function": None}, {"name": "", "arguments": None},
]  # fmt: skip
TOOLS: list[Any] = [None, None, [], [{"type": "function", "function": {"name": "add"}}], ["f"], "f", {}, [None], 3]
PIECE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|[^{]+|\{", re.DOTALL)


@cache
def tokenizer() -> Any:
    """A tokenizer with the markers of all families."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder:
        save_tokenizer(Path(folder), pair=False)
        loaded = AutoTokenizer.from_pretrained(folder)
    loaded.add_special_tokens({"additional_special_tokens": SPECIAL})
    return loaded


def template(rng: random.Random) -> str | None:
    """A family's template, mostly with pieces left out, doubled, moved, or taken from another."""
    if rng.random() < 0.03:
        return None
    pieces = PIECE.findall(TEMPLATES[rng.choice(sorted(TEMPLATES))])
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        at = rng.randrange(len(pieces))
        other = PIECE.findall(TEMPLATES[rng.choice(sorted(TEMPLATES))])
        pieces[at : at + rng.randrange(2)] = rng.choice(
            [[], [rng.choice(other)], [pieces[at]] * 2, ["{{ x.y }}"], ["{%"]]
        )
        pieces = pieces or [""]
    return "".join(pieces)


def chat(rng: random.Random) -> Chat:
    """Turns, mostly as they should be."""
    turns: list[Message] = []
    usual = ["user", "assistant"] * rng.randrange(1, 4)
    for role in ["system"] * (rng.random() < 0.3) + usual:
        if rng.random() < 0.1:
            role = rng.choice(["system", "user", "assistant", "tool"])
        calls = ""
        if role == "assistant" and rng.random() < 0.15:
            calls = json.dumps([rng.choice(CALLS) for _ in range(rng.randrange(1, 3))])
        content = "" if calls and rng.random() < 0.7 else rng.choice(TEXTS)
        turns.append(Message(role, content, calls))  # type: ignore[arg-type]
    return Chat(tuple(turns), "a:1", {"tools": rng.choice(TOOLS)})


def check(rng: random.Random, folder: Path) -> str:
    """Render one chat; what became of it."""
    loaded, row = tokenizer(), chat(rng)
    loaded.chat_template = template(rng)
    options = rng.choice([None, None, {"enable_thinking": False}, {"date_string": 3}])
    try:
        render_chat(
            loaded, row.messages[:-1], opened=True, row_name="a:1", tools=row.meta["tools"], template_kwargs=options
        )
        rendered = chat_with_answers(loaded, row, row_name="a:1", template_kwargs=options)
    except UserError:
        return "chat refused"
    answers = [turn for turn in row.messages if turn.role == "assistant"]
    assert len(rendered.spans) == len(answers)
    before = 0
    for (start, end), answer in zip(rendered.spans, answers, strict=True):
        assert before <= start <= end <= len(rendered.text), (rendered.spans, rendered.text)
        before = end
        if not answer.tool_calls and "think>" not in answer.content:
            assert answer.content.strip() in rendered.text[start:end], (answer.content, rendered.text[start:end])
    return "chat rendered"
