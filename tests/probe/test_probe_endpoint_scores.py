"""Labels and perplexity of a model behind an endpoint: the same as of that model on this machine."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.conftest import review_rows, write_jsonl
from tests.models.remote_stub import Reply, Stub, served
from tests.models.vllm_shapes import BOTH, TinyServer, with_marker
from tests.probe.test_probe_perplexity import CHATS, TEMPLATE, TEXTS

from pyrite.cli import run
from pyrite.models.load import load_tokenizer, parsed_config
from pyrite.models.positions import tokens_read
from pyrite.probe.remote_perplexity import piece_size

TASK = """\
labels: [positive, negative]
fields: [text]
file: reviews.jsonl
label: sentiment
slices: [[voice]]
"""
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with served() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["plain", "marker"])
def folder(request: pytest.FixtureRequest, tiny_causal: Path, tmp_path: Path) -> Path:
    """The tiny model with a chat template, and a tokenizer that puts a marker before each text, or none. Its weights are larger,
    so that what it says hangs on what it reads."""
    from safetensors.torch import load_file, save_file

    copied = Path(shutil.copytree(tiny_causal, tmp_path / "model"))
    weights = {name: 6 * value for name, value in load_file(copied / "model.safetensors").items()}
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    (copied / "chat_template.jinja").write_text(TEMPLATE)
    return with_marker(copied) if request.param else copied


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a probe in a store of its own, or in `store`; what it says, and the folder of what it stored."""

    def asked(model: str, task: str, *more: str, code: int = 0, store: Path | None = None) -> dict[str, Any]:
        store = store or tmp_path / f"store-{len(list(tmp_path.glob('store-*')))}"
        line = [
            "probe",
            model,
            "--task",
            task,
            "--precision",
            "fp32",
            "--json",
            "--quiet",
            "--store",
            str(store),
            *more,
        ]
        got = run(line)
        out, err = capsys.readouterr()
        assert got == code, err
        return {**(json.loads(out) if code == 0 else {"says": " ".join(err.split())}), "store": store}

    return asked


def remote(stub: Stub, *more: str) -> list[str]:
    return ["--backend", "openai", "--base-url", stub.url, "--retries", "0", *more]


def table(told: dict[str, Any], name: str) -> pl.DataFrame:
    (file,) = told["store"].glob(f"done/*/*/{name}.parquet")
    return pl.read_parquet(file)


def renamed_task(folder: Path, negative: str) -> str:
    """A task of reviews whose label `negative` has another name."""
    write_jsonl(review_rows(12, 4), folder / "reviews.jsonl")
    text = TASK.replace("[positive, negative]", f"[positive, {negative}]") + f"label_map: {{negative: {negative}}}\n"
    (folder / "renamed.yaml").write_text(text)
    return str(folder / "renamed.yaml")


# ===== labels =========================================================================================================


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    write_jsonl(review_rows(24, 3), tmp_path / "reviews.jsonl")
    (tmp_path / "reviews.yaml").write_text(TASK)
    return str(tmp_path / "reviews.yaml")


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_labels_are_those_of_the_model(
    stub: Stub, folder: Path, ask: Ask, reviews: str, way: str, by_ids: bool
) -> None:
    """The same choices, and the same differences between the labels' log-probabilities."""
    stub.complete = server = TinyServer(folder, [way])
    more = ["--tokenizer", str(folder)] if by_ids else []
    here, there = ask(str(folder), reviews), ask("tiny", reviews, *remote(stub, *more))
    own, others = table(here, "predictions"), table(there, "predictions")
    assert own["id"].to_list() == others["id"].to_list()
    assert own["predicted"].to_list() == others["predicted"].to_list()
    assert len(set(own["predicted"])) == 2, "a model that always says the same shows little"
    gaps = [(row["logit_positive"] - row["logit_negative"]).to_list() for row in (own, others)]
    assert gaps[0] == pytest.approx(gaps[1], abs=2e-4)
    assert here["overall"] == there["overall"]
    note = f"log-probabilities of {'token ids' if by_ids else 'texts'} by the endpoint ({way}"
    assert any(text.startswith(note) for text in there["notes"])
    assert {isinstance(prompt, str) for prompt in server.asked[2:]} == {not by_ids}


def test_a_token_across_the_border_is_the_labels(stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path) -> None:
    """Labels that go on without a blank are one token with the prompt's end in one case, and not in the other."""
    task = renamed_task(tmp_path, "pos it")
    stub.complete = TinyServer(tiny_causal)
    here, there = ask(str(tiny_causal), task), ask("tiny", task, *remote(stub))
    gaps = [
        (rows["logit_positive"] - rows["logit_pos it"]).to_list()
        for rows in (table(here, "predictions"), table(there, "predictions"))
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=2e-4)


@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_a_label_that_begins_another_is_refused(
    stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path, by_ids: bool
) -> None:
    stub.complete = TinyServer(tiny_causal)
    more = ["--tokenizer", str(tiny_causal)] if by_ids else []
    says = ask("tiny", renamed_task(tmp_path, "positive and kind"), *remote(stub, *more), code=2)["says"]
    assert "A label word is the beginning of another" in says


def test_items_that_are_too_long_are_missing(stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path) -> None:
    rows = review_rows(12, 5)
    rows[3]["text"] = "the film was lovely " * 60
    write_jsonl(rows, tmp_path / "reviews.jsonl")
    (tmp_path / "reviews.yaml").write_text(TASK)
    stub.complete = TinyServer(tiny_causal, room=200)
    told = ask("tiny", str(tmp_path / "reviews.yaml"), *remote(stub))
    card = told
    assert (card["overall"]["n"], card["overall"]["n_missing"]) == (11, 1)
    assert any("1 of 12 items were left out: {'longer than the model reads': 1}" in note for note in card["notes"])
    assert table(told, "predictions")["predicted"].null_count() == 1


def long_row(folder: Path, at: int) -> str:
    """A task of 12 reviews of which one is too long for the endpoint."""
    rows = review_rows(12, 5)
    rows[at]["text"] = "the film was lovely " * 60
    write_jsonl(rows, folder / "reviews.jsonl")
    (folder / "reviews.yaml").write_text(TASK)
    return str(folder / "reviews.yaml")


@pytest.mark.parametrize("at", [0, 11])
def test_a_row_that_is_too_long_may_stand_anywhere(
    stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Also alone in a part: the other rows decide whether anything can be scored. Usage is that of all parts."""
    monkeypatch.setattr("pyrite.probe.remote_scoring.AT_A_TIME", 60)
    stub.complete = TinyServer(tiny_causal, room=200)
    card = ask("tiny", long_row(tmp_path, at), *remote(stub))
    assert (card["overall"]["n"], card["overall"]["n_missing"]) == (11, 1)
    (file,) = card["store"].glob("done/*/*/reading.json")
    usage = json.loads(file.read_text())["scored_by"]["usage"]
    assert usage["requests"] == 2 + 12 * 2  # what it can was asked with two
    assert usage["missing"] == 2


def test_rows_that_are_all_too_long(stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path) -> None:
    """Refused; once the server takes them, the same command asks again."""
    write_jsonl([{**row, "text": "the film was lovely " * 30} for row in review_rows(4, 5)], tmp_path / "reviews.jsonl")
    (tmp_path / "reviews.yaml").write_text(TASK)
    stub.complete = server = TinyServer(tiny_causal, room=60)
    line, store = [str(tmp_path / "reviews.yaml"), *remote(stub)], tmp_path / "one"
    says = ask("tiny", *line, code=2, store=store)["says"]
    assert "The endpoint scores no row. found: 4 rows, the first: " in says
    server.room = 250
    assert ask("tiny", *line, store=store)["overall"]["n_missing"] == 0


def test_halves_of_characters_that_are_written_alike(stub: Stub, tiny_causal: Path, ask: Ask, tmp_path: Path) -> None:
    """Of labels in another script only parts of characters are seen; where one begins another as text, it is refused."""
    stub.complete = TinyServer(tiny_causal, ["echo"])
    here, there = (
        ask(model, renamed_task(tmp_path, "正"), *more)
        for model, more in ((str(tiny_causal), []), ("tiny", remote(stub)))
    )
    gaps = [
        (rows["logit_positive"] - rows["logit_正"]).to_list()
        for rows in (table(here, "predictions"), table(there, "predictions"))
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=2e-4)
    text = TASK.replace("[positive, negative]", "[正, 正确]") + "label_map: {positive: 正, negative: 正确}\n"
    (tmp_path / "within.yaml").write_text(text)
    says = ask("tiny", str(tmp_path / "within.yaml"), *remote(stub), code=2)["says"]
    assert "A label word may be the beginning of another" in says


# ===== perplexity =====================================================================================================


@pytest.fixture
def texts(tmp_path: Path) -> str:
    rows = [{"text": text} for text in [*TEXTS, "🙂 was warm", " the song 7"]]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"perplexity={tmp_path / 'texts.jsonl'}"


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("by_ids", [True, False], ids=["ids", "texts"])
def test_perplexity_is_that_of_the_model(
    stub: Stub, folder: Path, ask: Ask, texts: str, way: str, by_ids: bool
) -> None:
    """Nats, tokens and bytes of each row; where only texts are sent, a row whose first token is half a character is left out,
    unless a marker stands before it, or every row with such tokens where the server does not show the first one."""
    stub.complete = TinyServer(folder, [way])
    more = ["--tokenizer", str(folder)] if by_ids else []
    here, there = ask(str(folder), texts), ask("tiny", texts, *remote(stub, *more))
    own = {row["id"]: row for row in table(here, "rows").iter_rows(named=True)}
    others = {row["id"]: row for row in table(there, "rows").iter_rows(named=True)}
    left_out = set(own) - set(others)
    server = stub.complete
    assert isinstance(server, TinyServer)
    marked = server.tokenizer("a")["input_ids"][0] == server.tokenizer.bos_token_id
    halves = {"texts:3", "texts:5"} if way == "prompt_logprobs" else set() if marked else {"texts:5"}
    assert left_out == (set() if by_ids else halves)
    for name, row in others.items():
        assert (row["tokens"], row["bytes"]) == (own[name]["tokens"], own[name]["bytes"]), name
        assert row["nats"] == pytest.approx(own[name]["nats"], rel=1e-4, abs=1e-4)
    notes = there["notes"]
    assert any(f"({way}" in note for note in notes)
    assert any("tokens that do not spell the text" in note for note in notes) == bool(left_out)


def test_long_rows_are_read_in_the_same_pieces(stub: Stub, tiny_causal: Path, ask: Ask, texts: str) -> None:
    stub.complete = server = TinyServer(tiny_causal)
    more = ["--max-tokens", "16"]
    here = ask(str(tiny_causal), texts, *more)
    there = ask("tiny", texts, *remote(stub, "--tokenizer", str(tiny_causal), *more))
    own, others = table(here, "rows"), table(there, "rows")
    assert own.drop("nats").equals(others.drop("nats"))
    assert own["windows"].max() > 3  # type: ignore[operator]
    assert own["nats"].to_list() == pytest.approx(others["nats"].to_list(), rel=1e-4)
    assert max(len(prompt) for prompt in server.asked if not isinstance(prompt, str)) == 16


def test_a_request_leaves_room_for_the_token_that_it_asks_for(tiny_causal: Path) -> None:
    tokenizer = load_tokenizer(tiny_causal)
    limit = tokens_read(10**6, parsed_config(tiny_causal), tokenizer)
    assert [piece_size(tiny_causal, tokenizer, most) for most in (16, limit - 1, limit, 10**6)] == [
        16,
        *[limit - 1] * 3,
    ]


def test_failures_that_count_as_missing_are_another_step(
    stub: Stub, tiny_causal: Path, ask: Ask, texts: str, tmp_path: Path
) -> None:
    """Else a prompt that failed in passing would be missing for those, too, who stop at failures."""
    server, broken = TinyServer(tiny_causal), [True]

    def reply(body: dict[str, Any]) -> Reply:
        return Reply(500, {"error": {"message": "busy"}}) if broken and body["prompt"] == TEXTS[0] else server(body)

    stub.complete = reply
    line, store = [texts, *remote(stub)], tmp_path / "one"
    lacking = ask("tiny", *line, "--on-failure", "missing", store=store)
    broken.clear()
    whole = ask("tiny", *line, store=store)
    assert lacking["overall"]["n"] == whole["overall"]["n"] - 1


def test_answers_of_chats_with_the_endpoints_tokenizer(stub: Stub, folder: Path, ask: Ask, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat]} for chat in CHATS]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stub.complete, task = TinyServer(folder), f"perplexity={tmp_path / 'chats.jsonl'}"
    here, there = ask(str(folder), task), ask("tiny", task, *remote(stub, "--tokenizer", str(folder)))
    own, others = table(here, "rows"), table(there, "rows")
    assert own.drop("nats").equals(others.drop("nats"))
    assert own["nats"].to_list() == pytest.approx(others["nats"].to_list(), rel=1e-4)
    says = ask("tiny", task, *remote(stub), code=2)["says"]
    assert "An endpoint does not say how it writes a chat" in says
    assert "--tokenizer MODEL" in says


# ===== refusals =======================================================================================================


def test_a_server_without_log_probabilities_of_prompts(stub: Stub, tiny_causal: Path, ask: Ask, texts: str) -> None:
    stub.complete = TinyServer(tiny_causal, [], strict=True)
    says = ask("tiny", texts, *remote(stub), code=2)["says"]
    assert "does not tell the log-probabilities of a prompt" in says
    assert "Only no echo is supported" in says
    assert "vllm serve" in says


def test_a_tokenizer_of_another_model(stub: Stub, tiny_causal: Path, ask: Ask, texts: str, tmp_path: Path) -> None:
    """The same ids mean other words there; what can be noticed is a server that reads others than were sent."""

    class Other(TinyServer):
        def __call__(self, body: dict[str, Any]) -> Reply:
            ids = [3 if token == 5 else token for token in body["prompt"]] if isinstance(body["prompt"], list) else None
            return super().__call__(body if ids is None else {**body, "prompt": [ids[0], *[7] * (len(ids) - 1)]})

    stub.complete = Other(tiny_causal, ["prompt_logprobs"])
    says = ask("tiny", texts, *remote(stub, "--tokenizer", str(tiny_causal)), code=2)["says"]
    assert "the server read other token ids than were sent" in says


def test_a_tokenizer_without_an_endpoint(tiny_causal: Path, ask: Ask, texts: str) -> None:
    says = ask(str(tiny_causal), texts, "--tokenizer", str(tiny_causal), code=2)["says"]
    assert "--tokenizer is of an endpoint's model" in says


def test_a_probe_that_is_cut_off_asks_for_the_rest(
    stub: Stub, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"the film {at} was"}) + "\n" for at in range(12))
    )
    monkeypatch.setattr("pyrite.probe.remote_scoring.AT_A_TIME", 12)
    server, failing = TinyServer(tiny_causal), [True]

    def reply(body: dict[str, Any]) -> Reply:
        if failing and body["prompt"] == "the film 9 was":
            return Reply(401, {"error": {"message": "the key has expired"}})
        return server(body)

    stub.complete = reply
    line = ["probe", "tiny", "--task", f"perplexity={tmp_path / 'texts.jsonl'}", "--json", "--quiet"]
    line += ["--store", str(tmp_path / "s"), *remote(stub)]
    assert run(line) == 2
    assert "the key has expired" in capsys.readouterr().err
    first = [prompt for prompt in server.asked if prompt.startswith("the film")]
    assert "the film 1 was" in first
    failing.clear()
    server.asked.clear()
    assert run(line) == 0
    again = [prompt for prompt in server.asked if prompt.startswith("the film")]
    assert "the film 9 was" in again
    assert not {"the film 0 was", "the film 1 was"} & set(again)
