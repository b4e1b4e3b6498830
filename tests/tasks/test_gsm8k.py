"""GSM8K: numbers and formats read by hand, rows that cannot be asked, and the published references of the real file."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.records import Chat, Message
from pyrite.tasks import gsm8k

ROWS = [
    {"question": "What is 9 times 2?", "answer": "9 * 2 = <<9*2=18>>18\n#### 18"},
    {"question": "Half of 2,400,000?", "answer": "Half of it.\n#### 1,200,000"},
    {"question": "How much is lost?", "answer": "15 - 20 = -5\n#### -5"},
]


def written(path: Path, rows: list[dict[str, object]] | list[dict[str, str]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18", "18"),
        ("She sells 9 eggs for $18.00 a day.", "18"),
        ("That makes 18.", "18"),
        ("It is **$1,200,000**!", "1200000"),
        ("a list: 1,2,3", "3"),
        ("8-5", "5"),
        ("(8)-5", "5"),
        ("8 - 13 = -5", "-5"),
        ("a loss of $-5", "-5"),
        ("a loss of -$5", "-5"),
        ("a loss of −5", "-5"),
        ("half a dollar: $.50", "0.5"),
        ("#### 18 dollars for 3 people", "18"),
        ("#### 7\nNo, wait.\n#### 18", "18"),
        ("#### 18\nThe 3 others get nothing.", "18"),
        ("#### 1. First\n9 * 2\n#### 2. Then\nThe answer is 18", "18"),
        ("#### 12) First\nThe answer is 18", "18"),
        ("#### Step 1\n9 * 2 = 18", "18"),
        ("#### none, but 18", "18"),
    ],
)
def test_the_number_of_an_answer(text: str, number: str) -> None:
    assert gsm8k.final_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "I cannot tell.", "####", "eighteen"])
def test_an_answer_without_a_number(text: str) -> None:
    assert gsm8k.final_number(text) is None


@pytest.mark.parametrize("text", ["#### 18", "9 * 2\n#### 18\n\n", "x\n#### -5", "x\n#### 1,200.50  "])
def test_the_tasks_own_format(text: str) -> None:
    assert gsm8k.in_format(text)


@pytest.mark.parametrize(
    "text", ["", "18", "x #### 18", "#### 18\nSo 18.", "#### 18 dollars", "#### $18", "### 18", "#### ", "#### x"]
)
def test_another_format(text: str) -> None:
    assert not gsm8k.in_format(text)


def test_values_by_hand(tmp_path: Path) -> None:
    """Right in the format, right without it, wrong in the format, wrong without, not answered."""
    items, counts = gsm8k.read_counted(written(tmp_path / "sums.jsonl"))
    assert (counts.read, counts.kept, counts.dropped) == (3, 3, {})
    assert items[0] == Chat((Message("user", "What is 9 times 2?"),), "1", {"gold": "18"})
    assert [item.meta["gold"] for item in items] == ["18", "1200000", "-5"]

    def values(*answers: str | None) -> list[float | None]:
        by_id = {item.id: answer for item, answer in zip(items, answers, strict=True)}
        scores = gsm8k.measure(items, by_id)
        assert [score.metric for score in scores] == ["accuracy", "format"] * 3
        assert [score.item for score in scores] == ["1", "1", "2", "2", "3", "3"] == [score.group for score in scores]
        return [score.value for score in scores]

    assert values("#### 18.0", "It is $1,200,000.00.", "#### 5") == [1, 1, 1, 0, 0, 1]
    assert values("", None, "nothing") == [0, 0, None, None, 0, 0]


def test_ids_do_not_hang_on_the_files_name(tmp_path: Path) -> None:
    """A stored answer is found again after the file was renamed; a row's own id is kept."""
    rows = [*ROWS, {**ROWS[0], "id": "mine"}]
    ids = {
        tuple(item.id for item in gsm8k.read_counted(written(tmp_path / name, rows))[0])
        for name in ("one.jsonl", "other.jsonl")
    }
    assert ids == {("1", "2", "3", "mine")}


def test_chats_are_read_too(tmp_path: Path) -> None:
    """The messages before the reference answer are asked, as they stand."""
    turns = [("system", "Be brief."), ("user", "9 times 2?"), ("assistant", "#### 18")]
    row = {"id": "a", "messages": [{"role": role, "content": text} for role, text in turns]}
    (item,), _ = gsm8k.read_counted(written(tmp_path / "chats.jsonl", [row]))
    assert item == Chat((Message("system", "Be brief."), Message("user", "9 times 2?")), "a", {"gold": "18"})


def test_rows_without_a_reference_number_stop_or_are_counted(tmp_path: Path) -> None:
    """A reference without a number must not become a wrong answer."""
    rows = [*ROWS, {"question": "And now?", "answer": "about 18"}, {"question": "No answer"}]
    file = written(tmp_path / "sums.jsonl", rows)
    with pytest.raises(UserError, match="row sums:4 of"):
        gsm8k.read_counted(file)
    items, counts = gsm8k.read_counted(file, "skip")
    assert [item.id for item in items] == ["1", "2", "3"]
    assert (counts.read, counts.kept, counts.dropped["no reference number"]) == (5, 3, 1)
    with pytest.raises(UserError, match="no row could be read"):
        gsm8k.read_counted(written(tmp_path / "none.jsonl", rows[3:4]), "skip")
    pairs = {"premise": "a", "hypothesis": "b", "label": "neutral"}
    with pytest.raises(UserError, match="no row could be read") as caught:
        gsm8k.read_counted(written(tmp_path / "pairs.jsonl", [pairs]))
    assert "the first is row pairs:1 of" in caught.value.found
    assert "--on-bad-row" not in caught.value.fix


@pytest.mark.real
def test_published_references(data_folder: Path) -> None:
    """Every reference answer is right and in the format; without its last line it mostly still ends in the number."""
    file = data_folder / "gsm8k" / "test_part.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    items, counts = gsm8k.read_counted(file)
    answers = [json.loads(line)["answer"] for line in file.read_text().splitlines()]
    assert counts.kept == len(answers) == len(items)
    by_id = {item.id: answer for item, answer in zip(items, answers, strict=True)}
    assert {score.value for score in gsm8k.measure(items, by_id)} == {1.0}
    bare = gsm8k.measure(items, {at: answer.partition("####")[0] for at, answer in by_id.items()})
    right = [score.value for score in bare if score.metric == "accuracy"]
    assert sum(value or 0 for value in right) / len(right) > 0.95
    assert {score.value for score in bare if score.metric == "format"} == {0.0}
