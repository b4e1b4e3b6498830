"""Who speaks, in which words and wrappings; calls of tools; two answers to one question."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.audit.rows import audit_row
from pyrite.data.keys import row_key
from pyrite.errors import UserError
from pyrite.io import Counts, ReadOptions, file_hash, open_records, read_all, turn_text, write_jsonl
from pyrite.io.chat_turns import ROLES, role_of
from pyrite.records import Chat, Message
from pyrite.thoughts import split_thought

SKIP = ReadOptions(on_bad_row="skip")


def chats(tmp_path: Path, row: Any, options: ReadOptions = SKIP, name: str = "") -> list[list[tuple[str, str]]]:
    """The turns of a row's chats, each as role and content."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    records = read_all(f"{path}{name}", options)[0]
    return [[(turn.role, turn.content) for turn in record.messages] for record in records if isinstance(record, Chat)]


QA = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize("word", [*ROLES, "Human", "ASSISTANT", "Tool-Response", " ChatBot "])
def test_roles_by_other_words(word: str, tmp_path: Path) -> None:
    role = role_of(word)
    assert role is not None
    turns = [{"role": word, "content": "x"}, {"role": "assistant", "content": "a"}]
    assert chats(tmp_path, {"messages": turns}) == [[(role, "x"), ("assistant", "a")]]


def test_roles_that_the_user_names(tmp_path: Path) -> None:
    row = {"messages": [{"role": "narrator", "content": "q"}, {"role": "user", "content": "a"}]}
    with pytest.raises(UserError, match=r"unknown role(.|\n)*`--roles narrator=assistant`"):
        chats(tmp_path, row, ReadOptions())
    options = ReadOptions(roles={"narrator": "user", "user": "assistant"})
    assert chats(tmp_path, row, options) == [QA]
    with pytest.raises(UserError, match=r"no such role(.|\n)*`--roles narrator=assistant`"):
        chats(tmp_path, row, ReadOptions(roles={"narrator": "teller"}))


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WRAPPINGS: dict[str, Any] = {
    "JSON text": {"messages": json.dumps(TURNS)},
    "Python text, as pandas writes it": {"messages": repr(TURNS)},
    "an object": {"conversation": {"messages": TURNS}},
    "an object of another name": {"sample": {"messages": TURNS, "source": "s"}, "split": "train"},
    "a row in a column": {"row": {"instruction": "q", "output": "a"}},
    "lists side by side": {"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}},
    "ShareGPT side by side": {"conversations": {"from": ["human", "gpt"], "value": ["q", "a"]}},
    "a pair in an object": {"conversation": [{"human": "q", "assistant": "a"}]},
    "Gemini's": {"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "bot", "text": "a"}]},
    "ChatGPT's export": {"messages": [{"author": {"role": "user"}, "content": {"parts": ["q"]}}, TURNS[1]]},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_turns_in_every_wrapping(name: str, tmp_path: Path) -> None:
    assert chats(tmp_path, WRAPPINGS[name]) == [QA]


def test_a_parquet_column_of_turns(tmp_path: Path) -> None:
    for at, messages in enumerate((TURNS, {"role": ["user", "assistant"], "content": ["q", "a"]})):
        parquet.write_table(pyarrow.table({"messages": [messages]}), tmp_path / f"{at}.parquet")
        (record,) = read_all(tmp_path / f"{at}.parquet")[0]
        assert isinstance(record, Chat)
        assert [(turn.role, turn.content) for turn in record.messages] == QA


def test_parts_that_are_no_text_cost_the_row(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x.png"}}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": TURNS}) + "\n" + json.dumps({"messages": [{"role": "user", "content": parts}]}))  # fmt: skip
    assert read_all(path, SKIP)[1] == Counts(2, 1, {"not text": 1})
    two = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert chats(tmp_path, {"messages": [{"role": "user", "content": two}]}) == [[("user", "one\ntwo")]]


# --- tools ------------------------------------------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"city":"Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "w", "parameters": {"n": 1}}}]
WITH_TOOLS = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "3 C"},
    {"role": "assistant", "content": "It is 3 degrees.", "tool_calls": None},
]


def first_chat(tmp_path: Path, row: Any, options: ReadOptions = SKIP) -> Chat:
    path = tmp_path / "tools.jsonl"
    path.write_text(json.dumps(row) + "\n")
    record = read_all(path, options)[0][0]
    assert isinstance(record, Chat)
    return record


THOUGHT = "<think>\ntwo and two\n</think>\n\n"
ADD = {"function": {"name": "add", "arguments": "{}"}}
THOUGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "DeepSeek's": ({"content": "4", "reasoning_content": "two and two"}, f"{THOUGHT}4"),
    "OpenRouter's": ({"content": "4", "reasoning": "two and two\n", "refusal": None}, f"{THOUGHT}4"),
    "Ollama's": ({"content": "4", "thinking": "two and two"}, f"{THOUGHT}4"),
    "with markers": ({"content": "4", "thinking": "<think>two and two</think>"}, f"{THOUGHT}4"),
    "twice": ({"content": "<think>two and two</think>4", "reasoning_content": "two and two"}, "<think>two and two</think>4"),
    "two spellings": ({"content": "4", "reasoning": "two and two", "reasoning_content": "two and two"}, f"{THOUGHT}4"),
    "no thought": ({"content": "4", "reasoning_content": None, "thinking": ""}, "4"),
    "no answer": ({"content": None, "reasoning_content": "two and two"}, THOUGHT),
    "before a call": ({"content": None, "reasoning_content": "two and two", "tool_calls": [ADD]}, THOUGHT),
    "Anthropic's": (
        {"content": [{"type": "thinking", "thinking": "two and two", "signature": "x"}, {"type": "text", "text": "4"}]},
        f"{THOUGHT}4",
    ),
    "Mistral's": (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "two and two"}]}, {"type": "text", "text": "4"}]},
        f"{THOUGHT}4",
    ),
    "a part before a call": (
        {"content": [{"type": "thinking", "thinking": "two and two"}, {"type": "tool_use", "name": "add", "input": {}}]},
        THOUGHT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_stand_before_the_answer(name: str, tmp_path: Path) -> None:
    turn, content = THOUGHTS[name]
    answer = first_chat(tmp_path, {"messages": [TURNS[0], {"role": "assistant", **turn}]}).messages[1]
    assert answer.content == content
    thought = split_thought(answer.content)
    assert thought.thought == ("" if name == "no thought" else "two and two")
    assert thought.answer == ("" if name in ("no answer", "before a call", "a part before a call") else "4")
    assert bool(answer.tool_calls) == name.endswith("call")


def test_thoughts_of_other_turns(tmp_path: Path) -> None:
    pair = {"conversation": [{"human": "q", "assistant": "a", "reasoning": "two and two"}]}
    assert chats(tmp_path, pair) == [[("user", "q"), ("assistant", f"{THOUGHT}a")]]
    call = {"from": "function_call", "value": "{}", "thinking": "two and two"}
    turns = [{"from": "human", "value": "q"}, call, {"from": "gpt", "value": "a"}]
    assert chats(tmp_path, {"conversations": turns})[0][1] == ("assistant", THOUGHT)
    left_out = ReadOptions(on_bad_row="skip", tool_calls="leave-out")
    assert chats(tmp_path, {"conversations": turns}, left_out) == [QA], "a thought before a call goes with the call"
    sides = {"prompt": "q", "completion": [{"role": "assistant", "content": "a", "thinking": "two and two"}]}
    assert chats(tmp_path, sides) == [[("user", "q"), ("assistant", f"{THOUGHT}a")]]
    hidden = {"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]}
    with pytest.raises(UserError, match="not text"):
        chats(tmp_path, hidden, ReadOptions())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"messages": [{**TURNS[0], "name": "bob", "weight": None}, {**TURNS[1], "thinking": "t", "weight": 0}]},
            "read as messages: turns = messages, thought = messages.thinking, not used: messages.name messages.weight",
        ),
        (
            {"messages": json.dumps([{**TURNS[0], "thinking": "t"}, {**TURNS[1], "text": "b"}]), "n": 1},
            "read as messages: turns = messages, not used: n messages.thinking messages.text",
        ),
        (
            {"prompt": "q", "answer": [{**TURNS[1], "reasoning": {"steps": 3}}]},
            "read as prompt-answer: prompt = prompt, answer = answer, not used: answer.reasoning",
        ),
        (
            {"messages": [TURNS[0], {**TURNS[1], "tool_calls": [ADD]}, {"role": "tool", "content": "4", "tool_call_id": "1"}]},
            "read as messages: turns = messages",
        ),
    ],
)  # fmt: skip
def test_keys_of_turns_that_are_not_used_are_named(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    reader = open_records(path)
    assert len(list(reader)) == 1
    assert reader.read_as is not None
    assert reader.read_as.in_words() == words


def test_calls_of_tools_are_part_of_the_answer(tmp_path: Path) -> None:
    chat = first_chat(tmp_path, {"messages": WITH_TOOLS, "tools": TOOLS})
    assert [turn.content for turn in chat.messages] == ["Weather?", "", "3 C", "It is 3 degrees."]
    assert json.loads(chat.messages[1].tool_calls) == [CALL]
    assert [turn.tool_calls for turn in chat.messages[2:]] == ["", ""]
    assert chat.meta["tools"] == TOOLS
    row = audit_row(chat, 0)
    assert row.answers == ('{"name":"w","arguments":{"city":"Oslo"}}', "It is 3 degrees.")
    write_jsonl([chat], tmp_path / "copy.jsonl")
    assert read_all(tmp_path / "copy.jsonl")[0] == [chat]


def test_tools_that_are_json_text(tmp_path: Path) -> None:
    row = {"messages": TURNS, "tools": json.dumps([ADD])}
    assert first_chat(tmp_path, row).meta["tools"] == [ADD]
    assert first_chat(tmp_path, {**row, "tools": "a hammer"}).meta["tools"] == "a hammer"


def test_calls_of_tools_left_out(tmp_path: Path) -> None:
    options = ReadOptions(tool_calls="leave-out", on_bad_row="skip")
    chat = first_chat(tmp_path, {"messages": WITH_TOOLS, "tools": TOOLS}, options)
    assert [(turn.role, turn.content) for turn in chat.messages] == [("user", "Weather?"), ("assistant", "It is 3 degrees.")]  # fmt: skip
    assert "tools" not in chat.meta
    path = tmp_path / "tools.jsonl"
    path.write_text(json.dumps({"messages": TURNS}) + "\n" + json.dumps({"messages": WITH_TOOLS[:3]}))
    assert read_all(path, options)[1] == Counts(2, 1, {"empty text": 1}), "nothing but a call was answered"


SPELLINGS: dict[str, Any] = {
    "function_call": {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": '{"city": "Oslo"}'}},
    "JSON text": {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])},
    "ShareGPT": {"from": "function_call", "value": '{"name": "w", "arguments": {"city": "Oslo"}}'},
    "Anthropic": {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "w", "input": {"city": "Oslo"}}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_calls_in_every_spelling(name: str, tmp_path: Path) -> None:
    key = "conversations" if name == "ShareGPT" else "messages"
    asked = {"from": "human", "value": "q"} if name == "ShareGPT" else {"role": "user", "content": "q"}
    chat = first_chat(tmp_path, {key: [asked, SPELLINGS[name]]})
    assert turn_text(chat.messages[1]) == '{"name":"w","arguments":{"city":"Oslo"}}'


def test_answers_of_tools_in_anthropic_s_blocks(tmp_path: Path) -> None:
    blocks = [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "3 C"}]}]
    turns = [TURNS[0], SPELLINGS["Anthropic"], {"role": "user", "content": blocks}, TURNS[1]]
    assert [turn.role for turn in first_chat(tmp_path, {"messages": turns}).messages] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip


def test_a_message_without_content_or_calls_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"messages": TURNS}, {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": []}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_all(path, SKIP)[1] == Counts(2, 1, {"missing field": 1})


def test_chats_that_differ_by_a_call_only_are_two(tmp_path: Path) -> None:
    plain = first_chat(tmp_path, {"messages": WITH_TOOLS})
    other = json.loads(json.dumps(WITH_TOOLS).replace("Oslo", "Rome"))
    assert row_key(plain) != row_key(first_chat(tmp_path, {"messages": other}))
    assert row_key(plain) == row_key(first_chat(tmp_path, {"messages": WITH_TOOLS}))


def test_content_stays_what_it_was() -> None:
    assert turn_text(Message("assistant", "It is 3.", json.dumps([CALL]))) == 'It is 3.\n{"name":"w","arguments":{"city":"Oslo"}}'  # fmt: skip


# --- preferences ------------------------------------------------------------------------------------------------------

HH = "\n\nHuman: q\n\nAssistant: "
PREFERENCES: dict[str, Any] = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "Orca's": {"system": "", "question": "q", "chosen": "good", "rejected": "bad"},
    "dialogues": {
        "prompt": "q",
        "chosen": [TURNS[0], {"role": "assistant", "content": "good"}],
        "rejected": [TURNS[0], {"role": "assistant", "content": "bad"}],
    },
    "answers as turns": {
        "prompt": [TURNS[0]],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    },
    "one turn": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "HH": {"chosen": f"{HH}good", "rejected": f"{HH}bad"},
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_each_side_of_a_preference_is_a_set_of_its_own(name: str, tmp_path: Path) -> None:
    row = PREFERENCES[name]
    assert chats(tmp_path, row, name="#chosen") == [[("user", "q"), ("assistant", "good")]]
    assert chats(tmp_path, row, name="#rejected") == [[("user", "q"), ("assistant", "bad")]]
    with pytest.raises(UserError, match=r"two answers(.|\n)*a\.jsonl#chosen` or `.*a\.jsonl#rejected`"):
        chats(tmp_path, row)
    path = tmp_path / "a.jsonl"
    assert len({file_hash(path), file_hash(f"{path}#chosen"), file_hash(f"{path}#rejected")}) == 3


def test_any_column_can_be_the_answer(tmp_path: Path) -> None:
    row = {"instruction": "q", "output": "gold", "response": "model's"}
    assert chats(tmp_path, row, name="#response") == [[("user", "q"), ("assistant", "model's")]]
    reader = open_records(f"{tmp_path / 'a.jsonl'}#output")
    assert [record.messages[1].content for record in reader if isinstance(record, Chat)] == ["gold"]
    assert reader.read_as is not None
    assert reader.read_as.in_words() == "read as alpaca: prompt = instruction, answer = output, not used: response"
