"""Where answers stand in a rendered conversation, and what the templates of many families add, trim and rewrite."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.models.chat_templates import SPECIAL, TEMPLATES

from pyrite.errors import UserError
from pyrite.models.perplexity import encode_record
from pyrite.models.template import (
    BY_TEMPLATE,
    LEFT_OUT,
    NO_END_MARKER,
    PINNED_DATE,
    THOUGHT_LEFT_OUT,
    RowRefused,
    chat_with_answers,
    parse_template_kwargs,
    pinned_template,
    render_chat,
)
from pyrite.records import Chat, Message

QUESTION, ANSWER = "What is two and two?", "Four."
THOUGHT = "<think>\ntwo and two\n</think>\n\n"
PLAIN = (Message("user", QUESTION), Message("assistant", ANSWER))
BLANKS = (Message("user", QUESTION), Message("assistant", f"\n  {ANSWER} \n"))
TWO = (*PLAIN, Message("user", "Four."), Message("assistant", "Is it?"))
"""The second question is the first answer's own words."""
WITH_SYSTEM = (Message("system", "Say Four."), *TWO)
THOUGHTFUL = (Message("user", QUESTION), Message("assistant", THOUGHT + ANSWER))
TWO_THOUGHTFUL = (*THOUGHTFUL, Message("user", "Sure?"), Message("assistant", THOUGHT + "Yes."))


def tokenizer_with(folder: Path, template: str | None) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = template
    return tokenizer


def learned(tokenizer: Any, messages: tuple[Message, ...], **options: Any) -> list[str]:
    """What is learned of a conversation, answer by answer: by a second way that looks at each token alone."""
    chat = Chat(messages, "x")
    row = encode_record(tokenizer, chat, "answers", **options)
    rendered = chat_with_answers(tokenizer, chat, row_name="x", **options)
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    before = len(row.ids) - len(encoded["input_ids"])
    assert row.ids[before:] == encoded["input_ids"]
    assert not any(row.counted[:before])
    inside = {place for start, end in rendered.spans for place in range(start, end)}
    for (start, end), counted in zip(encoded["offset_mapping"], row.counted[before:], strict=True):
        assert counted == any(place in inside for place in range(start, end))
    assert sum(row.bytes) == len("".join(rendered.text[start:end] for start, end in rendered.spans).encode())
    return [rendered.text[start:end] for start, end in rendered.spans]


CASES: list[tuple[str, tuple[Message, ...], list[str], tuple[str, ...]]] = [
    ("chatml", PLAIN, ["Four.<|im_end|>"], ()),
    ("chatml", BLANKS, ["\n  Four. \n<|im_end|>"], ()),
    ("chatml", WITH_SYSTEM, ["Four.<|im_end|>", "Is it?<|im_end|>"], ()),
    ("chatml", THOUGHTFUL, [f"{THOUGHT}Four.<|im_end|>"], ()),
    ("qwen2.5", TWO, ["Four.<|im_end|>", "Is it?<|im_end|>"], ()),
    ("qwen3", PLAIN, ["Four.<|im_end|>"], ()),
    ("qwen3", TWO, ["Four.<|im_end|>", "Is it?<|im_end|>"], ()),
    ("qwen3", THOUGHTFUL, [f"{THOUGHT}Four.<|im_end|>"], ()),
    ("qwen3", TWO_THOUGHTFUL, ["Four.<|im_end|>", f"{THOUGHT}Yes.<|im_end|>"], (THOUGHT_LEFT_OUT,)),
    ("deepseek-r1", TWO, ["Four.<|eos|>", "Is it?<|eos|>"], ()),
    ("deepseek-r1", TWO_THOUGHTFUL, ["Four.<|eos|>", "Yes.<|eos|>"], (THOUGHT_LEFT_OUT, THOUGHT_LEFT_OUT)),
    ("llama2", BLANKS, ["Four. </s>"], ()),
    ("llama2", WITH_SYSTEM, ["Four. </s>", "Is it? </s>"], ()),
    ("llama3", WITH_SYSTEM, ["Four.<|eot_id|>", "Is it?<|eot_id|>"], (PINNED_DATE,)),
    ("mistral-nemo", WITH_SYSTEM, ["Four.</s>", "Is it?</s>"], ()),
    ("gemma", BLANKS, ["Four.<end_of_turn>"], ()),
    ("phi3.5", TWO, ["Four.<|end|>", "Is it?<|end|>"], ()),
    ("vicuna", TWO, ["Four.</s>", "Is it?</s>"], ()),
    ("glm4.5", TWO, ["Four.<|user|>", "Is it?"], (NO_END_MARKER,)),
    ("gpt-oss", TWO, ["Four.<|end|>", "Is it?<|return|>"], ()),
    ("alpaca", TWO, ["Four.", "Is it?"], (NO_END_MARKER, NO_END_MARKER)),
    ("greeting", TWO, ["Four.<|end|>", "Is it?<|end|>"], ()),
    ("granite", TWO, ["Four.<|end_of_text|>", "Is it?<|end_of_text|>"], (PINNED_DATE,)),
]


@pytest.mark.parametrize(("family", "messages", "spans", "remarks"), CASES)
def test_an_answer_is_its_own_words_and_its_end_marker(
    tiny_causal: Path, family: str, messages: tuple[Message, ...], spans: list[str], remarks: tuple[str, ...]
) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES[family])
    assert learned(tokenizer, messages) == spans
    rendered = chat_with_answers(tokenizer, Chat(messages, "x"), row_name="x")
    assert sorted(rendered.remarks) == sorted(remarks)
    assert rendered.text == render_chat(tokenizer, messages, opened=False, row_name="x")


def test_every_family_is_tried() -> None:
    assert {family for family, *_ in CASES} == set(TEMPLATES)


def test_an_empty_thought_that_a_variable_opens_is_no_answer(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES["qwen3"])
    options = parse_template_kwargs(["enable_thinking=false"])
    prompt = render_chat(tokenizer, PLAIN[:1], opened=True, row_name="x", template_kwargs=options)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert learned(tokenizer, PLAIN, template_kwargs=options) == ["Four.<|im_end|>"]


def test_a_thought_that_the_prompt_opens_is_learned_without_its_marker(tiny_causal: Path) -> None:
    template = TEMPLATES["chatml"].replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    template = template.replace("{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n"
                                "{{ m.content.split('<think>\n')[-1] }}{% else %}{{ m.content }}{% endif %}")  # fmt: skip
    tokenizer = tokenizer_with(tiny_causal, template)
    assert learned(tokenizer, THOUGHTFUL) == ["two and two\n</think>\n\nFour.<|im_end|>"]


@pytest.mark.parametrize(
    ("family", "messages"),
    [
        ("gemma", (Message("system", "s"), *PLAIN)),
        ("llama2", (Message("user", "q"), Message("tool", "t"), Message("assistant", "a"))),
    ],
)
def test_a_conversation_that_the_template_refuses(
    tiny_causal: Path, family: str, messages: tuple[Message, ...]
) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES[family])
    with pytest.raises(RowRefused, match="refuses a conversation") as refusal:
        encode_record(tokenizer, Chat(messages, "x"), "answers")
    assert refusal.value.reason == BY_TEMPLATE


def test_an_answer_that_is_left_out_or_rewritten(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, "{% for m in messages[:1] %}{{ m.content }}{% endfor %}")
    with pytest.raises(RowRefused, match="leaves an answer out") as refusal:
        encode_record(tokenizer, Chat(PLAIN, "x"), "answers")
    assert refusal.value.reason == LEFT_OUT
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} of {{ m.content | length }} letters{% endfor %}"
    with pytest.raises(RowRefused, match="cannot be located"):
        encode_record(tokenizer, Chat(PLAIN, "x"), "answers")
    assert all(encode_record(tokenizer, Chat(PLAIN, "x"), "all").counted)


def test_a_template_that_fails_as_a_program_refuses_the_row(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, "{{ messages[0].content + 1 }}")
    with pytest.raises(RowRefused, match="TypeError"):
        render_chat(tokenizer, PLAIN, opened=False, row_name="x")


def test_a_template_that_is_none_is_not_blamed_on_the_rows(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, "{% for m in messages %}{{ m.content }")
    with pytest.raises(UserError, match="chat template cannot be read") as error:
        render_chat(tokenizer, PLAIN, opened=False, row_name="x")
    assert not isinstance(error.value, RowRefused)
    assert "chat_template.jinja" in error.value.fix


def test_the_same_text_on_any_day(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES["llama3"])
    assert "Today Date: 26 Jul 2024" in render_chat(tokenizer, PLAIN, opened=True, row_name="x")
    options = parse_template_kwargs(["date_string=1 May 2026"])
    assert "Date: 1 May 2026" in render_chat(tokenizer, PLAIN, opened=True, row_name="x", template_kwargs=options)
    assert "July 26, 2024." in render_chat(
        tokenizer_with(tiny_causal, TEMPLATES["granite"]), PLAIN, opened=True, row_name="x"
    )
    with pytest.raises(UserError, match="reads the clock"):
        pinned_template("{{ strftime_now(format) }}")


def test_without_a_template_both_sides_have_one_layout(tiny_causal: Path) -> None:
    from pyrite.models.write import opened_prompt

    tokenizer = tokenizer_with(tiny_causal, None)
    assert learned(tokenizer, TWO) == ["Four.</s>", "Is it?</s>"]
    text, ids = opened_prompt(tokenizer, Chat(TWO[:3], "x"))
    row = encode_record(tokenizer, Chat(TWO, "x"), "answers")
    assert text == f"{QUESTION}\n\nFour.</s>\n\nFour.\n\n"
    last = max(at for at in range(len(row.ids)) if not row.counted[at])
    assert row.ids[: last + 1] == ids
    assert row.ids[-1] == tokenizer.eos_token_id


def test_without_a_template_and_an_end_marker_chats_are_not_learned(tiny_causal: Path) -> None:
    from pyrite.train.rows import encode_rows

    tokenizer = tokenizer_with(tiny_causal, None)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="where an answer ends"):
        encode_rows(tokenizer, [Chat(PLAIN, "x")], "answers", 64, long_rows="drop")


CALL = '[{"name": "add", "arguments": {"a": 2, "b": 2}}]'
CALL_AS_TEXT = (
    '[{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 2, \\"b\\": 2}"}}]'
)


@pytest.mark.parametrize("calls", [CALL, CALL_AS_TEXT])
def test_a_tool_call_is_learned_and_its_result_is_not(tiny_causal: Path, calls: str) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES["qwen2.5"])
    messages = (
        Message("user", QUESTION),
        Message("assistant", "", calls),
        Message("tool", "4"),
        Message("assistant", ANSWER),
    )
    call = '\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>'
    assert learned(tokenizer, messages) == [call, "Four.<|im_end|>"]


ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize("variables", [[], ["enable_thinking=false"]])
def test_calls_of_a_template_that_looks_at_what_a_turn_is(tiny_causal: Path, variables: list[str]) -> None:
    """Qwen3's: a line break only after words, an empty thought only in the last turn."""
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES["qwen3"])
    options = parse_template_kwargs(variables)
    question, answer = Message("user", QUESTION), Message("assistant", ANSWER)
    rows = [question, Message("assistant", "", CALL), Message("tool", "4"), answer]
    assert learned(tokenizer, tuple(rows), template_kwargs=options) == [ADD, "Four.<|im_end|>"]
    assert learned(tokenizer, tuple(rows[:2]), template_kwargs=options) == [ADD]
    rows[1] = Message("assistant", "I add.", CALL)
    assert learned(tokenizer, tuple(rows), template_kwargs=options)[0] == f"I add.\n{ADD}"
    rows[1] = Message("assistant", "<think>\nadd\n</think>\n\n", CALL)
    thoughtful = learned(tokenizer, tuple(rows[:2]), template_kwargs=options)
    assert thoughtful == ([f"<think>\nadd\n</think>\n\n{ADD}"])


@pytest.mark.parametrize("template", [TEMPLATES["chatml"], None])
def test_a_call_that_is_not_written_is_not_learned_as_silence(tiny_causal: Path, template: str | None) -> None:
    tokenizer = tokenizer_with(tiny_causal, template)
    with pytest.raises(RowRefused, match="leaves an answer out") as refusal:
        encode_record(tokenizer, Chat((Message("user", QUESTION), Message("assistant", "", CALL)), "x"), "answers")
    assert refusal.value.reason == LEFT_OUT


def test_a_date_of_ones_own_is_not_said_to_be_pinned(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, TEMPLATES["llama3"])
    options = parse_template_kwargs(["date_string=1 May 2026"])
    assert encode_record(tokenizer, Chat(PLAIN, "x"), "answers", template_kwargs=options).remarks == ()


def test_a_refusal_crosses_processes() -> None:
    refusal = pickle.loads(pickle.dumps(RowRefused("a", "b", "c", reason="d")))  # our own bytes
    assert (str(refusal), refusal.reason) == (str(RowRefused("a", "b", "c", reason="d")), "d")


def test_tools_reach_the_template(tiny_causal: Path) -> None:
    tokenizer = tokenizer_with(tiny_causal, "{{ tools | length }} {{ tools[0].function.name }}")
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    assert render_chat(tokenizer, PLAIN, opened=False, row_name="x", tools=tools) == "1 add"


def test_variables_of_a_template() -> None:
    assert parse_template_kwargs([]) == {}
    for wrong in (["thinking"], ["messages=[]"], ["a=1", "a=2"], ["a b=1"]):
        with pytest.raises(UserError, match="NAME=VALUE"):
            parse_template_kwargs(wrong)


@pytest.mark.real
def test_published_templates(tiny_causal: Path) -> None:
    """Every template of a folder that $PYRITE_TEMPLATES names: an answer is learned whole, and nothing that precedes it."""
    folder = os.environ.get("PYRITE_TEMPLATES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$PYRITE_TEMPLATES names no folder of *.jinja files")
    for file in sorted(Path(folder).glob("*.jinja")):
        tokenizer = tokenizer_with(tiny_causal, file.read_text())
        for span, turn in zip(learned(tokenizer, TWO), TWO[1::2], strict=True):
            assert span.startswith(turn.content), file.name


def test_an_answer_that_begins_with_a_marker_is_no_marker_of_the_one_before(tiny_causal: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer = tokenizer_with(tiny_causal, template)
    turns = (Message("user", "a"), Message("assistant", "b"), Message("assistant", "<|im_end|>c"))
    rendered = chat_with_answers(tokenizer, Chat(turns, "x"), row_name="x")
    assert [rendered.text[start:end] for start, end in rendered.spans] == ["b", "<|im_end|>c"]
