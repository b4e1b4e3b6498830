"""Every layout from rows as its makers write them; labels are named or asked for, never guessed."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pyrite.errors import UserError
from pyrite.io import LAYOUTS, Counts, ReadOptions, open_records, read_all
from pyrite.records import Chat, Labelled, Message, Pair, Record, Text

NLI = ("entailment", "neutral", "contradiction")
MAP = {"0": "entailment", "1": "neutral", "2": "contradiction"}
HANS_HEADER = (
    "gold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
    "sentence1\tsentence2\tpairID\theuristic\tsubcase\ttemplate\n"
)


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*turns: str, name: str = "a:1", meta: dict[str, Any] | None = None) -> Chat:
    """Turns alternate user and assistant; one that begins with `system:` is the system's."""
    roles = [turn for turn in turns if turn.startswith("system:")]
    messages = [Message("system", turn.removeprefix("system:")) for turn in roles]
    for index, turn in enumerate(turn for turn in turns if turn not in roles):
        messages.append(Message("assistant" if index % 2 else "user", turn))
    return Chat(tuple(messages), name, meta or {})


CASES: dict[str, tuple[str, dict[str, Any], Record]] = {
    "MultiNLI jsonl": (
        "multinli",
        {
            "annotator_labels": ["neutral"],
            "genre": "slate",
            "gold_label": "neutral",
            "pairID": "63735n",
            "promptID": "63735",
            "sentence1": "The new rights are nice enough",
            "sentence1_binary_parse": "( a b )",
            "sentence1_parse": "(ROOT)",
            "sentence2": "Everyone really likes the newest benefits",
            "sentence2_binary_parse": "( a b )",
            "sentence2_parse": "(ROOT)",
        },
        Pair(
            "The new rights are nice enough",
            "Everyone really likes the newest benefits",
            "neutral",
            "63735n",
            {"genre": "slate", "pairID": "63735n", "promptID": "63735"},
        ),
    ),
    "no agreement": (
        "multinli",
        {"gold_label": "-", "sentence1": "p", "sentence2": "h"},
        Pair("p", "h", "-", "a:1"),
    ),
    "HANS jsonl": (
        "hans",
        {
            "gold_label": "non-entailment",
            "sentence1": "The banker advised the athletes .",
            "sentence2": "The athletes advised the banker .",
            "pairID": "ex0",
            "heuristic": "lexical_overlap",
            "subcase": "ln_subject/object_swap",
            "template": "temp1",
        },
        Pair(
            "The banker advised the athletes .",
            "The athletes advised the banker .",
            "non-entailment",
            "ex0",
            {
                "pairID": "ex0",
                "heuristic": "lexical_overlap",
                "subcase": "ln_subject/object_swap",
                "template": "temp1",
            },
        ),
    ),
    "plain NLI": (
        "nli",
        {"premise": "p", "hypothesis": "h", "label": "neutral"},
        Pair("p", "h", "neutral", "a:1"),
    ),
    "NLI without a label": ("nli", {"premise": "p", "hypothesis": "h"}, Pair("p", "h", None, "a:1")),
    "NLI with a null label": (
        "nli",
        {"premise": "p", "hypothesis": "h", "label": None, "id": 12},
        Pair("p", "h", None, "12"),
    ),
    "ANLI's own": (
        "anli",
        {
            "uid": "u1",
            "context": "p",
            "hypothesis": "h",
            "label": "c",
            "reason": "because",
            "emturk": True,
            "tag": None,
        },
        Pair("p", "h", "contradiction", "u1", {"uid": "u1", "reason": "because", "emturk": True, "tag": None}),
    ),
    "Alpaca": (
        "alpaca",
        {"instruction": "Translate.", "input": "Haus", "output": "house"},
        chat("Translate.\n\nHaus", "house"),
    ),
    "Alpaca without input": (
        "alpaca",
        {"instruction": "Sing.", "input": "", "output": "La", "generator": "davinci"},
        chat("Sing.", "La", meta={"generator": "davinci"}),
    ),
    "GPTeacher": ("alpaca", {"instruction": "Sing.", "input": "", "response": "La"}, chat("Sing.", "La")),
    "Dolly": (
        "alpaca",
        {"instruction": "When?", "context": "In 1899.", "response": "1899", "category": "qa"},
        chat("When?\n\nIn 1899.", "1899", meta={"category": "qa"}),
    ),
    "Alpaca with system and history": (
        "alpaca",
        {"instruction": "And?", "output": "More", "system": "Be brief", "history": [["Hi", "Ho"]]},
        chat("system:Be brief", "Hi", "Ho", "And?", "More"),
    ),
    "OpenAI messages": (
        "messages",
        {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "q"}]},
        Chat((Message("system", ""), Message("user", "q")), "a:1"),
    ),
    "ShareGPT": (
        "sharegpt",
        {"id": "x_0", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        chat("q", "a", name="x_0"),
    ),
    "prompt and completion": ("prompt-completion", {"prompt": "q", "completion": "a"}, chat("q", "a")),
    "prompt and completion as messages": (
        "prompt-completion",
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
        chat("q", "a"),
    ),
    "GSM8K": ("question-answer", {"question": "2+2?", "answer": "#### 4"}, chat("2+2?", "#### 4")),
    "seed task": (
        "self-instruct",
        {"id": "seed_task_0", "instruction": "Name one.", "instances": [{"input": "", "output": "Tea"}]},
        chat("Name one.", "Tea", name="seed_task_0"),
    ),
    "Orca": (
        "prompt-answer",
        {"id": "flan.1", "system_prompt": "Be brief", "question": "q", "response": "a"},
        chat("system:Be brief", "q", "a", name="flan.1"),
    ),
    "input and output": ("prompt-answer", {"input": "q", "output": "a"}, chat("q", "a")),
    "problem with context": (
        "prompt-answer",
        {"problem": "q", "context": "c", "solution": "a", "level": 3},
        chat("q\n\nc", "a", meta={"level": 3}),
    ),
    "a conversation by another name": (
        "conversation",
        {"dialog": [{"speaker": "Human", "text": "q"}, {"speaker": "Bot", "text": "a"}]},
        chat("q", "a"),
    ),
    "text": ("text", {"text": " as it is\n", "url": "u"}, Text(" as it is\n", "a:1", {"url": "u"})),
    "labelled fields": (
        "labelled",
        {"fields": {"b": "1", "a": "2"}, "label": "x", "id": "r", "meta": {"k": [1]}},
        Labelled({"b": "1", "a": "2"}, "x", "r", {"k": [1]}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_every_layout(case: str, tmp_path: Path) -> None:
    name, row, expected = CASES[case]
    reader = open_records(jsonl(tmp_path / "a.jsonl", [row]))
    assert list(reader) == [expected]
    assert reader.layout == name
    assert type(expected) is LAYOUTS[name].kind


def test_every_layout_has_a_case() -> None:
    """Preferences are read a side at a time (test_io_chat_turns.py)."""
    assert {name for name, _, _ in CASES.values()} | {"preference"} == set(LAYOUTS)


def test_hans_as_its_authors_publish_it(tmp_path: Path) -> None:
    values = ["entailment", "( x )", "( x )", "(ROOT)", "(ROOT)", 'The "old" dog .', "A dog .", "ex7", "c", "ce", "t"]
    path = tmp_path / "heuristics_evaluation_set.txt"
    path.write_text(HANS_HEADER + "\t".join(values) + "\n")
    reader = open_records(path)
    meta = {"pairID": "ex7", "heuristic": "c", "subcase": "ce", "template": "t"}
    assert list(reader) == [Pair('The "old" dog .', "A dog .", "entailment", "ex7", meta)]
    assert reader.layout == "hans"


def test_multinli_tsv(tmp_path: Path) -> None:
    path = tmp_path / "multinli_dev.txt"
    path.write_text('gold_label\tsentence1\tsentence2\tpairID\tgenre\n-\t"uh yeah\tYes\t1n\ttelephone\n')
    reader = open_records(path)
    assert list(reader) == [Pair('"uh yeah', "Yes", "-", "1n", {"pairID": "1n", "genre": "telephone"})]
    assert reader.layout == "multinli"


def test_several_instances_are_several_chats_of_one_row(tmp_path: Path) -> None:
    row = {
        "id": "t",
        "instruction": "Add.",
        "instances": [{"input": "1", "output": "2"}, {"input": "2", "output": "3"}],
    }
    bad = {"id": "u", "instruction": "Add.", "instances": [{"input": "1", "output": "2"}, {"input": "2", "output": ""}]}
    path = jsonl(tmp_path / "a.jsonl", [row, bad])
    records, counts = read_all(path, ReadOptions(on_bad_row="skip"))
    assert records == [chat("Add.\n\n1", "2", name="t#1"), chat("Add.\n\n2", "3", name="t#2")]
    assert counts == Counts(2, 1, {"empty text": 1})
    with pytest.raises(UserError, match=r":2: instances\[2\]\.output is ''"):
        read_all(path)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "empty text"),
        (None, "missing field"),
        ("hello", "wrong type"),
        (["hello"], "wrong type"),
        ([{"role": "wizard", "content": "x"}], "unknown role"),
        ([{"content": "x"}], "unknown role"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "missing field"),
        ([{"role": "user", "content": [{"type": "image"}]}], "not text"),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}], "empty text"),
    ],
)
def test_conversations_that_are_none(turns: Any, reason: str, tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "q"}]}
    path = jsonl(tmp_path / "a.jsonl", [good, {"messages": turns}])
    assert read_all(path, ReadOptions(on_bad_row="skip"))[1] == Counts(2, 1, {reason: 1})


# --- labels -----------------------------------------------------------------------------------------------------------


def pairs(tmp_path: Path, labels: Sequence[Any], suffix: str = "jsonl") -> Path:
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        path.write_text("premise,hypothesis,label\n" + "".join(f"p,h,{label}\n" for label in labels))
        return path
    return jsonl(path, [{"premise": "p", "hypothesis": "h", "label": label} for label in labels])


def labels_of(path: Path, options: ReadOptions | None = None) -> list[str | None]:
    records, _ = read_all(path, options or ReadOptions())
    return [record.label for record in records if isinstance(record, (Pair, Labelled))]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_integers_without_names_are_asked_about_not_guessed(suffix: str, tmp_path: Path) -> None:
    path = pairs(tmp_path, [0, 2, 1, -1], suffix)
    for mode in ("stop", "skip"):
        with pytest.raises(UserError, match=r"nothing says what they mean(.|\n)*label is 0(.|\n)*--label-map"):
            read_all(path, ReadOptions(on_bad_row=mode))  # type: ignore[arg-type]
    assert labels_of(path, ReadOptions(label_map=MAP, labels=NLI)) == ["entailment", "contradiction", "neutral", "-"]
    reverse = dict(zip("210", MAP.values(), strict=True))
    assert labels_of(path, ReadOptions(label_map=reverse))[0] == "contradiction"


def test_one_integer_among_names_is_an_unknown_label(tmp_path: Path) -> None:
    path = pairs(tmp_path, ["neutral", 1])
    with pytest.raises(UserError, match=r":2: label is the integer 1"):
        read_all(path)


def test_integers_that_the_user_allows_as_they_are(tmp_path: Path) -> None:
    assert labels_of(pairs(tmp_path, [0, 1]), ReadOptions(labels=("0", "1"))) == ["0", "1"]


@pytest.mark.parametrize("label", [3, 1.5, True, [], {"a": 1}, "Neutral"])
def test_labels_that_a_map_does_not_know(label: Any, tmp_path: Path) -> None:
    reason = "unknown label" if label in (3, "Neutral") and label is not True else "wrong type"
    path = pairs(tmp_path, [0, label])
    with pytest.raises(UserError, match=reason):
        read_all(path, ReadOptions(label_map=MAP))


def test_a_map_accepts_what_is_mapped_already(tmp_path: Path) -> None:
    assert labels_of(pairs(tmp_path, ["neutral", 0, 2.0]), ReadOptions(label_map=MAP)) == [
        "neutral",
        "entailment",
        "contradiction",
    ]


def test_rows_without_a_label_where_labels_are_asked_for(tmp_path: Path) -> None:
    path = pairs(tmp_path, ["neutral", None])
    assert labels_of(path) == ["neutral", None]
    assert read_all(path, ReadOptions(labels=NLI, on_bad_row="skip"))[1].dropped == {"missing field": 1}
    empty = pairs(tmp_path, ["neutral", ""], "csv")
    assert labels_of(empty) == ["neutral", None]


def test_the_file_s_own_names_are_used_in_their_order(tmp_path: Path) -> None:
    """The order is the file's: here contradiction is 0, as in no data set that we know."""
    note = {"info": {"features": {"label": {"names": ["contradiction", "entailment"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"premise": ["p"] * 3, "hypothesis": ["h"] * 3, "label": [1, 0, -1]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(note)}), tmp_path / "a.parquet")
    assert labels_of(tmp_path / "a.parquet") == ["entailment", "contradiction", "-"]
    mapped = ReadOptions(label_map={"contradiction": "no", "1": "yes"})
    assert labels_of(tmp_path / "a.parquet", mapped) == ["yes", "no", "-"]

    table = table.set_column(2, "label", pyarrow.array([1, 2, 0]))
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(note)}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"unknown label(.|\n)*row 2: label is 2; the file names 0 to 1"):
        read_all(tmp_path / "a.parquet")
    parquet.write_table(table.replace_schema_metadata({"huggingface": "{"}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="nothing says what they mean"):
        read_all(tmp_path / "a.parquet")


def test_labelled_rows_keep_integers_as_their_digits(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "good", "label": 1}, {"text": "bad", "label": False}])
    reader = open_records(path, ReadOptions(text_fields=["text"]))
    assert [record.label for record in reader if isinstance(record, Labelled)] == ["1", "false"]
    assert reader.layout == "labelled"
    assert read_all(path)[0][0] == Text("good", "a:1", {"label": 1})


# --- columns and ids --------------------------------------------------------------------------------------------------


def test_named_columns(tmp_path: Path) -> None:
    row = {"s1": "p", "s2": "h", "gold": "neutral", "label": "old", "key": 3, "n": 2.5, "id": "z"}
    path = jsonl(tmp_path / "a.jsonl", [row])
    columns = {"premise": "s1", "hypothesis": "s2", "label": "gold", "id": "key"}
    expected = Pair("p", "h", "neutral", "3", {"label": "old", "key": 3, "n": 2.5, "id": "z"})
    assert read_all(path, ReadOptions(columns=columns))[0] == [expected]
    swapped = ReadOptions(columns={"premise": "s2", "hypothesis": "s1"}, layout="nli")
    assert [(r.premise, r.hypothesis) for r in read_all(path, swapped)[0] if isinstance(r, Pair)] == [("h", "p")]


def test_named_columns_of_a_labelled_task(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"q": "x", "body": "y", "stars": 5, "lang": "en"}])
    options = ReadOptions(columns={"question": "q", "label": "stars"}, text_fields=["question", "body"])
    assert read_all(path, options)[0] == [Labelled({"question": "x", "body": "y"}, "5", "a:1", {"lang": "en"})]
    by_columns = ReadOptions(layout="labelled", columns={"b": "body", "a": "q", "label": "stars"})
    assert read_all(path, by_columns)[0] == [Labelled({"b": "y", "a": "x"}, "5", "a:1", {"lang": "en"})]


def test_text_fields_that_a_pair_has_leave_it_a_pair(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"gold_label": "-", "sentence1": "p", "sentence2": "h"}])
    assert read_all(path, ReadOptions(text_fields=["premise", "hypothesis"]))[0] == [Pair("p", "h", "-", "a:1")]


def test_text_fields_choose_among_stored_fields(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"fields": {"a": "1", "b": "2"}, "label": "x"}])
    assert read_all(path, ReadOptions(text_fields=["b"]))[0] == [Labelled({"b": "2"}, "x", "a:1")]


def test_mistaken_names_are_explained(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"premis": "p", "hypotheses": "h", "label": "neutral"}])
    with pytest.raises(
        UserError, match="did you mean `--columns premise=premis --columns hypothesis=hypotheses`"
    ) as caught:
        read_all(path)
    assert "['premis', 'hypotheses', 'label']" in caught.value.found
    assert all(name in caught.value.fix for name in LAYOUTS)
    with pytest.raises(UserError, match="a named column is not in the file"):
        read_all(path, ReadOptions(columns={"premise": "sentence"}))
    with pytest.raises(UserError, match="the layout has no such column"):
        read_all(path, ReadOptions(columns={"premise": "premis", "hypothesis": "hypotheses", "lable": "label"}))
    with pytest.raises(UserError, match="a text field is not in the file"):
        read_all(path, ReadOptions(text_fields=["premise"]))
    with pytest.raises(UserError, match="did you mean `--layout alpaca`"):
        open_records(path, ReadOptions(layout="alpacca"))


def test_a_row_s_own_id_names_it_and_repeats_are_told_apart(tmp_path: Path) -> None:
    rows = [{"text": "x", "id": name} for name in ("a", "b", "a", "a#3", "a", "", 7, None, "7", "a:8")]
    records, _ = read_all(jsonl(tmp_path / "a.jsonl", rows))
    names = [record.id for record in records]
    assert names == ["a", "b", "a#3", "a#3#4", "a#5", "a:6", "7", "a:8", "7#9", "a:8#10"]
    assert records[0].meta == {}
    assert records[2].meta == {"id": "a"}, "the file's own id is kept where it could not be used"


def test_other_columns_go_to_meta_as_single_values(tmp_path: Path) -> None:
    import datetime

    table = pyarrow.table(
        {
            "text": ["x"],
            "day": [datetime.date(2024, 2, 29)],
            "score": [0.5],
            "ok": [True],
            "n": [3],
            "tags": [["a"]],
            "gone": pyarrow.array([None], pyarrow.int64()),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    expected = {"day": "2024-02-29", "score": 0.5, "ok": True, "n": 3, "gone": None}
    assert read_all(tmp_path / "a.parquet")[0] == [Text("x", "a:1", expected)]


def test_a_column_with_one_role_is_free_for_no_other(tmp_path: Path) -> None:
    """`--columns instruction=input` once asked the same thing twice."""
    path = jsonl(tmp_path / "a.jsonl", [{"input": "q", "output": "a", "n": 1}])
    reader = open_records(path, ReadOptions(columns={"instruction": "input"}))
    assert list(reader) == [chat("q", "a", meta={"n": 1})]
    assert reader.read_as is not None
    assert reader.read_as.in_words() == "read as alpaca: prompt = input, answer = output, not used: n"
    both = {"instruction": "input", "input": "extra"}
    path = jsonl(tmp_path / "a.jsonl", [{"input": "q", "output": "a", "extra": "x"}])
    assert read_all(path, ReadOptions(columns=both))[0] == [chat("q\n\nx", "a")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"Question": "q", "Answer": "a"}, "read as question-answer: prompt = Question, answer = Answer"),
        ({"premise": "p", "hypothesis": "h", "genre": "g"}, "read as nli: premise = premise, hypothesis = hypothesis, not used: genre"),
        ({"text": "t", "my label": 1}, "read as text: text = text, not used: 'my label'"),
        ({"system": "s", "prompt": "q", "completion": "a", "id": 3}, "read as prompt-completion: system = system, prompt = prompt, answer = completion"),
        ({"messages": [{"role": "user", "content": "q"}], "tools": []}, "read as messages: turns = messages, tools = tools"),
        ({"row": {"text": "t"}, "row_idx": 3}, "read as text in row: text = text, not used: row_idx"),
    ],
)  # fmt: skip
def test_what_was_read_is_said(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    reader = open_records(jsonl(tmp_path / "a.jsonl", [row]))
    assert len(list(reader)) == 1
    assert reader.read_as is not None
    assert reader.read_as.in_words() == words
    assert reader.read_as.as_json()["words"] == words


@pytest.mark.parametrize("named", [None, {"answer": "response"}])
def test_a_column_that_appears_later_takes_nothing_over(named: dict[str, str] | None, tmp_path: Path) -> None:
    """`completion` comes before `response` in the layout, and `prompt` before `query`."""
    early = [{"query": f"q{n}", "response": f"r{n}"} for n in range(40)]
    late = [{"prompt": "x", "query": f"q{n}", "completion": "y", "response": f"r{n}"} for n in range(40, 50)]
    path = jsonl(tmp_path / "a.jsonl", [*early, *late])
    reader = open_records(path, ReadOptions(columns=named))
    turns = [tuple(turn.content for turn in record.messages) for record in reader if isinstance(record, Chat)]
    assert turns == [(f"q{n}", f"r{n}") for n in range(50)]
    assert reader.read_as is not None
    assert reader.read_as.columns == {"prompt": ["query"], "answer": ["response"]}
    jsonl(tmp_path / "b.jsonl", [*early, {"query": "q", "completion": "y"}])
    with pytest.raises(UserError, match=r"b\.jsonl:41: no response among"):
        read_all(tmp_path / "b.jsonl", ReadOptions(columns=named))


SPEECH = "What is the capital of France?"
TURNS = [{"role": "user", "content": SPEECH}]
ANSWERED = [*TURNS, {"role": "assistant", "content": "Paris is"}]
NOT_THE_ROW: dict[str, dict[str, Any]] = {
    "a licence": {"prompt_text": SPEECH, "gen": "It is Paris.", "metadata": {"text": "License: MIT"}},
    "the gold answer": {"doc": {"question": SPEECH, "answer": "42"}, "resps": [["It is Paris."]], "target": "42"},
    "the question only": {"input": {"messages": TURNS}, "preferred_output": ANSWERED[1:]},
    "the request": {"request": {"messages": TURNS}, "response": {"choices": [{"message": ANSWERED[1]}]}},
    "the answer only": {"question": SPEECH, "result": {"text": "It is Paris.", "tokens": 3}},
}


@pytest.mark.parametrize("case", NOT_THE_ROW)
def test_an_object_beside_other_text_is_asked_about(case: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [NOT_THE_ROW[case]])
    with pytest.raises(UserError, match="beside it could be what was asked") as caught:
        read_all(path)
    for flags in re.findall(r"`([^`]+)`", caught.value.fix):
        pairs = (word.partition("=") for word in shlex.split(flags) if word != "--columns")
        assert read_all(path, ReadOptions(columns={ours: theirs for ours, _, theirs in pairs}))[1].kept == 1, flags


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"data": {"text": "t"}, "title": "What it is about"}, "read as text in data: text = text, not used: title"),
        ({"custom_id": "a", "body": {"messages": ANSWERED}}, "read as messages in body: turns = messages, not used: custom_id"),
    ],
)  # fmt: skip
def test_an_object_that_is_the_row(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    reader = open_records(jsonl(tmp_path / "a.jsonl", [row]))
    assert len(list(reader)) == 1
    assert reader.read_as is not None
    assert reader.read_as.in_words() == words
