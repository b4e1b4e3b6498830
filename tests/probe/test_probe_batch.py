"""OpenAI batch files: requests written, responses read in any order, and every line that is no answer counted by reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.models.remote_stub import good, served
from tests.probe.written_kit import jsonl, judge, overall, questions_in, ratings

from pyrite.cli import run

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*words: str, code: int = 0) -> dict[str, Any]:
        got = run(["probe", *words, "--json", "--quiet", "--store", str(tmp_path / "s")])
        out, err = capsys.readouterr()
        assert got == code, err
        return json.loads(out) if code == 0 else {"says": " ".join(err.split())}

    return asked


@pytest.fixture
def questions(tmp_path: Path) -> str:
    rows = [{"question": f"What is {at}?", "answer": f"#### {at}"} for at in range(5)]
    return f"gsm8k={jsonl(rows, tmp_path / 'q.jsonl')}"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def response(request: dict[str, Any], text: str, **more: Any) -> dict[str, Any]:
    """What `vllm run-batch` writes for a request."""
    body = {**good(text), "model": request["body"]["model"]}
    answered = {"status_code": 200, "request_id": "vllm-batch-1", "body": body}
    return {"id": "vllm-1", "custom_id": request["custom_id"], "response": answered, "error": None, **more}


def refused(request: dict[str, Any], status: int, message: str) -> dict[str, Any]:
    """What it writes where the server refused one."""
    error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": status}
    answered = {"status_code": status, "request_id": "vllm-batch-1", "body": None}
    return {"id": "vllm-1", "custom_id": request["custom_id"], "response": answered, "error": error}


def told(request: dict[str, Any]) -> str:
    """The right answer to a question of the file."""
    return "#### " + request["body"]["messages"][-1]["content"].rpartition("What is ")[2].partition("?")[0]


def exported(ask: Ask, questions: str, folder: Path, *more: str) -> list[dict[str, Any]]:
    shown = ask("small", "--task", questions, "--export", str(folder), *more)
    assert shown["exported"] == [str(folder / "gsm8k.jsonl")]
    return lines(folder / "gsm8k.jsonl")


def test_requests_and_their_answers(ask: Ask, questions: str, tmp_path: Path) -> None:
    """Five requests, answered in another order: the same score as from an endpoint, whose requests say the same."""
    requests = exported(ask, questions, tmp_path / "batch")
    assert len({request["custom_id"] for request in requests}) == 5
    assert {(request["method"], request["url"]) for request in requests} == {("POST", "/v1/chat/completions")}
    assert {request["body"]["model"] for request in requests} == {"small"}
    answers = [response(request, told(request)) for request in reversed(requests)]
    card = ask("--task", questions, "--predictions", str(jsonl(answers, tmp_path / "out.jsonl")))
    assert overall(card)["accuracy"] == (1.0, 5, 0)
    assert "answers of a batch file: 5 lines" in card["notes"]
    assert card["details"]["answers"]["models"]["models"] == ["small"]
    assert card["details"]["answers"]["tokens"] == 25
    with served() as stub:
        ask("small", "--task", questions, "--backend", "openai", "--base-url", stub.url)
    by_text = {body["messages"][-1]["content"]: body for body in stub.asked}
    assert by_text == {request["body"]["messages"][-1]["content"]: request["body"] for request in requests}


def test_ids_are_stable_and_tell_what_is_asked(ask: Ask, questions: str, tmp_path: Path) -> None:
    first = exported(ask, questions, tmp_path / "a")
    ids = [request["custom_id"] for request in first]
    assert [request["custom_id"] for request in exported(ask, questions, tmp_path / "b")] == ids
    other_model = ask("large", "--task", questions, "--export", str(tmp_path / "c"))
    assert [request["custom_id"] for request in lines(Path(other_model["exported"][0]))] == ids
    shorter = exported(ask, questions, tmp_path / "d", "--max-new-tokens", "7")
    assert {request["body"]["max_tokens"] for request in shorter} == {7}
    assert not set(ids) & {request["custom_id"] for request in shorter}
    assert [key.rpartition("/")[0] for key in ids] == [request["custom_id"].rpartition("/")[0] for request in shorter]


def test_parameters_go_by_their_flags(ask: Ask, questions: str, tmp_path: Path) -> None:
    flags = [
        "--leave-out",
        "seed",
        "--rename",
        "max_tokens=max_completion_tokens",
        "--chat-template-kwargs",
        "think=false",
    ]
    body = exported(ask, questions, tmp_path / "a", *flags)[0]["body"]
    assert set(body) == {"model", "messages", "max_completion_tokens", "temperature", "top_p", "chat_template_kwargs"}
    assert body["chat_template_kwargs"] == {"think": False}


def test_answers_to_other_requests_are_refused_by_name(ask: Ask, questions: str, tmp_path: Path) -> None:
    answers = [response(request, told(request)) for request in exported(ask, questions, tmp_path / "a")]
    file = str(jsonl(answers, tmp_path / "out.jsonl"))
    says = ask("--task", questions, "--predictions", file, "--max-new-tokens", "7", code=2)["says"]
    assert "answers nothing that is asked" in says
    assert "the prompts or the options have changed since the export: 5 of 5" in says


def test_what_is_missing_failed_and_refused(ask: Ask, questions: str, tmp_path: Path) -> None:
    """One answered, one too long (the prompt's own), one that failed, one that is not there, one answered to another request."""
    requests = exported(ask, questions, tmp_path / "a")
    changed = {**requests[4], "custom_id": requests[4]["custom_id"].rpartition("/")[0] + "/" + 12 * "0"}
    answers = [
        response(requests[0], told(requests[0])),
        refused(requests[1], 400, "This model's maximum context length is 8 tokens."),
        refused(requests[2], 500, "out of memory"),
        response(changed, "#### 4"),
        response({**requests[0], "custom_id": "gsm8k/of another file/abc"}, "x"),
    ]
    file = str(jsonl(answers, tmp_path / "out.jsonl"))
    says = ask("--task", questions, "--predictions", file, code=2)["says"]
    assert "The batch file lacks answers" in says
    for words in (
        "failed through all retries: 1 of 5",
        "not in the batch file: 1 of 5",
        "have changed since the export: 1 of 5",
    ):
        assert words in says
    assert "--on-failure missing" in says
    card = ask("--task", questions, "--predictions", file, "--on-failure", "missing")
    assert overall(card)["accuracy"] == (1.0, 1, 4)
    reasons = card["details"]["answers"]["missing"]
    assert sorted(reasons.values()) == [1, 1, 1, 1]
    assert {"longer than the model reads", "failed through all retries", "not in the batch file"} < set(reasons)
    assert "answers of a batch file: 5 lines, not used: of other items 1" in card["notes"]


def test_lines_that_are_no_answers(ask: Ask, questions: str, tmp_path: Path) -> None:
    requests = exported(ask, questions, tmp_path / "a")
    answers = [json.dumps(response(request, told(request))) for request in requests]
    twice = json.dumps(response(requests[2], "#### 99"))
    file = tmp_path / "out.jsonl"
    file.write_text("\n".join([*answers, twice, "{torn", json.dumps(requests[0]), "[]", ""]))
    says = ask("--task", questions, "--predictions", str(file), code=2)["says"]
    assert f"{file}:6: answered twice" in says
    card = ask("--task", questions, "--predictions", str(file), "--on-bad-row", "skip")
    assert overall(card)["accuracy"] == (1.0, 5, 0)  # the first answer counts
    assert "answers of a batch file: 9 lines, not used: answered twice 2, no response 2" in card["notes"]


def test_a_file_of_requests_is_no_file_of_answers(ask: Ask, questions: str, tmp_path: Path) -> None:
    exported(ask, questions, tmp_path / "a")
    says = ask("--task", questions, "--predictions", str(tmp_path / "a" / "gsm8k.jsonl"), code=2)["says"]
    assert "gsm8k.jsonl:1: a request, no response" in says
    assert "is not there" in ask("--task", questions, "--predictions", str(tmp_path / "none"), code=2)["says"]


def test_two_turns_are_two_batches_and_a_judge_reads_both(ask: Ask, tmp_path: Path) -> None:
    """The second turn shows the answer to the first; one that was not answered has none."""
    task = f"mt_bench={questions_in(tmp_path)}"
    (first,) = ask("small", "--task", task, "--export", str(tmp_path / "one"))["exported"]
    requests = lines(Path(first))
    assert {request["body"]["temperature"] for request in requests} == {0.7, 0.0}
    answers = [response(request, f"first of {request['custom_id'].split('/')[1]}") for request in requests]
    answers[1] = refused(requests[1], 400, "This model's maximum context length is 8 tokens.")
    out = jsonl(answers, tmp_path / "one.out")
    says = ask("--task", task, "--predictions", str(out), code=2)["says"]
    assert "The batch file holds no second turn" in says
    (second,) = ask("small", "--task", task, "--export", str(tmp_path / "two"), "--predictions", str(out))["exported"]
    assert Path(second).name == "mt_bench-turn-2.jsonl"
    follow = lines(Path(second))
    assert [len(request["body"]["messages"]) for request in follow] == [3, 3]
    assert all(request["body"]["messages"][1]["content"].startswith("first of") for request in follow)
    both = jsonl([*answers, *(response(request, "second") for request in follow)], tmp_path / "both")
    with served() as stub:
        flags = judge(stub, ratings)
        card = ask("--task", task, "--predictions", str(both), *flags)
    assert overall(card)["score"][1:] == (4, 2)
    assert card["details"]["answers"]["missing"] == {"longer than the model reads": 1}


def test_what_cannot_be_exported(ask: Ask, questions: str, tmp_path: Path) -> None:
    assert "A batch file is for a model" in ask("--task", questions, "--export", str(tmp_path / "a"), code=2)["says"]
    text = jsonl([{"text": "a"}], tmp_path / "t.jsonl")
    says = ask("small", "--task", f"perplexity={text}", "--export", str(tmp_path / "a"), code=2)["says"]
    assert "This task cannot be exported" in says
    answers = [response(request, "x") for request in exported(ask, questions, tmp_path / "b")]
    out = str(jsonl(answers, tmp_path / "out"))
    says = ask("small", "--task", questions, "--export", str(tmp_path / "c"), "--predictions", out, code=2)["says"]
    assert "This task has one turn" in says


def test_the_run_folder_holds_the_answers(ask: Ask, questions: str, tmp_path: Path) -> None:
    answers = [response(request, told(request)) for request in exported(ask, questions, tmp_path / "a")]
    out = str(jsonl(answers, tmp_path / "out.jsonl"))
    ask("--task", questions, "--predictions", out, "--out", str(tmp_path / "run"))
    (texts,) = (tmp_path / "run").rglob("*texts*.parquet")
    assert "#### 3" in pl.read_parquet(texts)["text"].to_list()
