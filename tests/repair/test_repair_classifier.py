"""Repair of classifiers: exact losses on labels, the whole command, what is refused, cut off and resumed, null repair."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from repair_kit import write
from training_kit import CPU, read_record, run, settings_of, weights

from pyrite.cli import run as pyrite
from pyrite.errors import OutOfTime, UserError
from pyrite.models import load
from pyrite.repair.classifier import ClassReader, LabelRow, batches_of, forward
from pyrite.repair.methods import METHODS, LossWeights, resolve_method
from pyrite.repair.objective import RepairObjective, frozen_values
from pyrite.repair.reference import ADAPTER, AdapterDisabledReference, Outputs, see_alone
from pyrite.repair.settings import GuardSettings, RepairSettings
from pyrite.repair.train import REPAIR
from pyrite.steps import Source, Step, Store
from pyrite.tasks.rows import read_rows, write_rows
from pyrite.train import adapters
from pyrite.train.packed import Trained, normalisers_of
from pyrite.train.settings import LoraSettings
from pyrite.train.split import SPLIT

LABELS = ("Entailment", "Neutral", "Contradiction")
GUARD = GuardSettings(every_tokens=400, entropy_ratio=1e9, kl=50, replay_rise=50)
THINGS = ["film", "song", "meal", "book", "room", "trip", "game", "walk"]


def nli(count: int, *, start: int = 0, label: str | None = None, says: str = "was warm") -> list[dict[str, Any]]:
    """Pairs, no two alike; hypotheses of several lengths."""
    return [
        {
            "premise": f"the {THINGS[n % 8]} {n} was warm and the {THINGS[n % 7]} was kind",
            "hypothesis": " ".join([f"the {THINGS[n % 8]} {says}"] * (1 + n % 3)),
            "label": label or LABELS[n % 3].lower(),
        }
        for n in range(start, start + count)
    ]


def classifier(folder: Path, of: Path) -> Path:
    """A classifier with a head of its own and named outputs, larger weights so that labels differ."""
    model, _ = load.load_classifier(of, LABELS, CPU, seed=3)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("classifier", "score")):
                weight += 0.5 * torch.randn_like(weight)
    model.save_pretrained(folder)
    load.load_tokenizer(of).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    return classifier(tmp_path_factory.mktemp("bert"), tiny_encoder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Path:
    return classifier(tmp_path_factory.mktemp("llama"), tiny_causal)


def some_rows(role: str, count: int, seed: int) -> list[LabelRow]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(count):
        ids = torch.randint(3, 300, (5 + 9 * number % 31,), generator=generator).tolist()
        second = [int(at >= 3 + number % 5) for at in range(len(ids))]
        rows.append(LabelRow(f"{role}-{number}", ids, (), role, number, label=number % 3, segments=second))
    return rows


def loaded(folder: Path, *, noise: float = 0.0) -> Any:
    model, _ = load.load_classifier(folder, LABELS, CPU, seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    return model


def plain(model: Any, rows: list[LabelRow]) -> torch.Tensor:
    """Every row's log-probabilities by the library alone, one row at a time."""
    segments = [{"token_type_ids": torch.tensor([row.segments])} if load.takes_segments(model) else {} for row in rows]
    logits = [
        model(torch.tensor([list(row.ids)]), **row_segments).logits
        for row, row_segments in zip(rows, segments, strict=True)
    ]
    return torch.cat(logits).log_softmax(-1)


def of_label(logp: torch.Tensor, rows: list[LabelRow]) -> torch.Tensor:
    return logp[torch.arange(len(rows)), torch.tensor([row.label for row in rows])]


class Known:
    """The model as given, from logits that are handed over."""

    def __init__(self, rows: list[LabelRow], logits: torch.Tensor) -> None:
        self.at = {(row.role, row.number): item for row, item in zip(rows, logits, strict=True)}
        self.weight, self.bias = torch.eye(3), None

    def hidden(self, rows: Any) -> torch.Tensor:
        return torch.stack([self.at[row.role, row.number] for row in rows])


@pytest.mark.parametrize("of", ["bert", "llama"])
@pytest.mark.parametrize("name", ["lbf", "npo", "simnpo", "undial"])
def test_loss_and_gradients_are_those_of_a_plain_computation(
    of: str, name: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(of)
    frozen, model = loaded(folder), loaded(folder, noise=0.02)
    forget, replay = some_rows("forget", 4, 0), some_rows("replay", 5, 1)
    with torch.no_grad():
        was_forget, was = plain(frozen, forget), plain(frozen, replay)
    weight, method = LossWeights(0.3, 1.0, 2.0), resolve_method(name, {})
    objective = RepairObjective(method, weight, None, forward=forward)
    objective.reference = Known([*forget, *replay], torch.cat([was_forget, was]))
    objective.frozen = frozen_values(see_alone(ClassReader(frozen, 0)), forget, 64, CPU, forward)
    module = Trained(model.train(), objective, ClassReader(model, 0))
    rows = [forget[0], *replay, *forget[1:]]
    loss, parts = module(rows, normalisers_of(rows))
    assert model.training
    loss.backward()
    ours = {key: weight_of.grad.clone() for key, weight_of in model.named_parameters() if weight_of.grad is not None}
    model.zero_grad()
    model.eval()

    now, replay_logprobs = plain(model, forget), plain(model, replay)
    logp = of_label(now, forget)
    if name == "lbf":
        forget_loss = -torch.log1p(-logp.exp()).mean()
    elif name == "npo":
        forget_loss = (2 / 0.1 * torch.log1p((logp.exp() / of_label(was_forget, forget).exp()) ** 0.1)).mean()
    elif name == "simnpo":
        forget_loss = (-2 / 4.5 * torch.nn.functional.logsigmoid(-4.5 * logp)).mean()
    else:
        lowered = was_forget.clone()
        lowered[torch.arange(4), torch.tensor([row.label for row in forget])] -= 10
        forget_loss = -(lowered.softmax(-1) * now).sum(-1).mean()
    cross = -of_label(replay_logprobs, replay).mean()
    kl = (was.exp() * (was - replay_logprobs)).sum(-1).mean()
    expected = weight.forget * forget_loss + weight.replay * cross + weight.kl * kl
    expected.backward()
    assert parts == pytest.approx({"forget": forget_loss.item(), "replay": cross.item(), "kl": kl.item()}, rel=1e-4)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(kl) > 1e-5
    for key, weight_of in model.named_parameters():
        if weight_of.grad is not None:
            assert torch.allclose(ours[key], weight_of.grad, atol=1e-4 * float(weight_of.grad.abs().max()) + 1e-8), key


def test_batches_hold_every_row_once_by_role_and_length() -> None:
    rows = [*some_rows("forget", 9, 0), *some_rows("replay", 9, 1)]
    batches = batches_of(rows, mixed_lengths=False)
    assert sorted(at for batch in batches for at in batch) == list(range(18))
    for batch in batches:
        assert len({rows[at].role for at in batch}) == 1
        lengths = [len(rows[at].ids) for at in batch]
        assert 2 * min(lengths) >= max(lengths)
    assert len(batches_of(rows, mixed_lengths=True)) == 2


@pytest.mark.parametrize("of", ["bert", "llama"])
def test_with_the_adapter_off_it_is_the_model_as_given(of: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(of)
    rows = some_rows("replay", 5, 0)
    logits = ClassReader(loaded(folder), 0).logits(rows)
    lora = LoraSettings(rank=4, alpha=8, dropout=0)
    nothing: Any = None
    model = adapters.add_adapter(loaded(folder), lora, nothing, seed=0, name=ADAPTER)
    reader = ClassReader(model, 0)
    assert any(
        "classifier" in key or "score" in key for key, parameter in model.named_parameters() if parameter.requires_grad
    )
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter += 0.1
    live = AdapterDisabledReference(model, reader, forward=forward)
    assert torch.equal(live.hidden(rows), logits)
    outputs: Outputs = forward(reader, rows)
    assert not torch.allclose(outputs.states, logits, atol=1e-3)
    assert outputs.targets.tolist() == [0, 1, 2, 0, 1]


def pools(folder: Path, **replaced: list[dict[str, Any]]) -> Source:
    """Row files of the four roles, as the step that divides rows writes them."""
    from pyrite.records import Labelled

    rows_by_role = {
        "forget": nli(8, label="entailment"),
        "replay": nli(8, start=100),
        "guard_forget": nli(3, start=200, label="entailment"),
        "guard_replay": nli(3, start=300),
    } | replaced
    folder.mkdir(exist_ok=True)
    for role, rows in rows_by_role.items():
        records = [
            Labelled({"premise": row["premise"], "hypothesis": row["hypothesis"]}, row["label"], f"{role}-{at}")
            for at, row in enumerate(rows)
        ]
        write_rows(records, folder / f"{role}.jsonl")
    return Source(str(folder), json.dumps(rows_by_role))


def repair_step(base: Path, rows: Source, settings: RepairSettings) -> Step:
    files = ("forget", "replay", "guard_forget", "guard_replay")
    config = {
        "files": {role: f"{role}.jsonl" for role in files}, "settings": settings.model_dump(mode="json"),
        "compute": CPU.as_config(), "seed": 0, "base_name": "tiny",
    }  # fmt: skip
    return Step(REPAIR, config, {"base": Source(str(base), str(base)), **dict.fromkeys(files, rows)}, label="repair")


@pytest.mark.parametrize(("of", "training"), [("bert", "lora"), ("llama", "full")])
def test_the_label_is_forgotten_and_cut_off_the_bytes_are_the_same(
    of: str, training: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conftest import Clock, set_clock

    base, rows = request.getfixturevalue(of), pools(tmp_path / "rows")
    settings = settings_of(training=training, rate=1e-3, steps=3, guard=GUARD, forget_weight=1.0, kl_weight=0.1)
    uncut = run(repair_step(base, rows, settings), Store(tmp_path / "one"))
    record = read_record(uncut)
    assert (record["steps"], record["stopped"]) == (3, None)
    start, last = record["guard"][0], record["guard"][-1]
    assert abs(start["kl"]) <= (0 if training == "lora" else 1e-7)
    assert start["repetition"] is None
    assert last["forget_nats"] > start["forget_nats"]
    assert set(record["curve"][0]) == {"step", "tokens", "loss", "forget", "replay", "kl", "lr"}
    assert record["rows"]["forget"] == {"read": 8, "used": 8, "split": 0, "cut": 0, "dropped": {}}
    names = load.read_config(uncut)["id2label"]
    assert names == {"0": "Entailment", "1": "Neutral", "2": "Contradiction"}
    load.load_classifier(uncut, LABELS, CPU, seed=0)

    store = Store(tmp_path / "two")
    step = repair_step(base, rows, settings)
    monkeypatch.setenv("PYRITE_CHECKPOINT_SECONDS", "0")
    set_clock(monkeypatch, Clock(itertools.cycle([True])))
    cuts = 0
    while True:
        try:
            again = run(step, store, max_seconds=1)
            break
        except OutOfTime:
            cuts += 1
    assert cuts == 2
    assert (uncut / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert read_record(again)["guard"] == record["guard"]
    assert read_record(again)["curve"] == record["curve"]


def test_a_null_repair_changes_no_bit(tmp_path: Path, bert: Path) -> None:
    nothing = {"forget_weight": 0.0, "replay_weight": 0.0, "kl_weight": 0.0}
    out = run(repair_step(bert, pools(tmp_path / "rows"), settings_of(**nothing)), Store(tmp_path / "store"))
    assert read_record(out)["steps"] == 0
    before, after = weights(bert), weights(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.mark.parametrize("name", ["ga", "kl", "ce_u", "satimp"])
def test_other_methods_move_the_weights_and_start_at_the_model_as_given(name: str, tmp_path: Path, bert: Path) -> None:
    assert METHODS[name].kind in ("token", "soft")
    settings = settings_of(name, steps=1, training="full", guard=GUARD)
    out = run(repair_step(bert, pools(tmp_path / "rows"), settings), Store(tmp_path / "store"))
    assert read_record(out)["steps"] == 1
    assert abs(read_record(out)["guard"][0]["kl"]) < 1e-6
    before, after = weights(bert), weights(out)
    assert any(not torch.equal(weight, after[key]) for key, weight in before.items()) == (
        read_record(out)["point"]["step"] == 1
    )
    assert read_record(out)["guard"][1]["kl"] > 1e-6


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        ({}, {"method": "rmu"}, "lbf, ga"),
        ({}, {"method": "dpo"}, "for language models"),
        ({}, {"method": "idk"}, "for language models"),
        ({}, {"part": "all"}, "one label a row"),
        ({}, {"processes": 2}, "one process"),
        ({"replay": nli(3, label="maybe")}, {}, "row replay-0 (replay): 'maybe'"),
        ({"forget": nli(3, says="word " * 70)}, {"long_rows": "drop"}, "No row is left to forget"),
    ],
)
def test_what_has_no_meaning_for_a_classifier_is_refused(
    rows: dict[str, Any], settings: dict[str, Any], says: str, tmp_path: Path, bert: Path
) -> None:
    step = repair_step(bert, pools(tmp_path / "rows", **rows), settings_of(**settings))
    with pytest.raises(UserError) as error:
        run(step, Store(tmp_path / "store"))
    assert says in str(error.value)


def test_rows_too_long_are_cut_and_counted(tmp_path: Path, bert: Path) -> None:
    rows = pools(tmp_path / "rows", replay=[*nli(4), *nli(2, start=50, says="word " * 70)])
    record = read_record(run(repair_step(bert, rows, settings_of(steps=1)), Store(tmp_path / "one")))
    assert record["rows"]["replay"] == {"read": 6, "used": 6, "split": 0, "cut": 2, "dropped": {}}
    record = read_record(run(repair_step(bert, rows, settings_of(steps=1, long_rows="drop")), Store(tmp_path / "two")))
    assert record["rows"]["replay"] | {"cut": 0} == {
        "read": 6, "used": 4, "split": 0, "cut": 0, "dropped": {"longer than max_tokens": 2},
    }  # fmt: skip


Command = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def repair(tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command on labelled files."""
    upper = [{**row, "label": row["label"].upper()} for row in nli(24, label="entailment")]
    write(upper, tmp_path / "forget.jsonl")
    write([*nli(30, start=100), {**nli(1)[0], "label": "neutral"}], tmp_path / "replay.jsonl")

    def command(*options: str, model: Path = bert) -> tuple[int, dict[str, Any], str]:
        flags = {
            "--forget": tmp_path / "forget.jsonl", "--replay": tmp_path / "replay.jsonl", "--out": tmp_path / "out",
            "--store": tmp_path / "store", "--precision": "fp32", "--scorecard-rows": 6, "--guard-rows": 4,
            "--guard-forget-rows": 4, "--overlap-limit": 0.1, "--steps": 2, "--learning-rate": 0.003,
        }  # fmt: skip
        line = [word for flag, value in flags.items() if flag not in options for word in (flag, str(value))]
        code = pyrite(["repair", str(model), *line, "--quiet", "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out) if code in (0, 1) else {}, err

    return command


def test_the_command_from_files_to_a_model_with_its_card(tmp_path: Path, repair: Command, bert: Path) -> None:
    task = write([{**row, "label": row["label"]} for row in nli(12, start=500)], tmp_path / "nli.jsonl")
    code, record, err = repair("--task", f"nli={task}", "--prove", "int8", "--gate", "change replay.accuracy >= -1")
    assert code == 0, err
    assert record["labels"] == ["entailment", "neutral", "contradiction"]
    assert record["rows"]["overlap"]["shared"] == record["rows"]["overlap"]["left_out"] == 1
    assert record["rows"]["overlap"]["other_label"] == 1
    assert any("contradict each other" in note for note in record["notes"])
    by_task = {comparison["task"]: comparison for comparison in record["compared"]}
    assert list(by_task) == ["replay", "forget", "nli"]
    primary = {line["metric"]: line for line in by_task["replay"]["contrasts"] if line["primary"]}
    assert primary.keys() == {"accuracy", "nats_per_row"}
    assert primary["nats_per_row"]["difference"]["n"] == 6
    assert primary["nats_per_row"]["first"] == pytest.approx(nats_by_hand(tmp_path / "store", bert), rel=1e-5)
    assert [proof["proof"] for proof in record["proofs"]] == ["int8"]
    assert "calibration" in (tmp_path / "out" / "README.md").read_text()
    load.load_classifier(tmp_path / "out", LABELS, CPU, seed=0)


def nats_by_hand(store: Path, folder: Path) -> float:
    """Nats a row of the held-out replay rows under a model, by the library alone."""
    (pool,) = store.rglob("scorecard_replay.jsonl")
    tokenizer, model = load.load_tokenizer(folder), loaded(folder)
    nats = []
    for row in map(json.loads, pool.read_text().splitlines()):
        inputs = tokenizer(row["fields"]["premise"], row["fields"]["hypothesis"], return_tensors="pt")
        logp = model(**inputs).logits.log_softmax(-1)[0]
        nats.append(-float(logp[[name.lower() for name in LABELS].index(row["label"])]))
    assert len(nats) == 6
    return sum(nats) / 6


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--method", "rmu"), "for language models"),
        (("--prove", "relearn=3"), "Relearning is for language models"),
        (("--task", "ifeval=nowhere.jsonl"), "labels only"),
        (("--adapter", "keep"), "merged first"),
    ],
)
def test_the_command_refuses_before_anything_runs(flags: tuple[str, ...], says: str, repair: Command) -> None:
    code, _, err = repair(*flags)
    assert code == 2
    assert says in err


def test_the_command_refuses_rows_that_do_not_fit(tmp_path: Path, repair: Command, tiny_causal: Path) -> None:
    write(nli(24, start=700, label="maybe"), tmp_path / "strange.jsonl")
    code, _, err = repair("--replay", str(tmp_path / "strange.jsonl"))
    assert (code, "a label that the model lacks" in err, "maybe" in err) == (2, True, True)
    write([{"text": f"only text {n}"} for n in range(30)], tmp_path / "texts.jsonl")
    code, _, err = repair("--replay", str(tmp_path / "texts.jsonl"))
    assert (code, "Rows for a classifier are labelled" in err) == (2, True)
    code, _, err = repair(model=tiny_causal)
    assert (code, "texts or chats" in err) == (2, True)


def test_rows_without_a_known_label_are_counted_where_asked(tmp_path: Path, repair: Command) -> None:
    rows = [*nli(30, start=100), *nli(3, start=700, label="maybe"), *nli(2, start=800, label="-")]
    write(rows, tmp_path / "mixed.jsonl")
    code, record, err = repair("--replay", str(tmp_path / "mixed.jsonl"), "--on-bad-row", "skip", "--steps", "1")
    assert code == 0, err
    replay_counts = record["rows"]["replay"]
    assert replay_counts["dropped"] == {"a label that the model does not have": 3, "no gold label": 2}
    assert replay_counts["read"] == 35 == sum(replay_counts["pools"].values()) + 5


def test_an_adapter_brings_a_base_with_a_head_or_is_refused(
    tmp_path: Path, repair: Command, bert: Path, tiny_encoder: Path
) -> None:
    for base, name in ((bert, "whole"), (tiny_encoder, "bare")):
        model, _ = load.load_classifier(base, LABELS, CPU, seed=0)
        lora = LoraSettings(rank=4, alpha=8, dropout=0)
        model = adapters.add_adapter(model, lora, "SEQ_CLS", seed=0)
        adapters.save_trained(model, base, tmp_path / name, str(base))
    code, _, err = repair(model=tmp_path / "bare")
    assert (code, "does not name its labels" in err) == (2, True)
    code, record, err = repair("--steps", "1", model=tmp_path / "whole")
    assert code == 0, err
    assert record["labels"][0] == "entailment"


def test_outputs_without_names_are_refused(tmp_path: Path, repair: Command, bert: Path) -> None:
    import shutil

    nameless = shutil.copytree(bert, tmp_path / "nameless")
    config = json.loads((nameless / "config.json").read_text())
    config["id2label"] = {str(at): f"LABEL_{at}" for at in range(3)}
    (nameless / "config.json").write_text(json.dumps(config))
    code, _, err = repair(model=nameless)
    assert (code, "id2label" in err) == (2, True)


def test_a_decoder_and_an_adapter_as_the_result(tmp_path: Path, repair: Command, llama: Path) -> None:
    code, record, err = repair("--save", "adapter", model=llama)
    assert code == 0, err
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    primary = [line for line in record["compared"][0]["contrasts"] if line["primary"]]
    assert {line["metric"] for line in primary} == {"accuracy", "nats_per_row"}
    assert record["cost"]["flops"] > 0


def test_text_with_a_label_column_is_labelled(tmp_path: Path, repair: Command, tiny_encoder: Path) -> None:
    for side, start in (("forget", 0), ("replay", 100)):
        rows = [{"body": f"the song {n} was kind", "gold": ["yes", "no"][n % 2]} for n in range(start, start + 24)]
        write(rows, tmp_path / f"{side}.jsonl")
    model, _ = load.load_classifier(tiny_encoder, ("no", "yes"), CPU, seed=0)
    model.save_pretrained(tmp_path / "two")
    load.load_tokenizer(tiny_encoder).save_pretrained(tmp_path / "two")
    code, record, err = repair("--columns", "text=body", "--columns", "label=gold", model=tmp_path / "two")
    assert code == 0, err
    assert record["labels"] == ["no", "yes"]
    write([{"text": f"the song {n} was kind", "label": ["Yes", "NO"][n % 2]} for n in range(9)], tmp_path / "own.jsonl")
    config = {
        "names": {"file0": "own.jsonl"}, "columns": None, "on_bad_row": "stop", "duplicates": "drop",
        "pools": {"forget": "rest"}, "seed": 0, "labels": ["no", "yes"],
    }  # fmt: skip
    step = Step(SPLIT, config, {"file0": Source(str(tmp_path / "own.jsonl"), "own")}, label="divide")
    rows = read_rows(run(step, Store(tmp_path / "store")) / "forget.jsonl")
    assert {row.label for row in rows} == {"no", "yes"}
    assert all(tuple(row.fields) == ("text",) and "label" not in row.meta for row in rows)
