"""`pyrite audit` through the command: findings, shards, flagged and clean rows, gates, bad input, kill and resume."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audit_kit import caller, chat_line, write
from planted import PLANT, human_rows, pair_rows, with_near_duplicates, with_opening, with_overlap_label

from pyrite.audit.rows import Row
from pyrite.cli import run


@pytest.fixture
def audit(tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    return caller(tmp_path, tiny_encoder, tiny_causal, capfd)


def severities(told: dict[str, Any]) -> dict[str, str]:
    """Severity by measure."""
    return {f"{one['flaw']}.{one['measure']}": one["severity"] for one in told["findings"]}


def test_planted_flaws_are_found_and_their_rows_divided(tmp_path: Path, audit: Any) -> None:
    rows, opened = with_opening(human_rows(400, 1, source="made"), 0.6, 1)
    data = write(tmp_path / "data.jsonl", rows)
    one = write(tmp_path / "one.jsonl", human_rows(300, 2, source="one", topic=1))
    two = write(tmp_path / "two.jsonl", human_rows(300, 3, source="two", topic=2))
    flagged, clean = tmp_path / "flagged.jsonl", tmp_path / "clean.jsonl"
    code, told, _ = audit(data, "--reference", one, "--reference", two, "--flagged", flagged, "--clean", clean)
    assert code == 0
    assert told["schema_version"] == 1
    assert told["rows"] == {"read": 400, "kept": 400, "dropped": {}}
    found = next(one for one in told["findings"] if one["measure"] == "opening_concentration")
    assert found["severity"] == "fail"
    assert found["value"] == pytest.approx(0.6, abs=0.06)
    assert found["null"]["p_adjusted"] <= 0.05
    assert found["between_human"]["table"]
    assert found["between_human"]["high"] < 0.5
    assert any("table of" in note for note in told["notes"])
    assert "one.jsonl, two.jsonl cannot be told from each other: they count as one human source" in told["notes"]
    assert [one["source"] for one in told["references"]] == ["one.jsonl + two.jsonl"]
    assert 0 < found["excess"]["low"] < found["excess"]["value"] < found["excess"]["high"]
    assert any(PLANT.split()[0] in line for line in found["evidence"]["lines"])
    assert found["advice"]
    assert told["findings"][0]["severity"] == "fail"  # worst first
    bad, good = ([json.loads(line) for line in path.read_text().splitlines()] for path in (flagged, clean))
    assert len(bad) + len(good) == 400
    assert told["flagged"]["rows"] == 400
    assert told["flagged"]["flagged"] == len(bad)
    assert {row["id"] for row in bad}.isdisjoint({row["id"] for row in good})
    hit = {int(row["id"].split("-")[1]) for row in bad if "opening_concentration" in row["flagged_by"]}
    assert len(hit & opened) >= 0.8 * len(opened)
    assert len(hit & opened) >= 0.8 * len(hit)


def test_the_twin_without_a_flaw_is_silent(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(300, 1, source="made"))
    human = write(tmp_path / "human.jsonl", human_rows(300, 2, source="one"))
    code, told, _ = audit(data, "--reference", human, "--gate", "severity < warn")
    assert code == 0
    assert set(severities(told).values()) == {"ok"}
    assert "the references (1) and from a table" in " ".join(told["notes"])
    _, alone, _ = audit(data, "--reference", human, "--no-prior")
    assert "1 human source, and the table of human sources is not used" in " ".join(alone["notes"])


def test_shards_audited_apart_and_together(tmp_path: Path, audit: Any) -> None:
    rows, _ = with_near_duplicates(human_rows(300, 1, source="made"), 0.2, 1)
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    whole = write(tmp_path / "whole.jsonl", rows)
    parts = [write(tmp_path / "a.jsonl", rows[:130]), write(tmp_path / "b.jsonl", rows[130:])]
    for part in parts:
        audit(part, "--reference", human)
    _, apart, err = audit(*parts, "--reference", human)
    assert "steps to run" in err
    assert ".jsonl: read" not in err  # both files were read before
    _, together, _ = audit(whole, "--reference", human)
    assert apart["rows"] == together["rows"]
    ours, theirs = ({one["measure"]: one for one in told["findings"]} for told in (apart, together))
    assert ours["near"]["severity"] == theirs["near"]["severity"] == "fail"
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        assert one["n"] == theirs[name]["n"]
        assert one["evidence"]["values"].get("rows") == theirs[name]["evidence"]["values"].get("rows")


def test_a_column_names_the_sources(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(150, 1))
    rows = [*human_rows(100, 2, topic=1), *with_opening(human_rows(100, 3, topic=2), 0.9, 1)[0]]
    lines = [{**chat_line(row), "who": "ann" if at < 100 else "ben", "id": str(at)} for at, row in enumerate(rows)]
    human = tmp_path / "human.jsonl"
    human.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, told, _ = audit(data, "--reference", human, "--source-column", "who", only="format")
    assert {one["source"]: one["rows_sampled"] for one in told["references"]} == {"ann": 100, "ben": 100}
    assert {one["between_human"]["source"] for one in told["findings"]} <= {"ann", "ben"}
    assert {name for one in told["findings"] for name in one["between_human"]["distances"]} == {"ann", "ben"}
    code, _, err = audit(data, "--reference", human, "--source-column", "whose", only="format")
    assert code == 2
    assert "whose" in err


def test_without_a_reference(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", with_opening(human_rows(200, 1), 0.5, 1)[0])
    code, told, _ = audit(data)
    assert code == 0
    assert "format.opening_concentration" in told["needs_reference"]
    assert told["references"] == []


def test_a_small_reference_says_so(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(100, 1))
    small = write(tmp_path / "small.jsonl", human_rows(20, 2))
    code, told, _ = audit(data, "--reference", small, only="format")
    assert code == 0
    whys = {one["why"] for one in told["not_measured"]}
    assert any("50 rows" in why and "20" in why for why in whys)


def test_labels_that_follow_overlap(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", with_overlap_label(pair_rows(600, 1), 0.5, 1)[0])
    human = write(tmp_path / "human.jsonl", pair_rows(600, 2))
    code, told, err = audit(data, "--reference", human, only="artifacts")
    assert code == 0, err
    assert severities(told)["artifacts.overlap_label"] == "warn"
    _, alone, _ = audit(data, only="artifacts")
    assert severities(alone)["artifacts.overlap_label"] == "warn"
    assert "artifacts.overlap_label" not in alone["needs_reference"]


def test_gates_and_thresholds_decide_without_measuring_again(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", with_opening(human_rows(200, 1), 0.8, 1)[0])
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    words = (data, "--reference", human)
    assert audit(*words, "--gate", "severity < warn", only="format")[0] == 1
    code, told, err = audit(*words, "--no-prior", "--gate", "severity < fail", only="format")
    assert code == 3  # with one human source, and no table of others, nothing can be a failure
    assert "steps to run" not in err
    assert told["gates"][0]["outcome"] == "undecided"
    code, told, err = audit(*words, only="format")
    assert audit(*words, "--gate", "format.opening_concentration < 5%", only="format")[0] == 1
    assert audit(*words, "--gate", "format.opening_concentration < 90%", only="format")[0] == 0
    middle = f"format.opening_concentration < {value(told, 'opening_concentration'):.4f}"
    assert audit(*words, "--gate", middle, only="format")[0] == 3
    assert audit(*words, "--gate", middle, "--undecided", "pass", only="format")[0] == 0
    every = [f"format.{one['measure']}=9" for one in told["findings"]]
    code, told, _ = audit(*words, *(word for one in every for word in ("--thresholds", one)), only="format")
    assert set(severities(told).values()) == {"ok"}


def test_gates_with_two_sources(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(200, 1))
    both = [word for at in (2, 3) for word in ("--reference", write(tmp_path / f"h{at}.jsonl", human_rows(200, at)))]
    gates = ["--gate", "severity < fail", "--gate", "severity < warn"]
    assert audit(data, *both, *gates, only="format")[0] == 0
    small = write(tmp_path / "small.jsonl", human_rows(20, 4))
    assert audit(data, "--reference", small, "--gate", "severity < warn", only="format")[0] == 3
    flawed = write(tmp_path / "flawed.jsonl", with_opening(human_rows(200, 1), 0.7, 1)[0])
    assert audit(flawed, *both, *gates, only="format")[0] == 1
    tiny = write(tmp_path / "tiny.jsonl", human_rows(30, 5))  # a second source too small to say how people differ
    code, told, _ = audit(flawed, *both[:2], "--reference", tiny, "--gate", "severity < fail", only="format")
    assert (code, told["gates"][0]["outcome"]) == (1, "failed")  # the one of enough rows, and the table
    code, told, _ = audit(flawed, *both, "--no-prior", "--gate", "severity < fail", only="format")
    assert (code, told["gates"][0]["outcome"]) == (3, "undecided")
    assert "5 sources would do" in told["gates"][0]["why"]
    few = audit(flawed, *both, "--permutations", "99", only="format,diversity")[1]
    assert severities(few)["format.opening_concentration"] == "fail"  # more draws than asked, since Holm needs them


def test_what_is_counted_over_all_rows_is_not_lost_in_the_sample(tmp_path: Path, audit: Any) -> None:
    rows = human_rows(500, 1, source="made")
    quiz = human_rows(30, 9, source="quiz")
    longest = max(quiz, key=lambda row: len(row.answer.split()))
    rows[27] = replace(rows[27], answers=(longest.answer,))
    copied = [*rows, *(replace(one, number=500 + at, id=f"copy-{at}") for at, one in enumerate(rows[:20]))]
    data = write(tmp_path / "data.jsonl", copied)
    both = [word for at in (2, 3) for word in ("--reference", write(tmp_path / f"h{at}.jsonl", human_rows(200, at)))]
    other = tmp_path / "other"
    other.mkdir()
    sets = [
        "--against",
        write(tmp_path / "test.jsonl", quiz),
        "--against",
        write(other / "test.jsonl", human_rows(9, 8)),
    ]
    clean = tmp_path / "clean.jsonl"
    code, told, err = audit(
        data, *both, *sets, "--sample", "60", "--clean", clean, only="duplicates,contamination"
    )  # fmt: skip
    assert code == 0, err
    assert severities(told)["contamination.ngram_13"] == severities(told)["duplicates.exact"] == "warn"
    found = {one["measure"]: one for one in told["findings"]}
    assert found["ngram_13"]["counted"]["value"] == pytest.approx(1 / 520)
    assert found["exact"]["counted"]["value"] == pytest.approx(40 / 520)
    again = [data, *both, *sets, "--sample", "60"]
    assert audit(*again, "--gate", "contamination.ngram_13 <= 0", only="duplicates,contamination")[0] == 1
    assert audit(*again, "--gate", "duplicates.exact <= 20%", only="duplicates,contamination")[0] == 0
    kept = {json.loads(line)["id"] for line in clean.read_text().splitlines()}
    assert len(kept) == 520 - 20 - 1
    assert "made-27" not in kept
    assert "made-3" in kept


def test_nothing_that_is_read_is_written_over(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(80, 1))
    before = data.read_bytes()
    same = tmp_path / "same.jsonl"
    for words in (["--clean", data], ["--flagged", same, "--clean", same]):
        code, _, err = audit(data, *words, only="format")
        assert code == 2
        assert "jsonl" in err
    assert data.read_bytes() == before
    assert not same.exists()


def test_references_that_say_nothing(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(80, 1))
    one, copy = (write(tmp_path / name, human_rows(80, 2)) for name in ("one.jsonl", "copy.jsonl"))
    for words in (["--reference", one, "--reference", copy], ["--reference", data]):
        code, _, err = audit(data, *words, only="format")
        assert code == 2
        assert "has the content of" in err


def test_files_of_one_source(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(80, 1))
    words = []
    for at in (2, 3):
        path = tmp_path / f"part-{at}.jsonl"
        lines = [{**chat_line(row), "who": "wiki"} for row in human_rows(80, at, source=f"p{at}")]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        words += ["--reference", path]
    code, told, err = audit(data, *words, "--source-column", "who", "--sample", "100", only="format")
    assert code == 0, err
    assert told["references"] == [{"source": "wiki", "rows_sampled": 100}]


def test_rows_with_several_records_and_rows_without_an_answer(tmp_path: Path, audit: Any) -> None:
    instances = [{"input": "", "output": "one two three"}, {"input": "", "output": "four five"}]
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"instruction": f"do {at}", "instances": instances}) + "\n" for at in range(60)))
    human = write(tmp_path / "human.jsonl", human_rows(100, 2))
    code, told, err = audit(
        many, "--reference", human, "--clean", tmp_path / "c.jsonl", "--flagged", tmp_path / "f.jsonl", only="format"
    )
    assert code == 0, err
    assert told["rows"]["kept"] == 60
    assert told["records"] == told["flagged"]["rows"] == told["sample"]["n"] == 120
    asked = tmp_path / "asked.jsonl"
    asked.write_text(
        "".join(json.dumps({"messages": [{"role": "user", "content": f"q {at}"}]}) + "\n" for at in range(60))
    )
    code, told, err = audit(asked, "--reference", human, only="format,diversity")
    assert code == 0, err
    assert told["findings"] == []
    assert any("no answer" in note for note in told["notes"])


def test_shards_of_two_kinds_are_not_divided(tmp_path: Path, audit: Any) -> None:
    chats = write(tmp_path / "chats.jsonl", human_rows(80, 1))
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": row.answer}) + "\n" for row in human_rows(80, 2)))
    assert audit(chats, texts, only="format")[0] == 0
    code, _, err = audit(chats, texts, "--clean", tmp_path / "c.jsonl", only="format")
    assert code == 2
    assert "Chat, Text" in err


def value(told: dict[str, Any], measure: str) -> float:
    """The excess of a measure."""
    return next(one["excess"]["value"] for one in told["findings"] if one["measure"] == measure)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "beauty"], "beauty"),
        (["--gate", "format.beauty < 1"], "format.beauty"),
        (["--gate", "rm -rf"], "gate"),
        (["--thresholds", "format.opening_concentration=much"], "number"),
        (["--reference", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--only", "contamination", "--against", "hf://org/eval"], "hf download"),
    ],
)
def test_mistakes_name_themselves(
    tmp_path: Path, words: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(60, 1))
    only = [] if "--only" in words else ["--only", "format"]
    assert run(["audit", str(data), *only, *words, "--store", str(tmp_path / "store")]) == 2
    err = capfd.readouterr().err
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no rows"),
        (b'{"messages": 3}\n', "data.jsonl:1"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\xff"}]}\n', "UTF-8"),
        (b'{"apples": 1}\n', "apples"),
    ],
)
def test_files_that_cannot_be_audited(
    tmp_path: Path, content: bytes, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_bytes(content)
    line = ["audit", str(tmp_path / "data.jsonl"), "--only", "format", "--store", str(tmp_path / "store")]
    assert run(line) == 2
    err = capfd.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_bad_rows_are_counted(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(80, 1))
    data.write_bytes(data.read_bytes() + b"{broken\n")
    assert audit(data, only="format")[0] == 2
    flagged, clean = tmp_path / "flagged.jsonl", tmp_path / "clean.jsonl"
    code, told, _ = audit(data, "--on-bad-row", "skip", "--flagged", flagged, "--clean", clean, only="format")
    assert code == 0
    assert told["rows"] == {"read": 81, "kept": 80, "dropped": {"broken JSON": 1}}
    assert told["flagged"]["rows"] == 80


def test_hostile_and_foreign_text(tmp_path: Path, audit: Any) -> None:
    texts = [
        "<script>alert(1)</script> {{7*7}} [red]x[/red]", "\x00\x1b[31m\u202eabc\u2066", "", " ", "你好世界" * 40,
        "مرحبا بالعالم " * 30, "👩‍👩‍👧‍👦" * 50, "a" * 200_000, "1. x\n" * 3000, "\u2028\u2029\r\r\n" * 20,
    ]  # fmt: skip
    rows = [Row(at, f"h-{at}", "q", (texts[at % len(texts)] + str(at // 20) * (at % 3),)) for at in range(120)]
    data = write(tmp_path / "data.jsonl", rows)
    human = write(tmp_path / "human.jsonl", human_rows(120, 2))
    code, told, err = audit(data, "--reference", human, "--on-bad-row", "skip")
    assert code == 0, err
    assert told["rows"]["read"] == 120
    assert told["rows"]["kept"] + sum(told["rows"]["dropped"].values()) == 120
    assert told["rows"]["kept"] > 90


@pytest.mark.slow
def test_a_row_of_100_megabytes(tmp_path: Path, audit: Any) -> None:
    data = write(tmp_path / "data.jsonl", human_rows(80, 1))
    huge = Row(80, "huge", "big", ("lorem ipsum dolor sit amet " * 3_800_000,))
    with data.open("a") as file:
        file.write(json.dumps(chat_line(huge)) + "\n")
    human = write(tmp_path / "human.jsonl", human_rows(80, 2))
    clean = tmp_path / "clean.jsonl"
    code, told, err = audit(data, "--reference", human, "--clean", clean, only="format,tokens,diversity,duplicates")
    assert code == 0, err
    assert told["rows"]["kept"] == 81
    assert len(clean.read_bytes().splitlines()) == told["flagged"]["clean"]


def test_identical_rows(tmp_path: Path, audit: Any) -> None:
    one = human_rows(1, 1)[0]
    data = write(tmp_path / "data.jsonl", [Row(at, f"same-{at}", one.prompt, one.answers) for at in range(200)])
    human = write(tmp_path / "human.jsonl", human_rows(200, 2))
    code, told, _ = audit(data, "--reference", human)
    assert code == 0
    assert severities(told)["duplicates.exact"] == "fail"
    exact = next(one for one in told["findings"] if one["measure"] == "exact")
    assert exact["value"] == pytest.approx(1)


SLOW = """
import sys, time
import pyrite.audit.compare as compare
real = compare.compare_step.__globals__["measure_difference"]
def slow(*given, **named):
    time.sleep(0.4)
    return real(*given, **named)
compare.measure_difference = slow
from pyrite.cli import main
sys.argv = ["pyrite", *sys.argv[1:]]
main()
"""


def test_killed_and_resumed(tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", with_opening(human_rows(150, 1), 0.3, 1)[0])
    human = write(tmp_path / "human.jsonl", human_rows(150, 2))
    words = ["audit", str(data), "--reference", str(human), "--only", "format,diversity", "--json", "--workers", "1"]
    words += ["--permutations", "199"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(store: str, script: str) -> list[str]:
        return [sys.executable, "-c", script, *words, "--store", str(tmp_path / store)]

    plain = "import sys; sys.argv[0] = 'pyrite'; from pyrite.cli import main; main()"
    once = subprocess.run(command("whole", plain), capture_output=True, check=True, env=environment).stdout
    for wait in (1.5, 3.0):
        with subprocess.Popen(
            command("cut", SLOW), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as one:
            time.sleep(wait)
            one.send_signal(signal.SIGKILL)
            one.wait()
    again = subprocess.run(command("cut", plain), capture_output=True, check=True, env=environment).stdout
    assert json.loads(once) == json.loads(again)
