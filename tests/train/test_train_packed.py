"""Training on packs: the library's own padded loss and gradients, rows counted, cut off and resumed to the same bytes."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Chat, Message, Text
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.train import adapters
from pyrite.train.language import TRAIN_LANGUAGE, next_tokens
from pyrite.train.packed import Trained, normalisers_of, packs_of
from pyrite.train.rows import TrainingRow, encode_rows, shuffled
from pyrite.train.settings import LoraSettings, TrainSettings
from pyrite.train.stored_weights import put_weights, trained_weights

from conftest import Clock, set_clock  # isort: skip

CPU = Compute("cpu", "fp32")
LORA = LoraSettings(rank=4, alpha=8, dropout=0)
THINGS = ["film", "song", "meal", "book", "room", "trip"]


def token_rows(lengths: tuple[int, ...] = (5, 17, 9, 9, 23), first: int = 3) -> list[TrainingRow]:
    """Rows of seeded tokens, of which those from place `first` on are learned."""
    generator = torch.Generator().manual_seed(1)
    return [
        TrainingRow(
            str(at), torch.randint(3, 300, (n,), generator=generator).tolist(), [place >= first for place in range(n)]
        )
        for at, n in enumerate(lengths)
    ]


def tiny(folder: Path, *, lora: bool) -> Any:
    model = load.load_causal(folder, CPU)
    if not lora:
        return model
    model = adapters.add_adapter(model, LORA, "CAUSAL_LM", seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.02
    return model


def padded_loss(model: Any, rows: list[TrainingRow]) -> torch.Tensor:
    """The library's mean cross-entropy over the learned tokens of a padded batch."""
    longest = max(len(row.ids) for row in rows)
    ids, labels, mask = (torch.full((len(rows), longest), fill) for fill in (0, -100, 0))
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        mask[at, : len(row.ids)] = 1
        labels[at, : len(row.ids)] = torch.where(torch.tensor(row.learned), torch.tensor(row.ids), -100)
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss


def gradients(model: Any) -> dict[str, torch.Tensor]:
    by_name = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return by_name


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_packs_give_the_loss_and_gradients_of_the_padded_pass(tiny_causal: Path, lora: bool, size: int) -> None:
    model, rows = tiny(tiny_causal, lora=lora), token_rows()
    plain = padded_loss(model, rows)
    plain.backward()
    theirs = gradients(model)
    module, normalisers = Trained(model, next_tokens), normalisers_of(rows)
    loss = 0.0
    for pack in packs_of(rows, size):
        share, _ = module(pack, normalisers)
        share.backward()
        loss += float(share.detach())
    ours = gradients(model)
    assert loss == pytest.approx(float(plain), rel=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-4 * float(gradient.abs().max())), name


def test_the_first_token_of_a_row_is_never_learned() -> None:
    row = TrainingRow("a", [5, 6, 7], [True, True, True])
    assert row.targets == 2
    assert normalisers_of([row, row]).tokens == {"learn": 4}


def test_packs_are_no_larger_than_asked_and_lose_no_row() -> None:
    rows = token_rows((40, 7, 7, 12, 31, 3, 9))
    for size in (1, 12, 45, 1000):
        packs = packs_of(rows, size)
        assert sorted(row.id for pack in packs for row in pack) == [row.id for row in rows]
        assert all(sum(len(row.ids) for row in pack) <= size for pack in packs if len(pack) > 1)
    assert len(packs_of(rows, 1000)) == 1
    assert len(packs_of(rows, 1)) == len(rows)


def test_every_epoch_reads_every_row_in_another_order() -> None:
    rows = token_rows((4,) * 10)
    steps = shuffled(rows, 4, 2.5, seed=0)
    ids = [row.id for step in steps for row in step]
    assert sorted(ids[:10]) == sorted(ids[10:20]) == [row.id for row in rows]
    assert ids[:10] != ids[10:20]
    assert len(ids) == 25
    assert max(map(len, steps)) == 4
    assert steps == shuffled(rows, 4, 2.5, seed=0)
    assert steps != shuffled(rows, 4, 2.5, seed=1)


def test_long_rows_are_split_or_dropped_and_rows_without_answers_counted(tiny_causal: Path) -> None:
    tokenizer = load.load_tokenizer(tiny_causal)
    texts = [Text("the film was lovely " * 20, "long"), Text("the song was kind", "short")]
    unsplit, _ = encode_rows(tokenizer, texts, "all", 10_000, long_rows="split")
    split, counts = encode_rows(tokenizer, texts, "all", 16, long_rows="split")
    pieces = [row for row in split if row.id == "long"]
    assert len(pieces) > 2
    assert sum(row.targets for row in split) == sum(row.targets for row in unsplit)  # no token is lost at a cut
    assert [row.number for row in split] == list(range(len(split)))
    assert (counts["read"], counts["used"], counts["split"]) == (2, 2, 1)
    dropped, counts = encode_rows(tokenizer, texts, "all", 16, long_rows="drop")
    assert [row.id for row in dropped] == ["short"]
    assert (counts["read"], counts["used"], counts["longer than max_tokens"]) == (2, 1, 1)
    prompts_only = [Chat((Message("user", "how was it"),), "asked", {})]
    none, counts = encode_rows(tokenizer, prompts_only, "answers", 64, long_rows="drop")
    assert not none
    assert (counts["read"], counts["used"], counts["no tokens to learn"]) == (1, 0, 1)


def test_weights_of_another_model_are_refused(tiny_causal: Path) -> None:
    full, adapted = tiny(tiny_causal, lora=False), tiny(tiny_causal, lora=True)
    with pytest.raises(UserError, match="of another model"):
        put_weights(adapted, trained_weights(full))
    copies = {name: weight.clone() for name, weight in trained_weights(adapted).items()}
    with torch.no_grad():
        for weight in adapted.parameters():
            weight += 1.0
    put_weights(adapted, copies)
    assert all(torch.equal(weight, copies[name]) for name, weight in trained_weights(adapted).items())


def language_step(
    base: Path, folder: Path, rows: list[dict[str, Any]], trains: str, settings: TrainSettings, first: int | None = None
) -> Step:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "trains": trains,
        "rows_file": "rows.jsonl",
        "first": first,
        "settings": settings.model_dump(mode="json"),
        "pack_tokens": 64,
        "compute": CPU.as_config(),
        "seed": 0,
        "base_name": "tiny",
    }
    inputs: dict[str, Step | Source] = {
        "base": Source(str(base), "tiny"),
        "rows": Source(str(folder), json.dumps(rows)),
    }
    return Step(TRAIN_LANGUAGE, config, inputs, label="learn")


def run(step: Step, store: Store, **options: Any) -> Path:
    run_steps([step], store, RunOptions(**options), Progress(quiet=True))
    return store.path(step.key)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(at),
            "messages": [
                {"role": "user", "content": f"how was the {THINGS[at % 6]}"},
                {"role": "assistant", "content": f"the {THINGS[at % 6]} was lovely"},
            ],
        }
        for at in range(count)
    ]


def settings_of(**overrides: Any) -> TrainSettings:
    values = {"epochs": 4, "batch_size": 4, "learning_rate": 5e-3, "max_tokens": 64, "lora": LORA} | overrides
    return TrainSettings(**values)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_chats_are_learned_by_their_answers(tmp_path: Path, tiny_causal: Path, method: str) -> None:
    long = {"id": "long", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b " * 90}]}
    step = language_step(tiny_causal, tmp_path / "rows", [*chats(8), long], "chat", settings_of(method=method))
    folder = run(step, Store(tmp_path / "store"))
    record, history = read(folder, "training.json"), read(folder, "history.json")
    assert (record["rows"], record["rows_too_long"], record["used"], record["split"]) == (9, 1, 8, 0)
    assert history["losses"][-1]["loss"] < history["losses"][0]["loss"] - 0.1
    base, trained = load.load_causal(tiny_causal, CPU), load.load_causal(folder, CPU)  # whole, whatever the method
    tokenizer = load.load_tokenizer(folder)
    records = [Chat(tuple(Message(**m) for m in row["messages"]), row["id"], {}) for row in chats(6)]
    answers, _ = encode_rows(tokenizer, records, "answers", 64, long_rows="drop")
    prompts = [TrainingRow(row.id, row.ids, [not is_learned for is_learned in row.learned]) for row in answers]
    with torch.no_grad():
        gained = float(padded_loss(base, answers) - padded_loss(trained, answers))
        beside = float(padded_loss(base, prompts) - padded_loss(trained, prompts))
    assert gained > 0.1
    assert gained > beside + 0.05


def test_texts_are_learned_whole_and_long_ones_split(tmp_path: Path, tiny_causal: Path) -> None:
    rows = [{"id": str(at), "text": f"the {THINGS[at % 6]} was lovely and warm"} for at in range(7)]
    rows.append({"id": "long", "text": "the film was kind and bright " * 12})
    step = language_step(tiny_causal, tmp_path / "rows", rows, "text", settings_of(max_tokens=32))
    folder = run(step, Store(tmp_path / "store"))
    record, history = read(folder, "training.json"), read(folder, "history.json")
    assert (record["read"], record["used"], record["split"]) == (8, 8, 1)
    assert history["rows"] > 8
    assert history["losses"][-1]["loss"] < history["losses"][0]["loss"] - 0.1
    first_rows = run(
        language_step(tiny_causal, tmp_path / "rows", rows, "text", settings_of(), 3), Store(tmp_path / "store")
    )
    assert read(first_rows, "training.json")["read"] == 3


def test_nothing_to_train_on_is_said(tmp_path: Path, tiny_causal: Path) -> None:
    rows = [{"id": str(at), "messages": row["messages"][:1]} for at, row in enumerate(chats(2))]
    with pytest.raises(UserError, match="nothing to train on"):
        run(language_step(tiny_causal, tmp_path / "rows", rows, "chat", settings_of()), Store(tmp_path / "store"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_cut_off_and_resumed_is_never_cut_off(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    lora = LoraSettings(rank=4, alpha=8, dropout=0.1)  # draws from the random state that a checkpoint must hold
    step = language_step(
        tiny_causal, tmp_path / "rows", chats(10), "chat", settings_of(method=method, epochs=2, lora=lora)
    )
    uncut = run(step, Store(tmp_path / "whole"))
    set_clock(monkeypatch, Clock(itertools.cycle([False, True])))
    store, cuts = Store(tmp_path / "cut"), 0
    for _ in range(9):
        try:
            run(step, store, max_seconds=1.0)
            break
        except OutOfTime:
            cuts += 1
    assert cuts == 2
    for name in ("model.safetensors", "history.json", "training.json"):
        assert (uncut / name).read_bytes() == (store.path(step.key) / name).read_bytes(), name
