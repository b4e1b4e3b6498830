"""Log-probabilities of prompts from endpoints: what a reply holds, what a server can, and which faults are whose."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.models.remote_stub import Reply, Stub, ignore_progress, served
from tests.models.vllm_shapes import BOTH, TinyServer, with_marker

from pyrite.errors import UserError
from pyrite.models.remote_endpoint import Endpoint, Usage
from pyrite.models.remote_fault import Fault
from pyrite.models.remote_scorer import PLAIN, Scorer
from pyrite.models.remote_scores import PromptScores, bytes_of_first, common_beginning, read_scores, score_body

TEXTS = ["the film 7 was lovely", "the café in 東京 was naïve 🙂", "a"]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with served() as server:
        yield server


def scorer(stub: Stub, usage: Usage | None = None, **options: Any) -> Scorer:
    endpoint = Endpoint.model_validate({"base_url": stub.url, "retries": 1, **options})
    return Scorer(endpoint, usage or Usage(), base_wait=0.01)


def nothing() -> None:
    ignore_progress(0, 0, "")


def own_logprobs(server: TinyServer, ids: list[int]) -> list[float]:
    import torch

    with torch.inference_mode():
        logp = server.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return [float(logp[at, token]) for at, token in enumerate(ids[1:])]


# ===== what a reply holds =============================================================================================


def echoed(tokens: list[str], values: list[float | None], **usage: int) -> dict[str, Any]:
    logprobs = {"tokens": tokens, "token_logprobs": values, "text_offset": [0] * len(tokens)}
    return {"choices": [{"text": "x", "logprobs": logprobs}], "usage": usage}


def test_an_echoed_prompt() -> None:
    body = echoed(["The", " sun", "!"], [None, -2.5, -0.5], prompt_tokens=2, completion_tokens=1)
    assert read_scores(body, "echo") == PromptScores(("The", " sun"), (None, -2.5), None, ("!", -0.5))
    ended = echoed(["The", " sun"], [None, -2.5], prompt_tokens=2, completion_tokens=0)  # the end marker is not shown
    assert read_scores(ended, "echo") == PromptScores(("The", " sun"), (None, -2.5))
    without_usage = echoed(["The", " sun", "!"], [None, -2.5, -0.5])
    assert read_scores(without_usage, "echo") == PromptScores(("The", " sun"), (None, -2.5), None, ("!", -0.5))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"choices": []}, "no choices"),
        ({"choices": [{"text": "x", "logprobs": None}]}, "no log-probabilities"),
        (echoed(["!"], [-0.5], prompt_tokens=5, completion_tokens=1), "only what was written"),  # llama.cpp's
        (echoed(["!"], [-0.5]), "only what was written"),
        ({"choices": [{"logprobs": {"content": [{"token": " sky", "logprob": -0.9}]}}]}, "only what was written"),
        (
            echoed(["a", "b", "!"], [None, None, -1.0], prompt_tokens=2, completion_tokens=1),
            "have no log-probabilities",
        ),
        (echoed(["a", "b", "c", "!"], [None, -1.0, None, -1.0], prompt_tokens=3, completion_tokens=1), "1 of 3 tokens"),
        (echoed(["a", "b", "!"], [None, 3.0, -1.0], prompt_tokens=2, completion_tokens=1), "positive"),
        (echoed(["a", "b"], [None], prompt_tokens=2, completion_tokens=1), "no log-probabilities"),
        (echoed(["a", "b", "!"], [None, "x", -1.0], prompt_tokens=2, completion_tokens=1), "no log-prob"),  # type: ignore[list-item]
    ],
)
def test_replies_that_are_no_echo(body: dict[str, Any], words: str) -> None:
    outcome = read_scores(body, "echo")
    assert isinstance(outcome, Fault)
    assert words in outcome.reason


def test_prompt_logprobs_begin_with_the_prompts_own_token() -> None:
    entry = {"logprob": -4.0, "rank": 9, "decoded_token": " sun"}
    likelier = {"logprob": -1.0, "rank": 1, "decoded_token": " moon"}
    choice = {"text": "!", "prompt_logprobs": [None, {"12": entry, "7": likelier}]}
    choice["logprobs"] = {"tokens": ["!"], "token_logprobs": [-0.5]}
    scores = read_scores({"choices": [choice]}, "prompt_logprobs")
    assert scores == PromptScores(("", " sun"), (None, -4.0), (-1, 12), ("!", -0.5))
    infinite = {"choices": [{"prompt_logprobs": [None, {"12": {"logprob": float("-inf"), "decoded_token": "x"}}]}]}
    assert read_scores(infinite, "prompt_logprobs").logprobs == (None, -1e4)  # type: ignore[union-attr]
    for rows in (None, [], [None, None], [None, {"x": entry}], [None, {"12": 3}]):
        assert isinstance(read_scores({"choices": [{"prompt_logprobs": rows}]}, "prompt_logprobs"), Fault)


def test_where_rows_begin_to_differ() -> None:
    def of(*tokens: str) -> PromptScores:
        return PromptScores(tokens, (None, *(-1.0 for _ in tokens[1:])))

    assert common_beginning([of("a", " b", " c"), of("a", " b", " d")]) == 2
    assert common_beginning([of("a", " b"), of("a", " bc")]) == 1  # a token across the border is the label's
    assert common_beginning([of("a", " b"), of("a", " b", " c")]) == 2
    assert of("a", " b", " c").total(1) == -2
    assert of("a", " b", " c").total(2) == -1


def test_the_bytes_of_a_texts_first_token() -> None:
    def of(*tokens: str) -> PromptScores:
        return PromptScores(tokens, (None,) * len(tokens))

    assert bytes_of_first(of("é", "té"), "été") == 2
    assert bytes_of_first(of("", " cat"), "The cat") == 3  # the first is not shown; the rest says what it is
    assert bytes_of_first(of("", "The", " cat"), "The cat") == 0
    assert bytes_of_first(of("<s>", "The", " \ufffd", "\ufffd"), "The 🙂") == 0
    assert bytes_of_first(of("The", " \ufffd", "\ufffd"), "The 🙂") == 3
    assert bytes_of_first(of("The", " \ufffd", "\ufffd", "</s>"), "The 🙂") is None
    assert bytes_of_first(of("<s>", "\ufffd", "\ufffd", " a"), "🙂 a") == 0
    assert bytes_of_first(of("\ufffd", "\ufffd", " a"), "🙂 a") is None
    assert bytes_of_first(of("", " the", " \ufffd", "\ufffd"), "the the 🙂") is None  # which of the two is shown?
    # vLLM writes a character at its last token, and nothing at those before; alone, the first of them is half a character
    assert bytes_of_first(of("<s>", "t", "he", " ", "", "", "🙂"), "the 🙂") == 0
    assert bytes_of_first(of("\ufffd", "", "🙂", " a"), "🙂 a") is None
    assert bytes_of_first(of(" ", " a"), "  a") == 1
    assert bytes_of_first(of("<s>", " The", " cat"), "The cat") == 0
    assert bytes_of_first(of("", " a"), "  a") is None
    assert bytes_of_first(of("", "a"), " a") is None


def test_what_is_asked() -> None:
    assert score_body("m", "a", "echo") == {
        "model": "m", "prompt": "a", "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
    }  # fmt: skip
    body = score_body("m", (1, 2), "prompt_logprobs")
    assert (body["prompt"], body["extra_body"]) == ([1, 2], {"prompt_logprobs": 0})


# ===== what a server can ==============================================================================================


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("marker", [False, True])
def test_scores_are_those_of_the_model(stub: Stub, tiny_causal: Path, tmp_path: Path, way: str, marker: bool) -> None:
    folder = shutil.copytree(tiny_causal, tmp_path / "model")
    server = TinyServer(with_marker(folder) if marker else folder, [way])
    stub.complete, usage = server, Usage()
    asking = scorer(stub, usage)
    ability = asking.find_ability()
    assert (ability.way, ability.model, ability.same_as_written) == (way, "stub", True)
    outcomes = asking.scores(TEXTS, nothing)
    ids = [server.tokenizer(text)["input_ids"] for text in TEXTS]
    assert marker == (ids[0][0] == server.tokenizer.bos_token_id)
    for outcome, row in zip(outcomes, ids, strict=True):
        assert isinstance(outcome, PromptScores)
        assert list(outcome.logprobs[1:]) == pytest.approx(own_logprobs(server, row), abs=1e-4)
    before = len(server.asked)
    by_ids = scorer(stub).scores(ids, nothing)
    assert [outcome.logprobs for outcome in by_ids] == [outcome.logprobs for outcome in outcomes]  # type: ignore[union-attr]
    assert before - 3 <= usage.requests
    assert usage.prompt_tokens > sum(map(len, ids))


def test_a_server_that_has_both_is_asked_once_for_each_prompt(stub: Stub, tiny_causal: Path) -> None:
    stub.complete = server = TinyServer(tiny_causal)
    asking = scorer(stub, model="tiny")
    asking.find_ability()
    asking.find_ability()
    asking.scores(["the film", "the song"], nothing)
    assert sorted(server.asked[-2:]) == ["the film", "the song"]
    assert server.asked[0] == PLAIN
    assert len(server.asked) == 4  # and once with the token that it wrote


@pytest.mark.parametrize("strict", [True, False])
def test_a_server_that_has_neither_is_refused_with_its_words(stub: Stub, tiny_causal: Path, strict: bool) -> None:
    """llama.cpp refuses `echo`, in older versions it ignores it; both ignore or refuse what they do not know."""
    stub.complete = TinyServer(tiny_causal, [], strict=strict)
    with pytest.raises(UserError, match="does not tell the log-probabilities") as error:
        scorer(stub).find_ability()
    words = error.value.found
    assert ("Only no echo is supported" if strict else "only what was written has log-probabilities") in words
    assert ("Extra inputs are not permitted" if strict else "the reply has no prompt_logprobs") in words


def test_a_server_without_completions(stub: Stub) -> None:
    with pytest.raises(UserError, match="does not tell the log-probabilities") as error:
        scorer(stub).find_ability()
    assert "status 404" in error.value.found


def test_a_server_whose_log_probabilities_stand_at_the_wrong_tokens(stub: Stub, tiny_causal: Path) -> None:
    stub.complete = server = TinyServer(tiny_causal)
    server.shift = 1
    with pytest.raises(UserError, match="another log-probability where it is read"):
        scorer(stub).find_ability()


def test_a_wrong_key_is_no_lack_of_ability(stub: Stub) -> None:
    stub.complete = lambda body: Reply(401, {"error": {"message": "Incorrect API key provided"}})
    with pytest.raises(UserError, match="Incorrect API key") as error:
        scorer(stub).find_ability()
    assert "check the key" in error.value.fix


def test_token_ids_that_the_server_reads_otherwise(stub: Stub, tiny_causal: Path) -> None:
    class Adding(TinyServer):
        def __call__(self, body: dict[str, Any]) -> Reply:
            more = {} if isinstance(body["prompt"], str) else {"prompt": [1, *body["prompt"]]}
            return super().__call__({**body, **more})

    stub.complete = Adding(tiny_causal)
    asking = scorer(stub)
    asking.find_ability()
    with pytest.raises(UserError, match="3 token ids were sent, and the server read 4"):
        asking.scores([[5, 6, 7]], nothing)


# ===== whose fault ====================================================================================================


def test_a_prompt_that_is_too_long_is_missing_and_others_are_scored(stub: Stub, tiny_causal: Path) -> None:
    stub.complete = TinyServer(tiny_causal, room=20)
    usage = Usage()
    long = "the film was lovely " * 20
    first, second = scorer(stub, usage).scores([long, "the film"], nothing)
    assert isinstance(first, Fault)
    assert first.missing == "longer than the model reads"
    assert isinstance(second, PromptScores)
    assert (usage.missing, usage.failed) == (1, 0)


@pytest.mark.parametrize("on_failure", ["stop", "missing"])
def test_a_server_that_fails_for_one_prompt(stub: Stub, tiny_causal: Path, on_failure: str) -> None:
    server = TinyServer(tiny_causal)

    def reply(body: dict[str, Any]) -> Reply:
        return Reply(500, {"error": {"message": "out of memory"}}) if body["prompt"] == "the bad" else server(body)

    stub.complete = reply
    asking = scorer(stub, on_failure=on_failure, concurrency=1)
    if on_failure == "stop":
        with pytest.raises(UserError, match="out of memory"):
            asking.scores(["the film", "the bad", "the song"], nothing)
        return
    outcomes = asking.scores(["the film", "the bad", "the song"], nothing)
    assert [isinstance(outcome, Fault) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].missing == "failed through all retries"  # type: ignore[union-attr]


def test_a_busy_server_is_asked_again(stub: Stub, tiny_causal: Path) -> None:
    server, busy = TinyServer(tiny_causal), [True]

    def reply(body: dict[str, Any]) -> Reply:
        if body["prompt"] == "the film" and busy:
            busy.clear()
            return Reply(429, {"error": {"message": "slow down"}})
        return server(body)

    stub.complete, usage = reply, Usage()
    assert isinstance(scorer(stub, usage).scores(["the film"], nothing)[0], PromptScores)
    assert usage.retries == 1


def test_texts_begin_alike_as_far_as_they_say() -> None:
    """Of two characters of two bytes each, the first byte is written alike; by their ids the tokens are told apart."""
    halves = [scores_of("It is", "\ufffd", "\ufffd", ".", nll=nll) for nll in (10, 1)]
    assert common_beginning(halves) == 1
    assert [score.total(1) for score in halves] == [-30, -3]
    marked = [scores_of(first, "It is", " yes", nll=1) for first in ("", "")]
    assert common_beginning(marked) == 3, "a marker before the text may be written as nothing"
    ids = [replace(score, ids=(5, 7, 8 + at, 9)) for at, score in enumerate(halves)]
    assert common_beginning(ids) == 2


def scores_of(*tokens: str, nll: float) -> PromptScores:
    return PromptScores(tokens, (None, *[-nll] * (len(tokens) - 1)))
