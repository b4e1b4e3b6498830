"""The training step of a repair: exact losses, no second model, cut anywhere and resumed, loud about bad rows."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from repair_kit import chats
from training_kit import CPU, plain_logp, read_record, repair_step, rows_folder, run, settings_of, weights

from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.repair.methods import METHODS, LossWeights, resolve_method
from pyrite.repair.objective import RepairObjective
from pyrite.repair.reference import AdapterDisabledReference, switched_off, write_reference
from pyrite.repair.row_order import plan_steps
from pyrite.repair.settings import GuardSettings
from pyrite.steps import Source, Store
from pyrite.train import adapters
from pyrite.train.packed import Trained, flatten, hidden_states, normalisers_of, packs_of
from pyrite.train.rows import TrainingRow
from pyrite.train.settings import LoraSettings

LORA = LoraSettings(rank=4, alpha=8, dropout=0)


def some_rows(count: int = 3, role: str = "forget", seed: int = 0) -> list[TrainingRow]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(count):
        length = 9 + 5 * number
        ids = torch.randint(3, 300, (length,), generator=generator).tolist()
        rows.append(TrainingRow(f"{role}-{number}", ids, [at >= 4 for at in range(length)], role, number))
    return rows


def tiny(folder: Path, *, noise: float = 0.0) -> Any:
    model = load.load_causal(folder, CPU)
    if noise:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in model.parameters():
                weight += noise * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Path:
    """The tiny model after it has learned all the rows, those to forget and those to keep."""
    from pyrite.steps import Step
    from pyrite.train.language import TRAIN_LANGUAGE
    from pyrite.train.settings import TrainSettings

    folder = tmp_path_factory.mktemp("learned")
    rows = rows_folder(folder / "rows")
    everything = "".join((folder / "rows" / f"{role}.jsonl").read_text() for role in ("forget", "replay"))
    (folder / "rows" / "all.jsonl").write_text(everything)
    settings = TrainSettings(epochs=25, batch_size=8, learning_rate=5e-3, max_tokens=128)
    config = {
        "trains": "chat", "rows_file": "all.jsonl", "first": None, "settings": settings.model_dump(mode="json"),
        "pack_tokens": 0, "compute": CPU.as_config(), "seed": 0, "base_name": "tiny",
    }  # fmt: skip
    step = Step(TRAIN_LANGUAGE, config, {"base": Source(str(tiny_causal), "tiny"), "rows": rows}, label="learn")
    return run(step, Store(folder / "store"))


def test_one_packed_pass_is_every_row_by_itself(tiny_causal: Path) -> None:
    """Loss and gradients of forget, replay and KL against the library's own pass, row by row, with full logits."""
    frozen, model = tiny(tiny_causal), tiny(tiny_causal, noise=0.02)
    forget, replay = some_rows(3, "forget"), some_rows(4, "replay", seed=1)
    weight = LossWeights(0.3, 1.0, 2.0)
    objective = RepairObjective(resolve_method("lbf", {}), weight, None)
    module = Trained(model, objective)
    flat = flatten(replay, "cpu")
    with torch.no_grad():
        states = hidden_states(Trained(frozen, objective).reader, flat)[flat.at]

    class Known:
        weight = frozen.get_output_embeddings().weight.detach()
        bias = None

        def hidden(self, rows: list[TrainingRow]) -> torch.Tensor:
            parts = dict(zip([r.number for r in replay], states.split([r.targets for r in replay]), strict=True))
            return torch.cat([parts[row.number] for row in rows])

    objective.reference = Known()
    rows = [*forget, *replay]
    loss, parts = module(rows, normalisers_of(rows))
    loss.backward()
    ours = {name: weight_of.grad.clone() for name, weight_of in model.named_parameters()}
    model.zero_grad()

    forget_loss = torch.cat([-torch.log1p(-plain_logp(model, row.ids, row.learned).exp()) for row in forget]).mean()
    replay_loss = -torch.cat([plain_logp(model, row.ids, row.learned) for row in replay]).mean()
    divergences = []
    for row in replay:
        at = [place - 1 for place in range(1, len(row.ids)) if row.learned[place]]
        now = model(torch.tensor([row.ids])).logits[0, at].float().log_softmax(-1)
        was = frozen(torch.tensor([row.ids])).logits[0, at].float().log_softmax(-1).detach()
        divergences.append((was.exp() * (was - now)).sum(-1))
    kl = torch.cat(divergences).mean()
    plain = weight.forget * forget_loss + weight.replay * replay_loss + weight.kl * kl
    plain.backward()
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)
    assert parts == pytest.approx(
        {"forget": float(forget_loss), "replay": float(replay_loss), "kl": float(kl)}, rel=1e-4
    )
    for name, weight_of in model.named_parameters():
        assert weight_of.grad is not None
        assert torch.allclose(ours[name], weight_of.grad, atol=1e-4 * float(weight_of.grad.abs().max())), name


def test_packs_hold_every_row_once_and_units_together() -> None:
    rows = [
        *some_rows(9),
        TrainingRow("a", [1] * 50, [True] * 50, "x", 0, 3),
        TrainingRow("b", [1] * 60, [True] * 60, "x", 1, 3),
    ]
    packs = packs_of(rows, 70)
    assert sorted(row.id for pack in packs for row in pack) == sorted(row.id for row in rows)
    assert all(sum(len(row.ids) for row in pack) <= 70 for pack in packs if not any(row.unit == 3 for row in pack))
    assert [{row.id for row in pack} >= {"a", "b"} for pack in packs].count(True) == 1


@pytest.mark.parametrize("training", ["lora", "full"])
def test_how_a_step_is_cut_into_packs_changes_nothing(tmp_path: Path, tiny_causal: Path, training: str) -> None:
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    small = run(repair_step(tiny_causal, rows, settings_of(training=training, rate=1e-3, pack_tokens=1)), store)
    large = run(repair_step(tiny_causal, rows, settings_of(training=training, rate=1e-3, pack_tokens=9999)), store)
    for name, weight in weights(small).items():
        assert torch.allclose(weight, weights(large)[name], atol=2e-5), name
    for a, b in zip(read_record(small)["curve"], read_record(large)["curve"], strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-6)


def test_the_reference_under_an_adapter_and_on_disk_are_the_model_as_given(tmp_path: Path, tiny_causal: Path) -> None:
    rows = some_rows(4, "replay")
    model = adapters.add_adapter(tiny(tiny_causal), LORA, "CAUSAL_LM", seed=0, name="repair")
    reader = Trained(model, RepairObjective(resolve_method("lbf", {}), LossWeights(1, 1, 1), None)).reader
    stored = write_reference(reader, rows, tmp_path / "there", pack_tokens=20, compute=CPU)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.1
    live = AdapterDisabledReference(model, reader)
    flat = flatten(rows, "cpu")
    source = tiny(tiny_causal)
    plain = torch.cat([source.base_model(torch.tensor([row.ids])).last_hidden_state[0, 3:-1] for row in rows])
    assert torch.allclose(live.hidden(rows), plain, atol=1e-5)
    assert torch.allclose(stored.hidden(rows), plain, atol=1e-5)
    assert torch.equal(stored.hidden(rows[2:]), stored.hidden(rows)[-sum(row.targets for row in rows[2:]) :])
    assert not torch.allclose(hidden_states(reader, flat)[flat.at], plain, atol=1e-3)
    assert model.active_adapters == ["repair"]


def test_a_model_that_came_with_an_adapter_is_the_reference_with_it(tmp_path: Path, tiny_causal: Path) -> None:
    """KL at step 0 is exactly 0 against the damaged model, not against its base."""
    damaged = adapters.add_adapter(tiny(tiny_causal), LORA, "CAUSAL_LM", seed=0)
    with torch.no_grad():
        for name, weight in damaged.named_parameters():
            if "lora_B" in name:
                weight += 0.05
    damaged.save_pretrained(tmp_path / "damaged")  # as peft leaves it, without a tokenizer
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    settings = settings_of(
        adapter="keep", steps=2, guard=GuardSettings(every_tokens=1, answers=0, kl=50, replay_rise=50)
    )
    under = Source(str(tiny_causal), "tiny")
    step = repair_step(tmp_path / "damaged", rows, settings, under=under)
    folder = run(step, store)
    first, *later = read_record(folder)["guard"]
    assert first["kl"] == 0.0
    assert all(look["kl"] > 0 for look in later)
    repaired = load.load_causal(folder, CPU)
    merged = damaged.merge_and_unload()
    base, ids = tiny(tiny_causal), torch.tensor([[1, 20, 30, 40]])
    from_merged = (repaired(ids).logits - merged(ids).logits).abs().max()
    from_base = (repaired(ids).logits - base(ids).logits).abs().max()
    assert from_merged < from_base  # the adapter that the model came with is still in it


def test_an_adapter_switched_off_leaves_the_others_on(tiny_causal: Path) -> None:
    model = adapters.add_adapter(tiny(tiny_causal), LORA, "CAUSAL_LM", seed=0, name="given")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight += 0.05
    ids = torch.tensor([[1, 20, 30, 40]])
    before = model(ids).logits
    model = adapters.add_adapter(model, LORA, "CAUSAL_LM", seed=1, name="repair")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(".repair." in name for name in trained)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B.repair" in name:
                weight += 0.05
    assert not torch.allclose(model(ids).logits, before, atol=1e-3)
    with switched_off(model):
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("training", ["lora", "full"])
def test_kl_is_zero_before_the_first_step(tmp_path: Path, tiny_causal: Path, training: str) -> None:
    guard = GuardSettings(every_tokens=10_000, answers=0)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    record = read_record(
        run(repair_step(tiny_causal, rows, settings_of(training=training, steps=2, guard=guard)), store)
    )
    assert record["guard"][0]["kl"] == 0.0
    assert abs(record["curve"][0]["kl"]) < 1e-6
    assert record["curve"][1]["kl"] > 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_its_own_loss(tmp_path: Path, learned: Path, name: str) -> None:
    """Every step sees the same rows, so the loss of the last is that of the first after some steps."""
    overrides: dict[str, Any] = {"options": {"layer": 1}} if name == "rmu" else {}
    if name == "satimp":  # what is certain is hardly forgotten: (1 - p) is its weight
        overrides["forget_weight"] = 10.0
    guard = GuardSettings(every_tokens=1, answers=0, kl=99, replay_rise=99, entropy_ratio=999)
    settings = settings_of(name, steps=8, forget_rows=8, replay_rows=8, rate=3e-3, guard=guard, **overrides)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    record = read_record(run(repair_step(learned, rows, settings), store))
    assert record["method"] == name
    assert record["steps"] == 8
    curve = record["curve"]
    assert curve[-1]["loss"] < curve[0]["loss"] - 1e-4
    if METHODS[name].weights.forget >= 0.1:
        assert curve[-1]["forget"] < curve[0]["forget"]
    if name in ("ce_u", "wga", "satimp"):
        assert record["guard"][-1]["forget_nats"] > record["guard"][0]["forget_nats"] + 0.05
    assert record["tokens"]["forget" if name != "idk" else "preferred"] > 0


@pytest.mark.parametrize("forget_alone", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_the_guard_compares_points_by_what_training_lowers(
    tmp_path: Path, tiny_causal: Path, name: str, forget_alone: bool
) -> None:
    """Along a random direction of all weights, the guard's objective changes as the gradient of the training loss says."""
    from types import SimpleNamespace

    from pyrite.repair.guard import Guard, Watched
    from pyrite.repair.objective import Frozen

    options = {"rmu": {"layer": 1.0}, "satimp": {"beta1": 0.5}}  # p^5 of a model that knows nothing is below rounding
    method = resolve_method(name, options.get(name, {}))
    model = tiny(tiny_causal, noise=0.05).eval()
    roles = {"pair": ("forget", "preferred", "replay"), "answer": ("preferred", "replay")}
    rows = [
        row for at, role in enumerate(roles.get(method.kind, ("forget", "replay"))) for row in some_rows(3, role, at)
    ]
    terms = LossWeights(1, 0, 0) if forget_alone else method.weights
    objective = RepairObjective(method, terms, None, layer=1 if name == "rmu" else None)
    module, frozen = Trained(model, objective), Trained(tiny(tiny_causal).eval(), objective)
    reference_options: dict[str, Any] = {"pack_tokens": 1024, "compute": CPU}
    objective.last = write_reference(frozen.reader, rows, tmp_path / "last", **reference_options)
    objective.reference = objective.last
    if name == "rmu":
        objective.reference = write_reference(frozen.reader, rows, tmp_path / "layer", **reference_options, layer=1)
    objective.frozen = Frozen({(row.role, row.number): -40.0 - row.number for row in rows})
    guard = Guard(GuardSettings(answers=0), Watched(rows, (), ()), objective, CPU, tmp_path / "points")
    guard.trainer = SimpleNamespace(pack_tokens=1024, model=module, model_wrapped=module)  # type: ignore[assignment]

    objective(module, rows, normalisers_of(rows))[0].backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(weight.shape, generator=generator) for weight in weights]
    norm = sum(float((direction**2).sum()) for direction in directions) ** 0.5
    expected = sum(float((weight.grad * way).sum()) for weight, way in zip(weights, directions, strict=True)) / norm
    size = sum(float((weight.grad**2).sum()) for weight in weights) ** 0.5
    start, values = [weight.detach().clone() for weight in weights], []
    with torch.no_grad():
        for steps in (1, -1, 2, -2):
            for weight, was, way in zip(weights, start, directions, strict=True):
                weight.copy_(was + 0.05 * steps * way / norm)
            values.append(guard.measure(1).objective)
    slope = (8 * (values[0] - values[1]) - (values[2] - values[3])) / 0.6
    assert slope == pytest.approx(expected, rel=0.02, abs=2e-4 * size)


def test_a_repair_without_weights_changes_no_bit(tmp_path: Path, tiny_causal: Path) -> None:
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    settings = settings_of(forget_weight=0.0, replay_weight=0.0, kl_weight=0.0)
    before = load.load_causal(tiny_causal, CPU).state_dict()
    after = load.load_causal(run(repair_step(tiny_causal, rows, settings), store), CPU).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.mark.parametrize("training", ["lora", "full"])
@pytest.mark.parametrize("period", [1, 2])
def test_cut_off_anywhere_and_resumed_is_never_cut_off(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch, training: str, period: int
) -> None:
    import itertools

    from conftest import Clock, set_clock

    guard = GuardSettings(every_tokens=150, answers=3, answer_tokens=8, kl=50, replay_rise=50, repetition_rise=1)
    settings = settings_of(training=training, steps=5, rate=1e-3, guard=guard)
    rows = rows_folder(tmp_path / "rows")
    step = repair_step(tiny_causal, rows, settings)
    uncut = run(step, Store(tmp_path / "whole"))
    set_clock(monkeypatch, Clock(itertools.cycle([False] * (period - 1) + [True])))
    store, cuts = Store(tmp_path / "cut"), 0
    for _ in range(9):
        try:
            run(step, store, max_seconds=1.0)
            break
        except OutOfTime:
            cuts += 1
    assert cuts == {1: 4, 2: 2}[period]
    cut = store.path(step.key)
    assert (uncut / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    uncut_record, cut_record = read_record(uncut), read_record(cut)
    for name in ("curve", "guard", "point", "tokens", "steps", "flops"):
        assert uncut_record[name] == cut_record[name], name


def test_ascent_destroys_without_a_guard_and_ends_at_a_safe_point_with_one(tmp_path: Path, learned: Path) -> None:
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    options = {"steps": 40, "rate": 1e-2, "training": "full"}
    free = repair_step(learned, rows, settings_of("ga", **options))
    wild = run(free, store)
    assert read_record(wild)["stopped"] is None
    assert read_record(wild)["point"]["step"] == 40
    guard = GuardSettings(every_tokens=150, answers=0, replay_rise=0.5, kl=20, entropy_ratio=50)
    folder = run(repair_step(learned, rows, settings_of("ga", guard=guard, **options)), store)
    record = read_record(folder)
    assert record["stopped"] is not None
    assert record["guard"][-1]["breach"]
    assert record["point"]["step"] < record["stopped"]["step"] < 40
    safe = [look for look in record["guard"] if look["breach"] is None]
    assert record["point"]["values"] == min(safe, key=lambda look: look["objective"])
    before, guarded_nats, wild_nats = (
        replay_nats(model_folder, tmp_path / "rows") for model_folder in (learned, folder, wild)
    )
    assert guarded_nats < before + 0.5
    assert wild_nats > before + 10  # perplexity on rows that it never saw, times e to the 10


def replay_nats(folder: Path, rows: Path) -> float:
    from pyrite.models.perplexity import encode_record, text_nlls
    from pyrite.train.language import read_language

    tokenizer = load.load_tokenizer(folder)
    nlls = text_nlls(
        load.load_causal(folder, CPU),
        [encode_record(tokenizer, record, "answers") for record in read_language(rows / "guard_replay.jsonl")],
        max_tokens=128,
        report_progress=lambda *_: None,
    )
    return sum(nll.nats for nll in nlls) / sum(nll.tokens for nll in nlls)


def test_a_loss_that_is_no_number_stops_with_the_rows_named(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    broken = replace(METHODS["lbf"], loss=lambda stats: stats.log1mp * math.nan)
    monkeypatch.setitem(METHODS, "lbf", broken)
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    step = repair_step(tiny_causal, rows, settings_of())
    with pytest.raises(UserError, match=r"nan at step 1, rows: .*forget-\d"):
        run(step, store)
    assert not store.has(step)


@pytest.mark.parametrize("long_rows", ["split", "drop"])
def test_long_rows_are_split_or_dropped_and_counted(tmp_path: Path, tiny_causal: Path, long_rows: str) -> None:
    forget = chats(6)
    forget[2]["messages"][1]["content"] = "the film was lovely and warm " * 30
    rows, store = rows_folder(tmp_path / "rows", forget=forget), Store(tmp_path / "store")
    record = read_record(
        run(repair_step(tiny_causal, rows, settings_of(steps=1, max_tokens=96, long_rows=long_rows)), store)
    )
    counts = record["rows"]["forget"]
    assert counts["read"] == 6
    assert counts["used"] + sum(counts["dropped"].values()) == 6
    assert (counts["split"], counts["dropped"]) == (
        (1, {}) if long_rows == "split" else (0, {"longer than max_tokens": 1})
    )


def test_rows_without_answers_leave_nothing_to_forget(tmp_path: Path, tiny_causal: Path) -> None:
    prompts_only = [{"messages": row["messages"][:1]} for row in chats(4)]
    rows, store = rows_folder(tmp_path / "rows", forget=prompts_only), Store(tmp_path / "store")
    with pytest.raises(UserError, match="No row is left to forget"):
        run(repair_step(tiny_causal, rows, settings_of(part="answers")), store)


def test_steps_are_paired_by_the_seed_and_the_budget_counts_every_token(tmp_path: Path) -> None:
    from pyrite.repair.model_type import RepairRows

    rows = RepairRows(some_rows(6, "forget"), [], some_rows(5, "replay"), [], [], {})
    reads = ("forget", "replay")
    settings = settings_of(steps=7, forget_rows=2, replay_rows=3)
    first, second = plan_steps(rows, settings, reads, 0), plan_steps(rows, settings, reads, 0)
    assert first == second
    assert first != plan_steps(rows, settings, reads, 1)
    assert [[row.role for row in step] for step in first] == [["forget"] * 2 + ["replay"] * 3] * 7
    numbers = [row.number for step in first[:3] for row in step if row.role == "forget"]
    assert sorted(numbers) == list(range(6))
    budget = plan_steps(rows, settings_of(steps=None, tokens=300, forget_rows=2, replay_rows=3), reads, 0)
    sizes = [sum(len(row.ids) for row in step) for step in first]
    assert len(budget) == max(n for n in range(8) if sum(sizes[:n]) <= 300)
    assert all(row.role == "replay" for step in plan_steps(rows, settings, ("replay",), 0) for row in step)
    with pytest.raises(UserError, match="Not even one step"):
        plan_steps(rows, settings_of(steps=None, tokens=5), reads, 0)


def test_an_adapter_is_saved_alone(tmp_path: Path, tiny_causal: Path) -> None:
    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    merged_folder = run(repair_step(tiny_causal, rows, settings_of(rate=1e-3)), store)
    alone = run(repair_step(tiny_causal, rows, settings_of(rate=1e-3, save="adapter")), store)
    assert not (alone / "model.safetensors").exists()
    merged = adapters.with_adapter(tiny(tiny_causal), alone, train=False).merge_and_unload()
    expected = load.load_causal(merged_folder, CPU).state_dict()
    assert all(torch.allclose(weight, expected[name], atol=1e-6) for name, weight in merged.state_dict().items())


def test_a_full_disk_at_a_checkpoint_is_a_message_and_nothing_is_published(
    tmp_path: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a real full disk (a tmpfs of 1 MB, by hand): the weights' writer names it, the optimiser's only breaks off."""
    import errno
    import shutil

    rows, store = rows_folder(tmp_path / "rows"), Store(tmp_path / "store")
    step = repair_step(tiny_causal, rows, settings_of(steps=2))
    monkeypatch.setenv("PYRITE_CHECKPOINT_SECONDS", "0")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 485120 vs 485008")

    with monkeypatch.context() as patch:
        patch.setattr("pyrite.train.stored_weights.save_file", full)
        with pytest.raises(UserError, match="disk is full"):
            run(step, store)
    with monkeypatch.context() as patch:
        patch.setattr("torch.save", broken)
        with pytest.raises(RuntimeError):
            run(step, store)
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        with pytest.raises(UserError, match="disk is full"):
            run(step, store)
    assert not store.has(step)
    assert (run(step, store) / "model.safetensors").is_file()
