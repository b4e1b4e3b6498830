"""Perplexity through the command, against the tiny model's own log-softmax, read one row at a time."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import build_causal

from pyrite.cli import run

TEXTS = [
    "the film 7 was lovely and the song was lovely",
    "the meal was awful",
    "the café in 東京 was naïve – and the room was warm 🙂",
    "the walk " * 30,
]
CHATS = [
    [("user", "was the film warm"), ("assistant", "the film was lovely")],
    [
        ("user", "and the meal"),
        ("assistant", "awful"),
        ("user", "and the song"),
        ("assistant", "the song was kind and 7"),
    ],
]
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}A:\n{{ m.content }}</s>\n{% else %}Q: {{ m.content }}\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}A:\n{% endif %}"
)
Ask = Callable[..., dict[str, Any]]
Rows = list[tuple[float, int, int]]
"""Nats, tokens and bytes of each row."""


@pytest.fixture(scope="module")
def loaded(tiny_causal: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_causal).eval(), AutoTokenizer.from_pretrained(tiny_causal)


@pytest.fixture(scope="module")
def chatty(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a chat template."""
    folder = shutil.copytree(tiny_causal, tmp_path_factory.mktemp("chatty") / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat]} for chat in CHATS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def ask(tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(file: Path, *more: str, models: tuple[Path, ...] = (tiny_causal,), code: int = 0) -> dict[str, Any]:
        line = ["probe", *map(str, models), "--task", f"perplexity={file}", "--precision", "fp32", "--json", "--quiet"]
        got = run([*line, "--store", str(tmp_path / "s"), *more])
        out, err = capsys.readouterr()
        assert got == code, err
        return json.loads(out) if code == 0 else {"says": err}

    return asked


def stored(tmp_path: Path) -> Rows:
    """What the only finished step says of each row."""
    import polars as pl

    (file,) = (tmp_path / "s").glob("done/*/*/rows.parquet")
    return list(pl.read_parquet(file).select("nats", "tokens", "bytes").iter_rows())


def logprobs(model: Any, ids: list[int]) -> list[float]:
    """The log-probability of every token but the first, after all before it."""
    import torch

    with torch.no_grad():
        after = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(after[at - 1, ids[at]]) for at in range(1, len(ids))]


def of_text(loaded: tuple[Any, Any], text: str) -> tuple[float, int, int]:
    """All of a text but its first token."""
    model, tokenizer = loaded
    ids = tokenizer(text)["input_ids"]
    first = tokenizer.decode(ids[:1])
    return -sum(logprobs(model, ids)), len(ids) - 1, len(text.encode()) - len(first.encode())


def plain(chat: Sequence[tuple[str, str]]) -> str:
    """A chat as a model without a template reads it."""
    return "\n\n".join(content + "</s>" * (role == "assistant") for role, content in chat)


def of_answers(loaded: tuple[Any, Any], whole: str, answers: list[str]) -> tuple[float, int, int]:
    """The tokens that begin within an answer (ASCII: a token's place is the length of the text before it)."""
    model, tokenizer = loaded
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    spans, at = [], 0
    for answer in answers:
        start = whole.index(answer, at)
        at = start + len(answer)
        spans.append((start, at))
    places = [len(tokenizer.decode(ids[:n])) for n in range(len(ids))]
    assert all(start in places for start, _ in spans), "a token lies across the beginning of an answer"
    counted = [n for n, place in enumerate(places) if any(a <= place < b for a, b in spans)]
    values = logprobs(model, ids)
    return -sum(values[n - 1] for n in counted), len(counted), sum(map(len, answers))


def same(found: Rows, want: Rows) -> None:
    assert [row[1:] for row in found] == [row[1:] for row in want]
    assert [row[0] for row in found] == [pytest.approx(row[0], rel=1e-5) for row in want]


def check_means(card: dict[str, Any], rows: Rows) -> None:
    """All nats over all tokens, and all bits over all bytes, which is not the mean over rows."""
    nats, tokens, size = (sum(column) for column in zip(*rows, strict=True))
    assert (card["task"], card["metric"]) == ("perplexity", "nats_per_token")
    assert card["overall"]["value"] == pytest.approx(nats / tokens, rel=1e-5)
    (bits,) = card["slices"]
    assert bits["metric"] == "bits_per_byte"
    assert bits["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert {card["overall"]["direction"], bits["direction"]} == {"lower"}


def test_texts_by_hand(ask: Ask, loaded: tuple[Any, Any], texts: Path, tmp_path: Path) -> None:
    card = ask(texts)
    want = [of_text(loaded, text) for text in TEXTS]
    same(stored(tmp_path), want)
    check_means(card, want)
    mean_of_rows = sum(nats / tokens for nats, tokens, _ in want) / len(want)
    assert card["overall"]["value"] != pytest.approx(mean_of_rows, rel=1e-3)
    assert (card["overall"]["n"], card["overall"]["n_missing"]) == (4, 0)
    assert card["details"]["part"] == "all"
    assert card["details"]["not_counted_tokens"] == 4  # the first of each row


def test_bytes_of_characters_of_several_tokens_count_once(
    ask: Ask, loaded: tuple[Any, Any], texts: Path, tmp_path: Path
) -> None:
    """The third text holds characters of two, three and four bytes, each byte a token of its own."""
    many = [ids for character in "é東京ï–🙂" if len(ids := loaded[1](character)["input_ids"]) > 1]
    assert [len(ids) for ids in many] == [2, 3, 3, 2, 3, 4]
    ask(texts)
    first = loaded[1].decode(loaded[1](TEXTS[2])["input_ids"][:1])
    assert first.isascii()
    assert stored(tmp_path)[2][2] == len(TEXTS[2].encode()) - len(first) == 61 - len(first)


def test_chats_without_a_template(ask: Ask, loaded: tuple[Any, Any], chats: Path, tmp_path: Path) -> None:
    """By default the answers only, after all turns before them, with the end marker that a model learns to write."""
    card = ask(chats)
    wholes = [plain(chat) for chat in CHATS]
    answers = [[f"{content}</s>" for role, content in chat if role == "assistant"] for chat in CHATS]
    want = [of_answers(loaded, whole, some) for whole, some in zip(wholes, answers, strict=True)]
    same(stored(tmp_path), want)
    check_means(card, want)
    assert card["details"]["part"] == "answers"
    assert any(note.startswith("answers of each row counts") for note in card["notes"])


def test_chats_with_a_template(ask: Ask, loaded: tuple[Any, Any], chatty: Path, chats: Path, tmp_path: Path) -> None:
    """An answer is its own words and its end marker, without the line's end that the template puts."""
    card = ask(chats, models=(chatty,))
    wholes = [
        "".join(f"A:\n{text}</s>\n" if role == "assistant" else f"Q: {text}\n" for role, text in chat) for chat in CHATS
    ]
    answers = [[f"{text}</s>" for role, text in chat if role == "assistant"] for chat in CHATS]
    want = [of_answers(loaded, whole, some) for whole, some in zip(wholes, answers, strict=True)]
    same(stored(tmp_path), want)
    check_means(card, want)


def test_all_of_a_chat(ask: Ask, loaded: tuple[Any, Any], chats: Path, tmp_path: Path) -> None:
    card = ask(chats, "--part", "all")
    want = [of_text(loaded, plain(chat)) for chat in CHATS]
    same(stored(tmp_path), want)
    check_means(card, want)


def test_long_rows_are_read_in_pieces(ask: Ask, loaded: tuple[Any, Any], texts: Path, tmp_path: Path) -> None:
    """Pieces of ten tokens, each read alone; a piece begins with the last token of the one before, so that every token
    but a row's first is counted."""
    model, tokenizer = loaded
    want = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        pieces = [ids[at : at + 10] for at in range(0, max(len(ids) - 1, 1), 9)]
        nats = -sum(sum(logprobs(model, piece)) for piece in pieces)
        want.append((nats, *of_text(loaded, text)[1:]))
    card = ask(texts, "--max-tokens", "10")
    same(stored(tmp_path), want)
    check_means(card, want)
    longer = sum(len(tokenizer(text)["input_ids"]) > 10 for text in TEXTS)
    assert 0 < longer < len(TEXTS)
    assert f"{longer} rows were read in pieces of 10 tokens" in card["notes"]
    assert card["details"]["not_counted_tokens"] == len(TEXTS)


def test_bad_rows_are_counted(ask: Ask, loaded: tuple[Any, Any], tmp_path: Path) -> None:
    """A row without a text and one that is no JSON; a row of one token has nothing to be counted and is missing."""
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"text": "the film was warm"}\n{"text": 7}\n{"text": "a"}\nnot json\n{"text": "the meal was cold"}\n'
    )
    assert len(loaded[1]("a")["input_ids"]) == 1
    assert "rows.jsonl:2" in ask(file, code=2)["says"]
    card = ask(file, "--on-bad-row", "skip")
    assert (card["overall"]["n"], card["overall"]["n_missing"]) == (2, 1)
    check = [of_text(loaded, text) for text in ("the film was warm", "the meal was cold")]
    assert card["overall"]["value"] == pytest.approx(
        sum(x for x, _, _ in check) / sum(n for _, n, _ in check), rel=1e-5
    )
    assert card["details"]["read"] == 5
    assert card["details"]["kept"] == 3
    assert sum(card["details"]["dropped"].values()) == 2
    assert any(note.startswith("5 rows read, 3 kept, dropped: ") for note in card["notes"])


def test_what_has_no_answers_is_refused(ask: Ask, texts: Path, tmp_path: Path) -> None:
    assert "Plain text has no answers" in ask(texts, "--part", "answers", code=2)["says"]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"premise": "a b", "hypothesis": "b", "label": "entailment"}\n')
    assert "perplexity reads texts and chats" in ask(pairs, code=2)["says"]


def test_two_models(ask: Ask, tiny_causal: Path, texts: Path, tmp_path: Path) -> None:
    """The change is that of the weighted means; a model and itself do not differ."""
    other = build_causal(tmp_path / "other", seed=5)
    shown = ask(texts, models=(tiny_causal, other))
    first, second = (card["overall"]["value"] for card in shown["scorecards"])
    (compared,) = shown["compared"]
    changes = {line["metric"]: line["difference"]["value"] for line in compared["contrasts"]}
    assert changes["nats_per_token"] == pytest.approx(second - first)
    assert set(changes) == {"nats_per_token", "bits_per_byte"}
    assert compared["flips"] == []
    twin = build_causal(tmp_path / "twin")
    (equal,) = ask(texts, models=(tiny_causal, twin))["compared"]
    assert {line["difference"]["value"] for line in equal["contrasts"]} == {0.0}
