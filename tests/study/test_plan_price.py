"""What a plan says of a cluster: by hand on a small graph, and beside real runs of a tiny study."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import study_line

import pyrite
from pyrite.cli import run
from pyrite.errors import UserError
from pyrite.models.accelerators import ACCELERATORS
from pyrite.models.hardware import FLOPS, Compute
from pyrite.models.size import size_by_count, size_in
from pyrite.steps import START, Context, Cost, Source, Step, StepType, Store
from pyrite.steps.demand import weight_bytes
from pyrite.study.load import load_spec
from pyrite.study.plan import make_plan
from pyrite.study.plan_price import PlanPrice, PriceOptions
from pyrite.study.plan_speed import PlanSpeed, speed_of
from pyrite.study.show_price import price_lines

CPU, GPU = Compute("cpu", "fp32"), Compute("cuda", "bf16-mixed")
AS_PLANNED = PlanSpeed("given", "GPU", "as planned", 1.0)
GIB = 2**30


def nothing(_context: Context) -> None: ...


def step(
    kind: str,
    name: str,
    seconds: float,
    inputs: dict[str, Step | Source],
    *,
    settings: dict[str, Any] | None = None,
    **cost: int,
) -> Step:
    config: dict[str, Any] = {"name": name, "settings": settings or {"method": "lora"}}
    if kind != "rows":
        config["compute"] = {"device": "cuda"}
    files = ("model*.safetensors",) if "weights" in cost else ()
    return Step(
        StepType(kind, 1, nothing), config, inputs, label=name, cost=Cost(seconds=seconds, **cost), weights=files
    )


def hand_worked(keep: str = "predictions", settings: dict[str, Any] | None = None, **options: Any) -> PlanPrice:
    """Rows and items; two models of 5 GB that are trained on the rows; an answer of each."""
    base = Source("model", "id")
    rows, items = step("rows", "rows", 10, {}, rows=100), step("rows", "items", 2, {})
    trained = [
        step(
            "train.classifier",
            name,
            seconds,
            {"base": base, "rows": rows},
            settings=settings,
            tokens=7,
            weights=1000,
            checkpoint=600,
        )
        for name, seconds in (("train A", 100), ("train B", 400))
    ]
    answers = [
        step("probe", f"answer {one.label[-1]}", 50, {"base": base, "model": one, "items": items}, tokens=3, bytes=10)
        for one in trained
    ]
    todo = [rows, items, *trained, *answers]
    plan = SimpleNamespace(
        rows_first=[rows, items],
        spec=SimpleNamespace(keep=keep, threads=1),
        model_bytes={"id": 5 * 10**9},
        widening=2.0,
    )
    return PlanPrice(plan, todo, Store(Path("nowhere")), AS_PLANNED, PriceOptions(**options))  # type: ignore[arg-type]


def test_the_clock_by_hand() -> None:
    """One worker: 12 + 600. Two: rows 10, then the second training and its answer 450; the first is done meanwhile."""
    price = hand_worked(workers=(1, 2, 4), price=3.6).as_json()
    rows = {row["workers"]: row for row in price["workers"]}
    assert [rows[count]["seconds"] for count in (1, 2, 4)] == [612, 460, 460]
    assert rows[2]["busy"] == round(612 / 920, 3)
    assert rows[2]["worker_hours"] == round(920 / 3600, 4)
    assert [rows[count]["price"] for count in (1, 2, 4)] == [0.61, 0.92, 1.84]  # a thousandth a second
    assert price["critical_path"] == {"seconds": 460, "steps": ["rows", "train B", "answer B"]}
    assert price["useful_workers"] == 2
    assert price["hours"] == {"gpu": round(600 / 3600, 4), "other": round(12 / 3600, 4), "price": 0.61}
    assert price["tokens"] == {"read": 6, "trained": 14, "written": 0}
    assert [line["kind"] for line in price["breaks"]] == ["workers"]
    assert price["breaks"][0]["says"] == "beyond 2 workers nothing gets faster"
    assert [row["workers"] for row in hand_worked().as_json()["workers"]] == [1, 2]


@pytest.mark.parametrize(
    ("keep", "peak", "kept"), [("predictions", 1710, 120), ("adapters", 2710, 2120), ("all", 2710, 2120)]
)
def test_the_store_by_hand(keep: str, peak: int, kept: int) -> None:
    """On two workers: 100 of rows, from 10 the long training's checkpoint (600), at 110 the first weights (1,000), at 160 its
    answer (10) and, where nothing else is kept, no weights any more; at 410 the others, beside the checkpoint."""
    price = hand_worked(keep, workers=(2,)).as_json()
    assert price["workers"][0]["peak_bytes"] == peak
    assert price["bytes"] == {"answers": 20, "rows": 100, "weights": 2000, "kept": kept}


def test_where_it_breaks() -> None:
    price = hand_worked("all", {"method": "full"}, workers=(1, 2), memory=20 * 10**9, store_limit=2000).as_json()
    memory, store = price["breaks"]
    assert (memory["kind"], memory["steps"], memory["bytes"]) == ("memory", 2, 20 * 10**9 + GIB)
    assert memory["says"].startswith("2 steps declare more memory than a GPU of 20 GB has; the most: 21 GB (four times")
    adapters = hand_worked("all", memory=8 * 10**9, store_limit=2710).as_json()["breaks"]
    assert [line["bytes"] for line in adapters] == [int(7.5e9) + GIB]
    assert (store["kind"], store["bytes"], store["limit"]) == ("store", 2710, 2000)
    assert "keep: predictions frees weights" in store["says"]
    fits = hand_worked("all", memory=9 * 10**9, store_limit=2710).as_json()
    assert fits["breaks"] == []
    assert fits["limits"] == {"memory": 9 * 10**9, "store": 2710}
    assert hand_worked().as_json()["limits"]["memory"] is None  # nobody knows: nothing is said of it


def test_trainings_that_processes_share() -> None:
    """Two workers are held, for all steps one after the other; each holds half of what is trained."""
    price = hand_worked(
        settings={"method": "full", "processes": 2}, workers=(1, 2), memory=7 * 10**9, price=3.6
    ).as_json()
    (row,) = price["workers"]
    assert (row["workers"], row["seconds"], row["worker_hours"]) == (2, 612, round(2 * 612 / 3600, 4))
    assert price["hours"]["gpu"] == round((2 * 500 + 100) / 3600, 4)
    memory, launch = price["breaks"]
    assert memory["bytes"] == 10 * 10**9 + GIB
    assert "(four times the weights that it reads, in fp32, shared by 2, and 1 GiB)" in memory["says"]
    assert launch["says"] == "trainings with processes: 2 run on 2 workers, which torchrun starts, and no others"


def test_what_the_store_holds_counts_towards_its_limit(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "file").write_bytes(b"x" * 500)
    price = hand_worked(store_limit=2000)
    price.store = Store(tmp_path)
    assert price.room == 1500


def test_a_plan_of_nothing() -> None:
    price = hand_worked()
    empty = PlanPrice(price.plan, [], price.store, price.speed, price.options).as_json()
    assert (empty["steps"], empty["useful_workers"], empty["workers"][0]["seconds"]) == (0, 1, 0)


def test_words_of_a_price() -> None:
    lines = price_lines(hand_worked(workers=(2,), price=3.6, memory=8 * 10**9).as_json())
    assert (
        lines[0]
        == "work: 0.17 GPU hours, 0.0033 other hours (0.61 if only work is paid); 6 tokens read, 14 trained, 0 written"
    )
    assert lines[2] == "beyond 2 workers nothing gets faster: the longest chain takes 8 min (rows → train B → answer B)"
    assert lines[-1].startswith("would break: 2 steps declare more memory")


# ===== speed ==========================================================================================================


def test_speeds_that_a_user_gives(tmp_path: Path) -> None:
    """A step of 1e15 FLOPs takes 2 s to begin and end, and at 4e14 FLOP/s 2.5 s between; one without a model keeps its own."""
    planned = FLOPS["cpu", "fp32"]
    computing = Step(StepType("train.x", 1, nothing), {}, cost=Cost(seconds=START + 1e15 / planned, flops=1e15))
    reading = Step(StepType("read", 1, nothing), {}, cost=Cost(seconds=5))
    given = speed_of("4e14", CPU, [], Store(tmp_path))
    assert (given.source, given.worker, given.memory) == ("given", "worker", None)
    assert given.seconds(computing) == pytest.approx(START + 2.5)
    assert given.seconds(reading) == 5
    estimate = speed_of("H100@0.4", CPU, [], Store(tmp_path))
    assert (estimate.source, estimate.worker, estimate.memory) == ("estimate", "GPU", 80 * 10**9)
    assert estimate.seconds(computing) == pytest.approx(START + 1e15 / (0.4 * ACCELERATORS["h100"].flops))
    assert estimate.assumes.startswith("an estimate: 40% of the peak of a h100")


@pytest.mark.parametrize("text", ["fast", "h100", "h100@1.2", "h100@0.0", "h999@0.3", "0", "-1", "nan", "inf"])
def test_what_is_no_speed(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"speed|accelerator"):
        speed_of(text, CPU, [], Store(tmp_path))


def test_a_gpu_that_nobody_measured_is_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrite.study.plan_speed.memory_of", lambda _compute: None)
    speed = speed_of("measured", GPU, [], Store(tmp_path))
    assert speed.source == "assumed"
    assert "not measured" in speed.assumes
    assert speed_of("measured", CPU, [], Store(tmp_path)).source == "matrix product"


def test_finished_steps_are_the_measure(tmp_path: Path) -> None:
    """Trainings took twice what was planned: so will the others."""
    store = Store(tmp_path)
    kind = StepType("train.x", 1, nothing)
    steps = [Step(kind, {"at": at}, cost=Cost(seconds=100, flops=1e12)) for at in range(6)]
    for done in steps[:4]:
        store.publish(done, store.attempt(done)[0], 200.0)
    speed = speed_of("measured", CPU, steps, store)
    assert speed.source == "finished steps"
    assert speed.assumes == "as 4 finished steps of this study took (cpu, fp32)"
    assert speed.seconds(steps[5]) == pytest.approx(200, rel=0.02)


# ===== sizes ==========================================================================================================


def test_the_size_of_a_model_from_its_files(tiny_causal: Path, tiny_encoder: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    for folder in (tiny_causal, tiny_encoder):
        size = size_in(folder)
        assert size is not None
        tensors = load_file(folder / "model.safetensors")
        assert size.weights == sum(tensor.numel() for tensor in tensors.values())
        assert size.bytes == (folder / "model.safetensors").stat().st_size
    model = AutoModelForCausalLM.from_pretrained(tiny_causal)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    size = size_in(tiny_causal)
    assert size is not None
    assert size.multiplied == sum(module.weight.numel() for module in linear)
    body = [module for module in linear if module is not model.get_output_embeddings()]
    assert size.sides == sum(module.in_features + module.out_features for module in body)


def test_the_size_of_a_model_by_its_name() -> None:
    """Llama 2 7B: 160 million weights in adapters of rank 64 on all linear layers (4,096 wide, 11,008 inside, 32 layers)."""
    size = size_by_count(6.7e9)
    assert size.trained_bytes("full", 64) == int(4 * 6.7e9)
    exact = 64 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    assert size.trained_bytes("lora", 64) / 4 == pytest.approx(exact, rel=0.1)


def test_no_model_no_size(tmp_path: Path) -> None:
    assert size_in(tmp_path) is None


# ===== the command ====================================================================================================


def priced(spec: Path, *more: str, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(study_line(spec, "--plan", "--json", *more)) == 0
    record: dict[str, Any] = json.loads(capfd.readouterr().out)
    return record


KEYS = {
    "schema_version", "study", "cells", "models_probed", "trainings", "trainings_of", "steps", "tokens", "seconds", "bytes",
    "stored", "absent", "primary", "workers", "seconds_assume", "threads", "threads_advised",
}  # fmt: skip


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["study", "zhang_pavlick_2025", "--plan", "--store", str(tmp_path / "store")]
    price = ["--plan-speed", "h100@0.35", "--plan-price", "2", "--plan-workers", "1", "--plan-workers", "100"]
    limits = ["--plan-memory", "40GB", "--store-limit", "30GB"]
    assert run([*line, *price, *limits, "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert set(record) == KEYS | {"cluster"}
    cluster = record["cluster"]
    assert cluster["speed"]["source"] == "estimate"
    assert sum(cluster["tokens"].values()) == record["tokens"]
    assert [row["workers"] for row in cluster["workers"]] == [1, 100]
    assert [line["kind"] for line in cluster["breaks"]] == ["memory", "store", "workers"]
    assert not (tmp_path / "store").exists()
    assert run([*line, *price, *limits]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "261 missing steps on so many workers" in shown
    assert "would break: 60 steps declare more memory than a GPU of 40 GB has" in shown
    assert "left of --store-limit 30 GB" in shown


def test_options_of_a_plan_without_a_plan(tmp_path: Path) -> None:
    for options, flag in (({"plan_price": 2.0}, "--plan-price"), ({"store_limit": 10**9}, "--store-limit")):
        with pytest.raises(UserError, match=flag):
            pyrite.study(pyrite.StudyConfig(spec="demo", store=tmp_path, out=tmp_path, **options))


def test_planned_weights_are_those_that_are_written(tiny_study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Declared memory and stored bytes, planned and from the files of a finished study with keep: all."""
    text = tiny_study.read_text()
    tiny_study.write_text(text + ("" if "keep:" in text else "keep: all\n"))
    spec, _ = load_spec(str(tiny_study))
    assert run(study_line(tiny_study, "--quiet")) == 0
    capfd.readouterr()
    store = Store(tiny_study.parent / "store")
    plan = make_plan(spec, tiny_study.parent, CPU, store=store.root, only_plan=True)
    price = PlanPrice(plan, plan.steps, store, AS_PLANNED, PriceOptions())
    for found in plan.steps:
        assert store.has(found), found.label
        written = sum(file.stat().st_size for pattern in found.weights for file in store.path(found.key).glob(pattern))
        planned = found.cost.weights
        assert planned == pytest.approx(written, rel=0.25), (found.label, planned, written)
        if "compute" in found.config:
            really = weight_bytes(found, store)
            times = (price.demand(found) - GIB) / max(1, really)
            assert times == pytest.approx(4 if found.kind.name.startswith("train.") else 1, rel=0.25), found.label


@pytest.mark.slow
def test_the_clock_beside_real_runs(
    make_tiny_study: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A seed is run and makes the measure; of two seeds more the plan says how long they take, within a factor of three."""
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        spec = make_tiny_study(folder)
        text = spec.read_text().replace("seeds: [0, 1]", "seeds: [0]").replace("workers: 1", f"workers: {workers}")
        spec.write_text(text.replace("raw: 60", "raw: 30").replace("epochs: 12", "epochs: 6"))
        assert run(study_line(spec, "--quiet")) == 0
        capfd.readouterr()
        cluster = priced(spec, "--seeds", "3", "--plan-workers", str(workers), capfd=capfd)["cluster"]
        assert cluster["speed"]["source"] == "finished steps"
        assert cluster["steps"] > 15
        began = time.monotonic()
        assert run(study_line(spec, "--seeds", "3", "--workers", str(workers), "--quiet")) == 0
        took = time.monotonic() - began
        capfd.readouterr()
        planned = cluster["workers"][0]["seconds"]
        assert 1 / 3 < planned / took < 3, f"{workers} workers: planned {planned} s, took {took:.1f} s"
        again = priced(spec, "--seeds", "3", capfd=capfd)
        assert again["cluster"]["steps"] == 0
