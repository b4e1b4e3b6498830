"""What does a repair step cost in memory and time? Pyrite against the straightforward way (`repair_plain.py`).

    python benchmarks/repair.py [--quick] [--json] [--data FILE] [--rounds N] [--steps N] [--device cpu|cuda]

Optimiser steps of lower-bounded forgetting (0.01) + cross-entropy (1) + KL (1) on 4 forget and 4 replay rows; one step
warms up, the others count. Every measurement is a fresh process; both sides read the same rows, drawn anew in each round.
Rows longer than 512 tokens are split, as the product does. Memory: the highest resident size (files that are mapped into
memory count) less that right after one model was loaded; on a GPU, allocated memory. Tokens: real ones of forget and
replay rows. In full training our frozen model's states are computed beforehand: that time counts, shared among the steps.
In fp32 both losses must agree at every step, else the exit status is 1.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import data
import matmul
import repair_plain
import timing
from repair_plain import CHATS, Clock, Peak, chats, read, write_rows
from timing import say

HERE = Path(__file__).resolve().parent
GOALS = {"ratio_memory": 3.0, "ratio_tokens_per_s": 2.0, "ratio_memory_full": 2.0, "ratio_tokens_per_s_full": 1.5}
SAME = 1e-4
"""How far apart may both losses be in fp32?"""
SEVEN_B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
"""The shape of a 7B Llama; its vocabulary is the packaged tokenizer's."""


@dataclass(frozen=True)
class Plan:
    """How much is measured: counted steps of a process, rounds, the longest row, rows of a step (of either kind), and
    for how many tokens the machine's matrix products are timed."""

    steps: int = 2
    rounds: int = 3
    max_tokens: int = 512
    rows: int = 4
    product_tokens: tuple[int, ...] = (256, 512, 1024, 2048)


QUICK = Plan(steps=1, rounds=1, max_tokens=48, product_tokens=(64,))


# ===== in a fresh process =============================================================================================


def ours(job: dict[str, Any], peak: Peak, clock: Clock) -> dict[str, Any]:
    """The product's own training step. Two of its functions are listened to: when the model was loaded, and how long the
    frozen model's states took."""
    from pyrite.repair import language, train

    asked, steps = read(job, clock)
    load, references = language.load_to_train, train.attach_references
    told: dict[str, Any] = {"reference_seconds": 0.0}

    def load_to_train(*given: Any, **named: Any) -> Any:
        model = load(*given, **named)
        peak.start(model)
        return model

    def timed(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        made = references(*given, **named)
        told["reference_seconds"] = time.perf_counter() - start
        return made

    language.load_to_train, train.attach_references = load_to_train, timed  # type: ignore[assignment]
    made = train.train(asked).record
    assert sum(made["tokens"].values()) == sum(len(row.ids) for step in steps for row in step)
    parts = [{name: one[name] for name in ("forget", "replay", "kl")} for one in made["curve"]]
    shares = asked.weights._asdict()
    return told | {"losses": [{"loss": sum(shares[name] * one[name] for name in one), **one} for one in parts]}


def plain(job: dict[str, Any], peak: Peak, clock: Clock) -> dict[str, Any]:
    """The straightforward way, on the same rows with the same settings."""
    asked, steps = read(job, clock)
    settings = asked.settings
    lora = settings.training.lora
    options = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "target_modules": lora.targets}
    split = [tuple([row for row in step if row.role == role] for role in ("forget", "replay")) for step in steps]
    losses = repair_plain.train(
        Path(job["model"]),
        split,
        lora=options if job["how"] == "lora" else None,
        weights=asked.weights._asdict(),
        learning_rate=settings.training.learning_rate,
        max_grad_norm=settings.training.max_grad_norm,
        bf16=job["precision"] == "bf16-mixed",
        device=job["device"],
        pad_id=asked.tokenizer.pad_token_id,
        seed=job["seed"],
        loaded=peak.start,
        stepped=clock,
    )
    return {"reference_seconds": 0.0, "losses": losses}


def child() -> None:
    """A fresh process: `python -c "import repair; repair.child()" JOB`. Prints what was measured as a JSON object."""
    import importlib

    from pyrite.models.load import quiet_libraries

    job = json.loads(sys.argv[1])
    quiet_libraries()
    for library in ("peft", "torch._dynamo"):  # there before the memory is looked at, on both sides
        importlib.import_module(library)
    peak, clock = Peak(job["device"]), Clock(job["device"])
    told = {"ours": ours, "plain": plain}[job["side"]](job, peak, clock)
    memory = peak.stop()
    steps = read(job, clock)[-1]
    lengths = [[(row.role, len(row.ids), row.targets) for row in step] for step in steps]
    print(json.dumps(told | {"memory": memory, "seconds": clock.seconds, "rows": lengths}))


# ===== in the parent ==================================================================================================


class Bench:
    """Fresh processes in fresh folders under `scratch`."""

    def __init__(self, scratch: Path, plan: Plan, rows: Sequence[Any], model: Path, device: str) -> None:
        self.scratch, self.plan, self.rows, self.model, self.device = scratch, plan, rows, model, device

    def run(self, side: str, how: str, precision: str, seed: int) -> dict[str, Any]:
        """One side's measurement."""
        home = Path(tempfile.mkdtemp(dir=self.scratch))
        rows = write_rows(self.rows, self.scratch / f"rows-{seed}", self.plan.rows * (1 + self.plan.steps), seed)
        job = {"side": side, "how": how, "precision": precision, "seed": seed, "device": self.device}
        job |= {"model": str(self.model), "rows_folder": str(rows), "home": str(home)} | asdict(self.plan)
        command = [sys.executable, "-c", "import repair; repair.child()", json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HERE)})
        shutil.rmtree(home)
        if done.returncode != 0:
            raise SystemExit(f"{side}, {how}, {precision} stopped with {done.returncode}:\n{done.stderr[-3000:]}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        told["tokens"] = [sum(length for _, length, _ in step) for step in told["rows"]]
        return told | {"tokens_per_s": rate(told)}


def rate(told: dict[str, Any]) -> float:
    """Real tokens a second over the counted steps, with their share of what was computed beforehand."""
    counted = len(told["seconds"])
    beforehand = told["reference_seconds"] * counted / (counted + 1)
    return float(sum(told["tokens"][1:]) / (sum(told["seconds"]) + beforehand))


def product_speed(tokens: int, into: int, out: int, dtype: Any, device: str, seconds: float = 0.15) -> float:
    """FLOP/s of one linear layer: the fastest of the calls that fit into `seconds`, after three to warm up."""
    import torch
    from torch.nn.functional import linear

    x, weight = (torch.randn(size, into, dtype=dtype, device=device) for size in (tokens, out))
    best, clock, end = float("inf"), Clock(device), time.perf_counter() + seconds
    with torch.inference_mode():
        while len(clock.times) < 8 or time.perf_counter() < end:
            clock()
            linear(x, weight)
            clock()
            if len(clock.times) > 6:
                best = min(best, clock.times[-1] - clock.times[-2])
    return 2.0 * tokens * into * out / best


def shapes_of(folder: Path) -> Any:
    """The model without its weights: for its shapes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def peak_speed(model: Any, precision: str, device: str, token_counts: Sequence[int]) -> dict[str, Any]:
    """The best FLOP/s at each linear layer's shape, the output layer's included, whatever number of tokens is best."""
    import torch

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    head = (model.config.hidden_size, model.config.vocab_size)
    counts = dict.fromkeys(matmul.block_shapes(model), token_counts)
    counts[head] = tuple(size for size in token_counts if size <= 512)
    return {shape: max(product_speed(size, *shape, dtype, device) for size in sizes) for shape, sizes in counts.items()}


def matmul_share(model: Any, speeds: dict[Any, float], how: str, told: dict[str, Any]) -> float:
    """Which share of the best matrix products' speed does one side reach, by the FLOPs that its steps call for?

    Called for, on real tokens: linear layers forward and for the gradient of their inputs (in full training, of their
    weights too), the output layer only where a token is learned, attention forward and backward, and the frozen model's
    forward pass over replay rows. Adapters' own products are left out. Work beyond that (padding, logits that no loss
    needs) earns nothing, so both sides are charged the same FLOPs.
    """
    rows = [row for step in told["rows"][1:] for row in step]

    def work(some: Any) -> Any:
        return sum((matmul.forward(length, 0, targets) for _, length, targets in some), matmul.Work(0, 0, 0))

    passes = {"linear": 3 if how == "full" else 2, "output": 3 if how == "full" else 2, "attention": 3}
    learned, frozen = (matmul.flops(model, work(some)) for some in (rows, [row for row in rows if row[0] == "replay"]))
    amount = {name: passes[name] * learned[name] + frozen[name] for name in passes}
    shapes = matmul.block_shapes(model)
    size = sum(count * into * out for (into, out), count in shapes.items())
    inside = sum(count * into * out / size / speeds[into, out] for (into, out), count in shapes.items())
    head = (model.config.hidden_size, model.config.vocab_size)
    best_seconds = (amount["linear"] + amount["attention"]) * inside + amount["output"] / speeds[head]
    return float(best_seconds * told["tokens_per_s"] / sum(told["tokens"][1:]))


def measured(bench: Bench, model: Any, how: str, precision: str, speeds: dict[Any, float], seed: int) -> dict[str, Any]:
    """Both sides in turn: ratios, raw figures, and how far their losses are apart."""
    say(f"{how}, {precision}")
    seeds = {side: itertools.count(seed) for side in ("ours", "plain")}
    arms: dict[str, Callable[[], Any]] = {
        side: partial(lambda side: bench.run(side, how, precision, next(seeds[side])), side) for side in seeds
    }
    nothing: dict[str, Callable[[], Any]] = {side: lambda: None for side in seeds}
    timed = timing.alternate(arms, rounds=bench.plan.rounds, warm_up=nothing)
    sides = {side: arm.results for side, arm in timed.items()}
    mine, theirs = sides["ours"], sides["plain"]
    assert [one["rows"] for one in mine] == [one["rows"] for one in theirs]

    def each(figure: Callable[[Any], Any]) -> dict[str, list[Any]]:
        """A figure of every round, by side."""
        return {side: [figure(one) for one in some] for side, some in sides.items()}

    rates, held = each(lambda one: one["tokens_per_s"]), each(lambda one: one["memory"]["bytes"])
    steps = [zip(one["losses"], other["losses"], strict=True) for one, other in zip(mine, theirs, strict=True)]
    pairs = list(itertools.chain(*steps))
    return {
        "how": how,
        "precision": precision,
        "ratio_memory": timing.ratio(held["plain"], held["ours"]),
        "ratio_tokens_per_s": timing.ratio(rates["ours"], rates["plain"]),
        "peak_bytes": held,
        "memory": each(lambda one: one["memory"]),
        "tokens_per_s": rates,
        "tokens_per_s_steps_alone": each(lambda one: rate(one | {"reference_seconds": 0.0})),
        "seconds": each(lambda one: one["seconds"]),
        "reference_seconds": [one["reference_seconds"] for one in mine],
        "tokens": [one["tokens"] for one in mine],
        "lengths": [[[length for _, length, _ in step] for step in one["rows"]] for one in mine],
        "matmul_share": each(lambda one: matmul_share(model, speeds, how, one)),
        "losses": each(lambda one: one["losses"]),
        "difference": {name: max(abs(one[name] - other[name]) for one, other in pairs) for name in pairs[0][0]},
    }


def headline(parts: Sequence[dict[str, Any]], name: str, precision: str) -> float | None:
    """The median of a ratio in one precision; None where it was not measured."""
    how = "full" if name.endswith("_full") else "lora"
    some = [part[name.removesuffix("_full")] for part in parts if (part["how"], part["precision"]) == (how, precision)]
    return some[0]["median"] if some else None


def middle(values: Sequence[float]) -> float:
    """The upper median."""
    return sorted(values)[len(values) // 2]


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    lines = [f"repair: {found['data']}; {found['machine']['cpu']}, {found['machine']['threads']} threads"]
    for part in found["parts"]:
        name = f"{part['how']:<4} {part['precision']:<10}"
        for side, memory in part["memory"].items():
            lines.append(
                f"{name} {side:<5} {middle(part['peak_bytes'][side]) / 1e6:8,.0f} MB beyond one model "
                f"({memory[0]['weights']} weights), {middle(part['tokens_per_s'][side]):8,.1f} tokens/s, matmul share "
                f"{middle(part['matmul_share'][side]):.2f}, loss {part['losses'][side][-1][-1]['loss']:.6f}"
            )
        lines.append(f"{name} memory, plain / ours:   {timing.shown(part['ratio_memory'])}")
        lines.append(f"{name} tokens/s, ours / plain: {timing.shown(part['ratio_tokens_per_s'])}")
        lines.append(f"{name} losses at most {part['difference']['loss']:.2g} apart")
    for name, goal in GOALS.items():
        told = "not run" if found[name] is None else f"{found[name]:.2f}"
        lines.append(f"{name}: {told} (goal {goal}; {found['headline']})")
    lines.append(f"GPU: {found['gpu']}")
    return lines


def seven_b(scratch: Path) -> Path:
    """A folder with a Llama of 7B shape, random weights in bf16, and the packaged tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from pyrite.models.load import load_tokenizer
    from pyrite.models.packaged import folder_of

    tokenizer = load_tokenizer(folder_of(data.MODEL))
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), dtype="bfloat16", **SEVEN_B)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(scratch / "seven_b")
    tokenizer.save_pretrained(scratch / "seven_b")
    del model
    torch.cuda.empty_cache()
    return scratch / "seven_b"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = timing.parser(__doc__, quick="tiny rows, one step: a few minutes")
    parser.add_argument("--data", help=f"file of chats, or folder of public data with {CHATS} (default: $PYRITE_DATA)")
    parser.add_argument("--rounds", type=int, help="rounds in which the sides take turns")
    parser.add_argument("--steps", type=int, help="steps that count, after one that warms up")
    parser.add_argument("--seed", type=int, default=0, help="which rows are drawn (each round takes the next seed)")
    parser.add_argument("--how", nargs="+", choices=("lora", "full"), help="only these [both; on a GPU lora]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: a 7B-shaped model in bf16")
    parser.add_argument("--scratch", type=Path, help="folder for rows, states and the 7B model (14 GB)")
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print."""
    given = parsed()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from pyrite.models.hardware import choose
    from pyrite.models.load import quiet_libraries
    from pyrite.models.packaged import folder_of

    quiet_libraries()
    if given.device == "cuda" and not torch.cuda.is_available():
        timing.write_out({"gpu": "not run"}, ["GPU: not run (there is none here)"], as_json=given.json)
        return
    plan = replace(QUICK if given.quick else Plan(), **{n: v for n in ("rounds", "steps") if (v := vars(given)[n])})
    machine = timing.machine()
    rows, source = chats(given.data)
    say(source)
    precisions = ["fp32", "bf16-mixed"] if choose().precision == "bf16-mixed" else ["fp32"]
    hows = given.how or ["lora", "full"]
    if given.device == "cuda":
        precisions, hows = precisions[-1:], given.how or ["lora"]
    parts: list[dict[str, Any]] = []
    products: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = seven_b(Path(scratch)) if given.device == "cuda" else folder_of(data.MODEL)
        bench, model = Bench(Path(scratch), plan, rows, folder, given.device), shapes_of(folder)
        for precision in precisions:
            speeds = peak_speed(model, precision, given.device, plan.product_tokens)
            products[precision] = {f"{into}x{out}": speed for (into, out), speed in speeds.items()}
            parts += [measured(bench, model, how, precision, speeds, given.seed) for how in hows]
    found = {
        **{name: headline(parts, name, precisions[-1]) for name in GOALS},
        "headline": f"{precisions[-1]}, {given.device}",
        "goals": GOALS,
        "quick": given.quick,
        "plan": asdict(plan),
        "data": source,
        "model": data.MODEL if given.device == "cpu" else SEVEN_B,
        "machine": machine | ({"gpu": torch.cuda.get_device_name()} if given.device == "cuda" else {}),
        "gpu": "this run" if given.device == "cuda" else "not run (--device cuda)",
        "bf16-mixed": "run" if precisions[-1] == "bf16-mixed" else "not run: no bf16 arithmetic here",
        "products_flops_per_s": products,
        "parts": parts,
    }
    timing.write_out(found, summary(found), as_json=given.json)
    wrong = [part for part in parts if part["precision"] == "fp32" and not part["difference"]["loss"] <= SAME]
    if wrong:
        told = ", ".join(f"{part['how']}: {part['difference']['loss']:.3g}" for part in wrong)
        raise SystemExit(f"the losses of both sides are not the same in fp32 (at most {SAME:g} apart): {told}")


if __name__ == "__main__":
    main()
