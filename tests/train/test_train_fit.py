"""Training: resumed = never interrupted, one big batch = several small ones, adapters continued, 4-bit on this machine."""

import json
from pathlib import Path

import pytest
import torch

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.models.hardware import Compute
from pyrite.records import Labelled
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.tasks.rows import write_rows
from pyrite.train.adapters import add_adapter
from pyrite.train.causal import TRAIN_GENERATOR, encode_examples
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.classifier_rows import load_trained
from pyrite.train.settings import LoraSettings, TrainSettings

from conftest import Clock, review_rows, set_clock  # isort: skip

CPU = Compute("cpu", "fp32")
LABELS = ["positive", "negative"]
QUICK = TrainSettings(epochs=2, batch_size=8, learning_rate=1e-3, max_tokens=64)


def rows_source(folder: Path, count: int = 24) -> Source:
    folder.mkdir(exist_ok=True)
    rows = [Labelled({"text": row["text"]}, row["sentiment"], str(at)) for at, row in enumerate(review_rows(count, 5))]
    write_rows(rows, folder / "rows.jsonl")
    return Source(str(folder), f"rows:{count}")


def train_step(
    base: Path, rows: Source, settings: TrainSettings = QUICK, *, start: Step | None = None, seed: int = 0
) -> Step:
    config = {
        "labels": LABELS,
        "rows_file": "rows.jsonl",
        "reads": "prompt" if load.is_causal(base) else "pair",
        "settings": settings.model_dump(mode="json"),
        "compute": CPU.as_config(),
        "seed": seed,
        "base_name": "tiny",
    }
    inputs: dict[str, Step | Source] = {"base": Source(str(base), "tiny"), "rows": rows}
    if start is not None:
        inputs["start"] = start
    return Step(TRAIN_CLASSIFIER, config, inputs, label="train")


def run(step: Step, store: Store, **options: object) -> Path:
    run_steps([step], store, RunOptions(**options), Progress(quiet=True))  # type: ignore[arg-type]
    return store.path(step.key)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    files = list(folder.glob("*.safetensors"))
    assert len(files) == 1
    return load_file(files[0])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, tiny_encoder: Path) -> None:
    step = train_step(tiny_encoder, rows_source(tmp_path / "rows"))
    first, second = run(step, Store(tmp_path / "a")), run(step, Store(tmp_path / "b"))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    other_seed = run(train_step(tiny_encoder, rows_source(tmp_path / "rows"), seed=1), Store(tmp_path / "a"))
    assert (first / "model.safetensors").read_bytes() != (other_seed / "model.safetensors").read_bytes()


def test_cut_off_and_resumed_is_never_cut_off(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = train_step(tiny_encoder, rows_source(tmp_path / "rows"))
    uncut = run(step, Store(tmp_path / "whole"))
    store = Store(tmp_path / "cut")
    clock = iter([False, True] * 50)  # time is up after every second optimiser step
    set_clock(monkeypatch, Clock(clock))
    interrupted = 0
    for _ in range(20):
        try:
            run(step, store, max_seconds=1.0)
            break
        except OutOfTime:
            interrupted += 1
    assert interrupted >= 2
    assert (uncut / "model.safetensors").read_bytes() == (store.path(step.key) / "model.safetensors").read_bytes()
    assert (uncut / "history.json").read_bytes() == (store.path(step.key) / "history.json").read_bytes()


def test_one_batch_of_eight_is_eight_batches_of_one(tmp_path: Path, tiny_causal: Path) -> None:
    rows = rows_source(tmp_path / "rows", 16)
    plain = {"epochs": 1, "learning_rate": 1e-3, "max_tokens": 64, "group_by_length": False}
    base = tmp_path / "start"
    model, _ = load.load_classifier(tiny_causal, LABELS, CPU, seed=0)  # no dropout in this model
    model.save_pretrained(base)
    load.load_tokenizer(tiny_causal).save_pretrained(base)
    store = Store(tmp_path / "store")
    big = run(train_step(base, rows, TrainSettings(batch_size=8, accumulate=1, **plain)), store)
    small = run(train_step(base, rows, TrainSettings(batch_size=8, accumulate=8, **plain)), store)
    for name, tensor in weights(big).items():
        assert torch.allclose(tensor, weights(small)[name], atol=2e-5), name


def losses_of(folder: Path) -> list[float]:
    return [row["loss"] for row in json.loads((folder / "history.json").read_text())["losses"]]


@pytest.mark.parametrize("count", [16, 22])
def test_parts_of_a_batch_weigh_by_their_rows_and_are_cut_by_the_same_norm(
    tmp_path: Path, tiny_causal: Path, count: int
) -> None:
    """A gradient that is too large tells in the losses and where it is cut at a norm (Adam itself hides a constant
    factor); of 22 rows the last step's parts have four and two, which must not count alike."""
    rows = rows_source(tmp_path / "rows", count)
    plain = {"epochs": 6, "learning_rate": 1e-3, "max_tokens": 64, "max_grad_norm": 1.0}
    base = tmp_path / "start"
    model, _ = load.load_classifier(tiny_causal, LABELS, CPU, seed=0)
    model.save_pretrained(base)
    load.load_tokenizer(tiny_causal).save_pretrained(base)
    store = Store(tmp_path / "store")
    big, small = (
        run(train_step(base, rows, TrainSettings(batch_size=8, accumulate=parts, **plain)), store)  # type: ignore[arg-type]
        for parts in (1, 2)
    )
    assert losses_of(big)
    assert losses_of(big) == pytest.approx(losses_of(small), abs=1e-4)
    for name, tensor in weights(big).items():
        assert torch.allclose(tensor, weights(small)[name], atol=1e-4), name


def test_a_4_bit_model_trains_after_it_was_read(tiny_causal: Path) -> None:
    """On CPUs with bf16 arithmetic bitsandbytes repacks a layer at its first pass without gradients: none reached the
    adapters after a guard's look, or a reference's pass."""
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    if not modules.has_avx512bf16():
        pytest.skip("bitsandbytes repacks 4-bit weights on CPUs with AVX-512 bf16 only")
    lora = LoraSettings(rank=4, alpha=8, dropout=0)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])

    def gradients(*, read_before: bool) -> torch.Tensor:
        model = load.load_causal(tiny_causal, CPU, four_bit=True)
        model = add_adapter(model, lora, "CAUSAL_LM", seed=0, four_bit=True)
        if read_before:
            with torch.no_grad():
                model.eval()(ids)
        model.train()(ids, labels=ids).loss.backward()
        return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])

    assert torch.equal(gradients(read_before=True), gradients(read_before=False))


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_are_trained_and_continued(tmp_path: Path, tiny_causal: Path, method: str) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="4-bit training needs bitsandbytes")
    settings = TrainSettings(
        method=method,
        epochs=1,
        batch_size=12,
        learning_rate=1e-2,
        max_tokens=64,
        lora=LoraSettings(rank=4, alpha=8, dropout=0),
    )  # type: ignore[arg-type]
    rows = rows_source(tmp_path / "rows")
    store = Store(tmp_path / "store")
    first = train_step(tiny_causal, rows, settings)
    start = run(first, store)
    assert (start / "adapter_config.json").is_file()
    assert str(tiny_causal) not in (start / "adapter_config.json").read_text()
    further = run(train_step(tiny_causal, rows, settings, start=first, seed=1), store)
    before, after = weights(start), weights(further)
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("lora" in name for name in moved)
    assert any("score" in name for name in moved)
    model, order, _ = load_trained(further, tiny_causal, LABELS, CPU, four_bit=method == "qlora")
    assert order == [0, 1]
    assert model(input_ids=torch.tensor([[1, 50, 60]])).logits.shape == (1, 2)


def test_an_unknown_label_stops_the_training(tmp_path: Path, tiny_encoder: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    write_rows([Labelled({"text": "x"}, "maybe", "row-7")], rows / "rows.jsonl")
    store = Store(tmp_path / "store")
    step = train_step(tiny_encoder, Source(str(rows), "bad"))
    with pytest.raises(UserError, match="row-7"):
        run(step, store)
    assert not store.has(step)


def test_generator_texts_end_with_the_marker_and_learn_no_label_sentence(tiny_causal: Path) -> None:
    tokenizer = load.load_tokenizer(tiny_causal)
    rows = [Labelled({"text": "the film was great"}, "positive", "1"), Labelled({"text": "x " * 300}, "negative", "2")]
    ids, targets, too_long = encode_examples(tokenizer, rows, 80)
    assert too_long == 1
    assert ids[0][-1] == tokenizer.eos_token_id == targets[0][-1]
    learned = [token for token in targets[0] if token != -100]
    assert tokenizer.decode(learned, skip_special_tokens=True) == "Text: the film was great"
    assert ids[0][0] == tokenizer.bos_token_id


def test_a_generator_learns_its_rows(tmp_path: Path, tiny_causal: Path) -> None:
    settings = TrainSettings(epochs=6, batch_size=8, learning_rate=5e-3, max_tokens=96)
    config = {
        "labels": LABELS, "fields": ["text"], "compute": CPU.as_config(), "rows_file": "rows.jsonl",
        "settings": settings.model_dump(mode="json"), "seed": 0, "base_name": "tiny",
    }  # fmt: skip
    inputs = {"base": Source(str(tiny_causal), "tiny"), "rows": rows_source(tmp_path / "rows", 64)}
    folder = run(Step(TRAIN_GENERATOR, config, inputs, label="generator"), Store(tmp_path / "store"))
    import json

    losses = [entry["loss"] for entry in json.loads((folder / "history.json").read_text())["losses"]]
    assert losses[-1] < 0.5 * losses[0]
