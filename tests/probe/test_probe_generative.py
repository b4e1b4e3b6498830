"""Tasks whose answers are texts, through the command: answered by a tiny model, judged by an endpoint of our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.remote_stub import Reply, Stub, served
from tests.probe.written_kit import examples_in, instructions_in, judge, line, overall, questions_in, ratings, told

from pyrite.cli import run

pytest.importorskip("lm_eval")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return questions_in(tmp_path)


@pytest.fixture
def instructions(tmp_path: Path) -> Path:
    return instructions_in(tmp_path)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return examples_in(tmp_path)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with served() as it:
        yield it


def test_ifeval_by_hand(
    tiny_chat: Path, instructions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three prompts one follows all it is told, of four instructions two are followed."""
    card = told(capsys, line(tiny_chat, f"ifeval={instructions}", tmp_path / "s"))
    assert (card["task"], card["metric"]) == ("ifeval", "prompt_strict")
    assert overall(card) == {
        "prompt_strict": (pytest.approx(1 / 3), 3, 0),
        "instruction_strict": (0.5, 4, 0),
        "prompt_loose": (pytest.approx(1 / 3), 3, 0),
        "instruction_loose": (0.5, 4, 0),
    }
    kinds = {
        row["name"]: (row["value"], row["n"])
        for row in card["slices"]
        if (row["metric"], row["by"]) == ("instruction_strict", "kind")
    }
    assert kinds == {"length_constraints": (1.0, 2), "keywords": (0.0, 2)}
    assert card["notes"][0] == "answers are cut at 8 new tokens; the standard is 1280"
    assert card["notes"][1].endswith("of 3 answers were cut at the limit")
    assert "lm-eval" in card["details"]["checkers"]


def test_a_bad_row_can_be_skipped_and_is_counted(
    tiny_chat: Path, instructions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the flag; the flag does what the message says, and the scorecard says what was left out."""
    with instructions.open("a") as sink:
        sink.write('{"key": 10, "prompt": "say", "instruction_id_list": ["no:such"], "kwargs": [{}]}\n')
    command = line(tiny_chat, f"ifeval={instructions}", tmp_path / "s")
    assert run(command) == 2
    err = capsys.readouterr().err
    assert "input_data.jsonl:4" in err
    assert "--on-bad-row skip" in err
    card = told(capsys, [*command, "--on-bad-row", "skip"])
    assert overall(card)["prompt_strict"] == (pytest.approx(1 / 3), 3, 0)
    assert any("4 rows" in note and "unknown instruction" in note for note in card["notes"])


def test_fewer_items_are_some_of_the_same(
    tiny_causal: Path, instructions: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s"
    card = told(capsys, line(tiny_causal, f"ifeval={instructions}", store, "--items", "2"))
    assert overall(card)["prompt_strict"][1:] == (2, 0)
    card = told(capsys, line(tiny_causal, f"followbench={examples}", store, "--items", "7"))
    assert sum(overall(card)["hsr"][1:]) == 5  # examples stay whole
    assert run(line(tiny_causal, f"followbench={examples}", store, "--items", "4")) == 2
    assert "no whole example" in capsys.readouterr().err


def test_without_a_judge_what_it_would_say_is_missing(
    tiny_causal: Path, questions: Path, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = told(capsys, line(tiny_causal, f"mt_bench={questions}", tmp_path / "s"))
    assert overall(card) == {"score": (None, 0, 6)}
    assert any("no judge was given" in note for note in card["notes"])
    card = told(capsys, line(tiny_causal, f"followbench={examples}", tmp_path / "s"))
    assert overall(card) == {"hsr": (0.0, 5, 5), "ssr": (0.0, 5, 5), "csl": (0.0, 1, 1)}
    assert any("no judge was given" in note for note in card["notes"])
    assert card["notes"][0] == "answers are cut at 8 new tokens; the standard is 2048"


def test_mt_bench_with_two_votes(
    tiny_causal: Path, questions: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turns: 5, 8, 2, 2, 5 and one missing: 4.4. Votes 1 and 2 of what was read in full: 21/5 and 23/5, so that
    a vote's score varies by 0.4 / sqrt 2; within, sqrt(2) / 5 is the same."""
    flags = judge(stub, ratings, "--judge-votes", "2")
    card = told(capsys, line(tiny_causal, f"mt_bench={questions}", tmp_path / "s", *flags))
    assert overall(card) == {"score": (pytest.approx(4.4), 5, 1)}
    noise = card["judge_noise"]["score"]
    assert noise["value"] == pytest.approx(0.4 / 2**0.5)
    assert (noise["n"], noise["n_missing"]) == (5, 1)
    who = card["details"]["judge"]
    assert (who["model"], who["votes"], who["versions"], who["steady"]) == ("j-1", 2, ["stub-1"], True)
    assert len(stub.asked) == 12
    assert {body["model"] for body in stub.asked} == {"j-1"}
    with_reference = [body["messages"][-1]["content"] for body in stub.asked if "REFERENCE 1" in str(body)]
    assert len(with_reference) == 4
    by_turn = {row["name"]: row["value"] for row in card["slices"] if row["by"] == "turn"}
    assert by_turn == {"1": pytest.approx(4.0), "2": pytest.approx(5.0)}


def test_one_vote_takes_the_published_noise(
    tiny_causal: Path, questions: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    card = told(capsys, line(tiny_causal, f"mt_bench={questions}", tmp_path / "s", *judge(stub, ratings)))
    assert overall(card) == {"score": (pytest.approx(21 / 5), 5, 1)}
    assert (card["judge_noise"]["score"]["value"], len(stub.asked)) == (0.2, 6)


def test_followbench_with_two_votes(
    tiny_causal: Path, examples: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second vote denies requirement 3. Example 1: HSR 1, 1, 1/2, 1/2, 1/2, SSR 1, 1, 5/6, 7/8, 9/10, and CSL
    1 + 1 + 1/2 + 1/4 + 1/8; example 2, by rule: 0. A vote's HSR over ten items: 0.5, then 0.2."""

    def verdict(content: str, time: int) -> str:
        level = content.partition("A request was extended ")[2].partition(" ")[0]
        said = ["NO" if time and at == 3 else "YES" for at in range(1, int(level) + 1)]
        return "VERDICT: " + ", ".join(f"{at}={word}" for at, word in enumerate(said, 1))

    flags = judge(stub, verdict, "--judge-votes", "2")
    card = told(capsys, line(tiny_causal, f"followbench={examples}", tmp_path / "s", *flags))
    assert overall(card) == {
        "hsr": (pytest.approx(0.35), 10, 0),
        "ssr": (pytest.approx((2 + 5 / 6 + 7 / 8 + 9 / 10) / 10), 10, 0),
        "csl": (pytest.approx(2.875 / 2), 2, 0),
    }
    assert card["judge_noise"]["hsr"]["value"] == pytest.approx(0.3 / 2**0.5)
    levels = {row["name"]: row["value"] for row in card["slices"] if (row["metric"], row["by"]) == ("hsr", "level")}
    assert levels == {"1": 0.5, "2": 0.5, "3": 0.25, "4": 0.25, "5": 0.25}
    assert not any("no judge" in note for note in card["notes"])
    assert len(stub.asked) == 10
    assert run(line(tiny_causal, f"followbench={examples}", tmp_path / "s", *flags)) == 0
    assert len(stub.asked) == 10  # the same again asks nobody


def test_an_endpoint_answers_and_refusals_are_missing(
    questions: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Question 121 is withheld, so neither of its turns can be rated; the second turn of the others shows the first."""
    stub.script["What is 6 times 7?"] = [Reply(status=400, body={"error": {"code": "content_filter", "message": "no"}})]
    flags = ["--backend", "openai", "--base-url", stub.url, "--concurrency", "1"]
    card = told(capsys, line("stub", f"mt_bench={questions}", tmp_path / "s", *flags))
    assert overall(card) == {"score": (None, 0, 6)}
    assert card["notes"][0].endswith("a verdict bears: 1 answers were refused and count as missing")
    asked = {body["messages"][-1]["content"]: body for body in stub.asked}
    assert set(asked) == {
        "Write of a film.",
        "What is 6 times 7?",
        "You are a critic.",
        "Write it again.",
        "Now a guest.",
    }
    assert [message["content"] for message in asked["Now a guest."]["messages"]] == [
        "You are a critic.",
        "fine",
        "Now a guest.",
    ]
    assert {text: body["temperature"] for text, body in asked.items()} == {
        "Write of a film.": 0.7, "Write it again.": 0.7, "You are a critic.": 0.7, "Now a guest.": 0.7,
        "What is 6 times 7?": 0.0,
    }  # fmt: skip
    assert {body["max_tokens"] for body in stub.asked} == {8}


def test_two_models_that_a_judge_reads_twice(
    questions: Path, tmp_path: Path, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are judged, a change is held against the judge's noise, and the same answers make no change."""
    with served() as other:
        flags = judge(other, ratings, "--judge-votes", "2", "--backend", "openai", "--base-url", stub.url)
        other.script.reply = lambda content, time: ratings(content, time % 2)  # type: ignore[attr-defined]
        arguments = line("one", f"mt_bench={questions}", tmp_path / "s", *flags)
        shown = told(capsys, [*arguments[:2], "two", *arguments[2:]])
        assert len(other.asked) == 24
    assert {body["model"] for body in stub.asked} == {"one", "two"}
    assert [card["overall"]["value"] for card in shown["scorecards"]] == [pytest.approx(4.4)] * 2
    (compared,) = shown["compared"]
    assert {row["difference"]["value"] for row in compared["contrasts"] if row["difference"]["n"]} == {0.0}
    assert compared["against_judge_noise"] == {"score": "cannot tell yet"}
    assert compared["flips"] == []
