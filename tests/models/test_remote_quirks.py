"""Prompts that an endpoint refuses beside endpoints that refuse all; parameters, parts, thoughts, streams, addresses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_stub import USAGE, Reply, Stub, good, ignore_progress, prompts, served

from pyrite.errors import UserError
from pyrite.models.answers import Answer, Writing, read_answers, write_answers
from pyrite.models.remote import Endpoint, Usage, chat
from pyrite.models.remote_fault import ErrorText, Fault, fault_of
from pyrite.models.remote_request import without_refused
from pyrite.records import Chat, Message

KEY = "sk-test-0123456789abcdef"
TOO_LONG = {
    "openai": (400, {"error": {"message": "This model's maximum context length is 8 tokens. However, your messages "
        "resulted in 9 tokens.", "param": "messages", "code": "context_length_exceeded"}}),
    "vllm": (400, {"object": "error", "message": "This model's maximum context length is 8 tokens. However, you "
        "requested 9 tokens (4 in the messages, 5 in the completion).", "type": "BadRequestError", "code": 400}),
    "llama.cpp": (400, {"error": {"code": 400, "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error"}}),
    "older llama.cpp": (500, {"error": {"code": 500, "message": "context size exceeded", "type": "server_error"}}),
    "another": (413, {"detail": "Input is too long for requested model."}),
    "inside": (200, {"error": {"code": 400, "message": "prompt is too long: 9 tokens > 8 maximum"}}),
}  # fmt: skip


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as server:
        yield server


def ask(
    stub: Stub, texts: str, out: Path, writing: Writing | None = None, usage: Usage | None = None, **options: Any
) -> Usage:
    endpoint = Endpoint(**{"base_url": stub.url, "model": "stub", "concurrency": 1, "retries": 1, **options})
    asked = prompts(*texts)
    return chat(
        endpoint, asked, writing or Writing(), out, report_progress=ignore_progress, usage=usage, base_wait=0.001
    )


def stored(file: Path) -> dict[str, Answer]:
    return {answer.id.removeprefix("id-"): answer for answer in read_answers(file)}


class Answers:
    """The stub's script as a function of the request's text; what gives None is answered well."""

    def __init__(self, stub: Stub, reply: Callable[[dict[str, Any]], Reply | None]) -> None:
        self.stub, self.reply = stub, reply

    def __getitem__(self, text: str) -> list[Reply]:
        reply = self.reply(self.stub.asked[-1])
        return [] if reply is None else [reply]


def says(stub: Stub, reply: Callable[[dict[str, Any]], Reply | None]) -> None:
    """Let the stub answer by the body of each request."""
    stub.script = Answers(stub, reply)  # type: ignore[assignment]


# --- one prompt, or all of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_prompt_that_is_too_long_is_missing(stub: Stub, tmp_path: Path, server: str) -> None:
    """Not asked again, the others are; a finished file asks nothing."""
    status, body = TOO_LONG[server]
    stub.script["b"] = [Reply(status, body)]
    usage = ask(stub, "abc", tmp_path / "a")
    answers = stored(tmp_path / "a")
    assert {key: answer.why_missing for key, answer in answers.items()} == {
        "a": "", "b": "longer than the model reads", "c": "",
    }  # fmt: skip
    assert (answers["b"].finish, answers["b"].text) == ("missing", "")
    assert "long" in answers["b"].meta["detail"] or "context" in answers["b"].meta["detail"]
    assert (usage.requests, usage.missing, usage.refused, usage.failed) == (3, 1, 0, 0)
    assert ask(stub, "abc", tmp_path / "a").requests == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"model": "stub", "choices": []}, "a reply that cannot be read"),
        (b"<html><title>Sign in</title></html>", "a reply that cannot be read"),
        (b"{", "a reply that cannot be read"),
        (good(None), "a reply without text"),
        (good(None, finish="tool_calls", tool_calls=[{"id": "x"}]), "a reply without text"),
        ({"error": {"message": "upstream is down"}}, "a reply that cannot be read"),
    ],
)
def test_a_prompt_whose_replies_hold_no_answer_is_missing(stub: Stub, tmp_path: Path, body: Any, why: str) -> None:
    stub.script["b"] = [Reply(body=body)] * 2
    usage = ask(stub, "abc", tmp_path / "a")
    answers = stored(tmp_path / "a")
    assert [answers[text].why_missing for text in "abc"] == ["", why, ""]
    assert (usage.requests, usage.retries, usage.missing) == (4, 1, 1)


def test_the_last_prompt_is_missing_once_a_plain_one_was_answered(stub: Stub, tmp_path: Path) -> None:
    stub.script["c"] = [Reply(422, {"detail": "no"})]
    ask(stub, "abc", tmp_path / "a")
    assert [body["messages"][-1]["content"] for body in stub.asked] == ["a", "b", "c", "Say yes."]
    assert stored(tmp_path / "a")["c"].why_missing == "refused by the endpoint"


def test_a_file_that_begins_with_prompts_that_are_too_long(stub: Stub, tmp_path: Path) -> None:
    """The first twenty are refused, a plain one is answered each time that it is asked: all are asked."""
    status, body = TOO_LONG["vllm"]
    texts = "abcdefghijklmnopqrstuvwxyz"
    for text in texts[:20]:
        stub.script[text] = [Reply(status, body)]
    usage = ask(stub, texts, tmp_path / "a")
    asked = [body["messages"][-1]["content"] for body in stub.asked]
    assert asked.count("Say yes.") == 6  # after each third, as long as nothing was answered
    assert (usage.missing, usage.requests) == (20, 32)
    assert len(stored(tmp_path / "a")) == 26


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_endpoint_that_refuses_all_is_the_settings_fault(stub: Stub, tmp_path: Path, concurrency: int) -> None:
    """Loudly, after a few, with what the endpoint names; and nothing is written, so that all are asked once it is mended."""
    error = {"message": "max_tokens is too large: 99. The model allows at most 16.", "param": "max_tokens"}
    stub.always = Reply(400, {"error": error})
    with pytest.raises(UserError) as caught:
        ask(stub, "abcdefghijklmnop", tmp_path / "a", concurrency=concurrency)
    assert "prompts got no answer, nor did a plain short prompt" in caught.value.found
    assert "max_tokens is too large: 99" in caught.value.found
    assert (
        caught.value.fix == "set max_tokens as the endpoint wants it, or leave it out (leave_out) or rename it (rename)"
    )
    assert len(stub.asked) <= 3 + 2 * concurrency
    assert stored(tmp_path / "a") == {}
    stub.always = Reply(body=good())
    assert ask(stub, "abcdefghijklmnop", tmp_path / "a").requests == 16


def test_an_endpoint_that_turns_bad_on_the_way(stub: Stub, tmp_path: Path) -> None:
    """After two answers every request is refused: the run stops, and what was refused is asked again by the next."""
    says(stub, lambda body: Reply(400, {"detail": "out of order"}) if len(stub.asked) > 2 else None)
    with pytest.raises(UserError, match=r"8 prompts got no answer.*out of order"):
        ask(stub, "abcdefghijklmnop", tmp_path / "a")
    assert len(stored(tmp_path / "a")) == 2
    says(stub, lambda body: None)
    assert ask(stub, "abcdefghijklmnop", tmp_path / "a").requests == 14


def test_a_single_prompt_that_is_refused(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(400, {"detail": "no"})]
    assert ask(stub, "a", tmp_path / "a").missing == 1
    stub.always = Reply(400, {"detail": "no"})
    with pytest.raises(UserError, match="1 prompts got no answer"):
        ask(stub, "b", tmp_path / "b")


@pytest.mark.parametrize(
    ("status", "error", "fix"),
    [
        (400, {"message": "API key not valid. Please pass a valid API key."}, "check the key"),
        (400, {"message": "Your credit balance is too low."}, "credit"),
        (402, {"message": "Payment required"}, "credit"),
        (400, {"message": "no such model", "code": "model_not_found"}, "the name of the model"),
        (400, {"message": "which?", "param": "model"}, "the name of the model"),
        (404, {"message": "no such model"}, "the name of the model"),
        (200, {"message": "bad key", "code": 401}, "check the key"),
        (200, {"message": "spent", "code": "insufficient_quota"}, "credit"),
    ],
)
def test_what_concerns_the_whole_endpoint_stops_at_once(
    stub: Stub, tmp_path: Path, status: int, error: dict[str, Any], fix: str
) -> None:
    stub.models = ["one", "two"]
    stub.script["b"] = [Reply(status, {"error": error})]
    with pytest.raises(UserError, match=fix) as caught:
        ask(stub, "abc", tmp_path / "a")
    assert stub.texts() == ["a", "b"]
    assert ("asked for 'stub', it lists one, two" in caught.value.found) == ("model" in fix)


def test_a_flagged_prompt_is_withheld_whatever_the_status(stub: Stub, tmp_path: Path) -> None:
    flagged = {"message": "flagged", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "b"}}
    inner = {"message": "filtered", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}
    stub.script["b"], stub.script["c"] = [Reply(403, {"error": flagged})], [Reply(400, {"error": inner})]
    assert ask(stub, "abc", tmp_path / "a").refused == 2


def test_failures_can_count_as_missing(stub: Stub, tmp_path: Path) -> None:
    """A prompt that crashes the server each time would else never let the run end."""
    stub.script["b"] = [Reply(500, {"detail": "crash"})] * 2
    usage = ask(stub, "abc", tmp_path / "a", on_failure="missing")
    assert stored(tmp_path / "a")["b"].why_missing == "failed through all retries"
    assert (usage.missing, usage.failed) == (1, 1)
    stub.always = Reply(500, {"detail": "crash"})
    with pytest.raises(UserError):
        ask(stub, "abcd", tmp_path / "a", on_failure="missing")
    assert len(stored(tmp_path / "a")) == 3


# --- parameters -------------------------------------------------------------------------------------------------------

REFUSALS = {  # what servers say -> the parameter that is meant
    "openai limit": (400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}}, "max_tokens"),
    "openai temperature": (400, {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this "
        "model. Only the default (1) value is supported.", "param": "temperature", "code": "unsupported_value"}},
        "temperature"),
    "mistral": (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not "
        "permitted", "input": 4}]}, "seed"),
    "anthropic": (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "`temperature` and "
        "`top_p` cannot both be specified for this model. Please use only one."}}, "top_p"),
    "google": (400, {"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot '
        'find field.', "status": "INVALID_ARGUMENT"}}, "seed"),
    "groq": (400, {"error": {"message": "property 'seed' is unsupported", "type": "invalid_request_error"}}, "seed"),
    "tgi": (422, {"error": "Input validation error: `temperature` must be strictly positive"}, "temperature"),
    "azure": (400, {"error": {"message": "Unrecognized request argument supplied: seed"}}, "seed"),
    "a value": (400, {"message": "temperature: value out of range"}, "temperature"),
    "stop": (400, {"error": {"message": "Unsupported parameter: 'stop' is not supported with this model.",
        "param": "stop"}}, "stop"),
}  # fmt: skip


@pytest.mark.parametrize("server", REFUSALS)
def test_a_parameter_that_is_refused_by_name_is_left_out_once(stub: Stub, tmp_path: Path, server: str) -> None:
    """One refusal, then every request without it; each answer says so."""
    status, error, name = REFUSALS[server]
    says(stub, lambda body: Reply(status, error) if name in body else None)
    usage = ask(stub, "abc", tmp_path / "a", Writing(stop=("END",)))
    assert (usage.requests, len(stub.asked), usage.missing) == (4, 4, 0)
    assert [name in body for body in stub.asked] == [True, False, False, False]
    as_sent = "max_completion_tokens" if name == "max_tokens" else "left out"
    assert [answer.meta["request"] for answer in stored(tmp_path / "a").values()] == [{name: as_sent}] * 3
    if name == "max_tokens":
        assert [body["max_completion_tokens"] for body in stub.asked[1:]] == [1280] * 3


def test_several_parameters_are_left_out_one_by_one(stub: Stub, tmp_path: Path) -> None:
    def refuse(body: dict[str, Any]) -> Reply | None:
        for name in ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"):
            if name in body:
                return Reply(400, {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}})
        return None

    says(stub, refuse)
    ask(stub, "abcdef", tmp_path / "a", concurrency=3)
    assert set(stub.asked[-1]) == {"model", "messages"}
    assert {answer.finish for answer in stored(tmp_path / "a").values()} == {"stop"}


def test_a_prompt_that_speaks_of_a_parameter_changes_nothing_for_others(stub: Stub, tmp_path: Path) -> None:
    """The refusal repeats the prompt's words; without the seed it is refused as well, so the seed was not at fault."""
    stub.script["b"] = [Reply(400, {"detail": "not supported: 'how is the seed of a plant called'"})] * 9
    ask(stub, "abc", tmp_path / "a")
    answers = stored(tmp_path / "a")
    assert answers["b"].why_missing == "refused by the endpoint"
    assert "seed" in stub.asked[-1]
    assert "request" not in answers["c"].meta


def test_a_limit_that_is_too_large_is_not_left_out() -> None:
    names = {"max_tokens": "max_completion_tokens"}
    says_vllm = (
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096"
    )
    for words, param in ((says_vllm, ""), ("max_tokens is too large: 9", "max_completion_tokens")):
        assert without_refused(names, Fault(f"status 400: {words}", status=400, param=param)) is None
    assert without_refused(names, Fault("Unknown name max_completion_tokens", status=500)) is None


def test_parameters_that_are_left_out_and_renamed_by_the_settings(stub: Stub, tmp_path: Path) -> None:
    endpoint = {"leave_out": ("top_p", "temperature"), "rename": ("seed=random_seed", "max_tokens=max_output")}
    ask(stub, "a", tmp_path / "a", **endpoint)
    (body,) = stub.asked
    assert set(body) == {"model", "messages", "random_seed", "max_output"}
    assert body["max_output"] == 1280
    assert stored(tmp_path / "a")["a"].meta["request"] == {
        "max_tokens": "max_output", "temperature": "left out", "top_p": "left out", "seed": "random_seed",
    }  # fmt: skip


def test_who_answers_are_known_by() -> None:
    """Parameters are a part of it only where they are not sent as usual; the slash at the end is none."""
    url = "http://host/v1"
    plain = [Endpoint(base_url=at, model="m").identity for at in (url, f"{url}/", f"{url}/chat/completions")]
    assert plain == ["endpoint:http://host/v1#m"] * 3
    assert Endpoint(base_url=url, model="m", retries=2, rename=("seed=seed_",), leave_out=("top_p",)).identity == (
        "endpoint:http://host/v1#m?top_p=&seed=seed_"
    )
    for wrong in ("seeds=x", "seed", "seed=a b", "seed=model", "seed=top_p"):
        with pytest.raises(ValueError, match=r"OURS=THEIRS|takes the name"):
            Endpoint(base_url=url, rename=(wrong,))


# --- what replies look like -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text", "thought"),
    [
        ({"content": [{"type": "text", "text": "So "}, {"type": "text", "text": "it is."}]}, "So it is.", ""),
        ({"content": [{"type": "output_text", "text": "Yes."}]}, "Yes.", ""),
        ({"content": ["Yes", "."]}, "Yes.", ""),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                      {"type": "text", "text": "Yes."}]}, "Yes.", "Hm."),
        ({"content": "Yes.", "reasoning_content": "Hm."}, "Yes.", "Hm."),
        ({"content": "Yes.", "reasoning": "Hm."}, "Yes.", "Hm."),
        ({"content": "Yes.", "reasoning": "Hm.", "reasoning_content": "Hm."}, "Yes.", "Hm."),
        ({"content": "Yes.", "reasoning": None}, "Yes.", ""),
        ({"content": "<think>Hm.</think>Yes."}, "<think>Hm.</think>Yes.", ""),  # as the model wrote it
    ],
)  # fmt: skip
def test_parts_and_thoughts(stub: Stub, tmp_path: Path, message: dict[str, Any], text: str, thought: str) -> None:
    stub.script["a"] = [Reply(body=good(message.pop("content"), **message))]
    ask(stub, "a", tmp_path / "a")
    answer = stored(tmp_path / "a")["a"]
    assert (answer.text, answer.thought, answer.finish) == (text, thought, "stop")
    assert ("thought" in json.loads((tmp_path / "a").read_text())) == bool(thought)


def test_a_refusal_among_the_parts_and_a_thought_without_an_answer(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(body=good([{"type": "refusal", "refusal": "No."}]))]
    stub.script["b"] = [Reply(body=good(None, finish="length", reasoning_content="Hm, let me"))]
    ask(stub, "abc", tmp_path / "a")
    answers = stored(tmp_path / "a")
    assert (answers["a"].finish, answers["a"].meta["refusal"]) == ("refused", "No.")
    assert (answers["b"].why_missing, answers["b"].thought) == ("cut at the limit before any text", "Hm, let me")


def test_files_without_thoughts_read_the_same(tmp_path: Path) -> None:
    row = b'{"id":"a","text":"x","finish":"stop","tokens":1,"prompt_tokens":null,"attempt":0,"meta":{}}\n'
    (tmp_path / "old").write_bytes(row)
    answers = list(read_answers(tmp_path / "old"))
    write_answers(answers, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == row


def stream(*events: Any, done: bool = True, comments: bool = False) -> bytes:
    """Server-sent events."""
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}" for event in events]
    if comments:
        lines = [": still working", "event: message", *lines]
    return "\r\n\r\n".join([*lines, *(["data: [DONE]"] if done else []), ""]).encode()


@pytest.mark.parametrize("options", [{}, {"done": False}, {"comments": True}])
def test_a_server_that_streams_unasked(stub: Stub, tmp_path: Path, options: dict[str, bool]) -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""}, {"reasoning_content": "Hm"}, {"reasoning_content": "."},
        {"content": "Wie schön"}, {"content": " 🙂"},
    ]  # fmt: skip
    events = [{"model": "stub-2", "choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    events += [{"choices": [{"delta": {}, "finish_reason": "length"}]}, {"choices": [], "usage": USAGE}]
    stub.script["a"] = [Reply(body=stream(*events, **options), headers={"content-type": "text/event-stream"})]
    usage = ask(stub, "a", tmp_path / "a")
    answer = stored(tmp_path / "a")["a"]
    assert (answer.text, answer.thought, answer.finish) == ("Wie schön 🙂", "Hm.", "length")
    assert (answer.tokens, answer.meta["model"], usage.requests) == (5, "stub-2", 1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b'"caf\xc3"', "caf�"),  # cut within a character
        (b'"half \\ud83d"', "half �"),
        ('"Grüße, 世界 👩‍💻 \u202e\u0000"'.replace("\u0000", "\\u0000").encode(), "Grüße, 世界 👩‍💻 \u202e\u0000"),
    ],
)
def test_texts_of_all_kinds(stub: Stub, tmp_path: Path, text: bytes, read: str) -> None:
    whole = json.dumps(good("HERE")).encode().replace(b'"HERE"', text)
    stub.script["ß👩"] = [Reply(body=whole)]
    chat(
        Endpoint(base_url=stub.url, model="stub"),
        prompts("ß👩"),
        Writing(),
        tmp_path / "a",
        report_progress=ignore_progress,
    )
    answer = stored(tmp_path / "a")["ß👩"]
    assert answer.text == read
    assert answer.meta.get("mended", False) == ("�" in read)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("reason", "finish"), [("SAFETY", "refused"), ("model_length", "length"), ("MAX_TOKENS", "length")]
)
def test_other_words_for_how_an_answer_ended(stub: Stub, tmp_path: Path, reason: str, finish: str) -> None:
    stub.script["a"] = [Reply(body=good("half a", finish=reason))]
    ask(stub, "a", tmp_path / "a")
    assert stored(tmp_path / "a")["a"].finish == finish


def test_a_plain_list_of_models(stub: Stub, tmp_path: Path) -> None:
    stub.plain_models = True
    ask(stub, "a", tmp_path / "a", model=None)
    assert stub.asked[0]["model"] == "stub"


def test_a_prompt_that_is_no_unicode_is_missing(stub: Stub, tmp_path: Path) -> None:
    half = Chat((Message("user", "half a pair: \ud800"),), "half")
    endpoint = Endpoint(base_url=stub.url, model="stub")
    chat(endpoint, [half, *prompts("a")], Writing(), tmp_path / "a", report_progress=ignore_progress)
    answers = stored(tmp_path / "a")
    assert "no Unicode" in answers["half"].meta["detail"]
    assert answers["a"].text == "fine"


def test_a_web_page_is_shown_as_words(stub: Stub, tmp_path: Path) -> None:
    page = b"<!DOCTYPE html><html><head><style>p {x: y}</style><title>Gateway</title></head><p>" + b"Sign in. " * 900
    stub.always = Reply(body=page, headers={"content-type": "text/html"})
    with pytest.raises(UserError) as caught:
        ask(stub, "abcd", tmp_path / "a", retries=0)
    assert "a web page: Gateway Sign in. Sign in." in caught.value.found
    assert len(caught.value.found) < 1200
    assert "style" not in caught.value.found
    assert "base_url" in caught.value.fix


# --- addresses and models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
@pytest.mark.parametrize("model", ["stub", None])
def test_addresses_with_and_without_version(stub: Stub, tmp_path: Path, ending: str, model: str | None) -> None:
    usage = ask(
        stub, "abcdefgh", tmp_path / "a", base_url=stub.url.removesuffix("/v1") + ending, model=model, concurrency=8
    )
    assert (len(stub.asked), usage.failed, usage.missing) == (8, 0, 0)


def test_where_a_redirect_points_is_told_without_its_query(stub: Stub, tmp_path: Path) -> None:
    stub.always = Reply(308, b"", {"location": "https://host/v1/chat/completions?token=secret-1"})
    with pytest.raises(UserError, match=r"points to https://host/v1/chat/completions\)") as caught:
        ask(stub, "a", tmp_path / "a")
    assert "secret-1" not in str(caught.value)


def test_the_key_is_in_no_thought(stub: Stub, tmp_path: Path) -> None:
    stub.script["a"] = [Reply(body=good("x", reasoning=f"the key is {KEY}"))]
    stub.script["b"] = [Reply(400, {"detail": f"not with {KEY}"})]
    ask(stub, "abc", tmp_path / "a")
    assert KEY not in (tmp_path / "a").read_text()
    assert stored(tmp_path / "a")["a"].thought == "the key is [key]"


def test_a_status_of_its_own_for_each_fault() -> None:
    def kind(status: int | None, message: str, **more: Any) -> tuple[bool, str]:
        fault = fault_of(status, ErrorText(message, **more), {}, 0.0, key="the key", reason=message)
        return fault.again, fault.missing

    assert kind(529, "overloaded") == (True, "")
    assert kind(503, "loading model") == (True, "")
    assert kind(418, "a teapot") == (False, "")
    assert kind(400, "stop: array too long", param="stop") == (False, "refused by the endpoint")
    assert kind(None, "odd") == (True, "a reply that cannot be read")
    assert kind(None, "context length exceeded") == (False, "longer than the model reads")


def test_variables_tools_and_calls_reach_the_endpoint() -> None:
    from pyrite.models.answers import Writing
    from pyrite.models.remote_request import extra_names, request_body
    from pyrite.records import Chat, Message

    call, tools = {"name": "add", "arguments": {"a": 2}}, [{"type": "function", "function": {"name": "add"}}]
    chat = Chat((Message("user", "2 + 2?"), Message("assistant", "", json.dumps([call]))), "x", {"tools": tools})
    settings = {"temperature": 0.0, "seed": 1}
    body = request_body("m", chat, Writing(), {}, template_kwargs={"enable_thinking": False}, **settings)
    assert body["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert body["tools"] == tools
    assert extra_names(body)["extra_body"] == {"chat_template_kwargs": {"enable_thinking": False}}
    plain = request_body("m", Chat((Message("user", "a"),), "x"), Writing(), {}, **settings)
    assert set(plain) == {"model", "messages"}
