"""What does a grid of classifiers cost where the lower layers are frozen? What lies below, computed once, beside computed anew.

    python benchmarks/grid.py [--quick] [--json]

A grid as a study has it: one start, arms that are trained further from it, two probes of every model, with the embeddings
and four of the packaged encoder's six layers frozen. Both ways run the same steps on the same rows in stores of their own,
in turn, one thread each; predictions are compared. A third arm trains all layers, for scale.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import timing
from pyrite.models.hardware import choose
from pyrite.models.load import quiet_libraries
from pyrite.models.packaged import folder_of, package_identity
from pyrite.probe.predict import PREDICT
from pyrite.steps import Progress, RunOptions, Source, Step, Store, run_steps
from pyrite.tasks.grammar import generate_reviews
from pyrite.tasks.rows import write_rows
from pyrite.train.classifier import TRAIN_CLASSIFIER
from pyrite.train.lower import LOWER
from pyrite.train.settings import ClassifierSettings
from timing import say

MODEL = "packaged:minilm-l6"
LABELS = ["positive", "negative"]
FROZEN = 4


@dataclass(frozen=True)
class Plan:
    """How large the grid is."""

    start: int = 400
    arm: int = 128
    arms: int = 8
    items: int = 200
    probes: int = 2
    epochs: int = 3
    rounds: int = 3


QUICK = Plan(start=48, arm=48, arms=3, items=40, epochs=2, rounds=1)


class Grid:
    """The grid's steps, with (`stored`) and without what the lower layers make of the rows."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.compute = plan, choose("fp32")
        self.base = Source(str(folder_of(MODEL)), package_identity(MODEL))
        rows = generate_reviews(plan.start + plan.arm * plan.arms + plan.items * plan.probes, seed=1, negated=0.5)
        sizes = [plan.start, *[plan.arm] * plan.arms, *[plan.items] * plan.probes]
        self.files = []
        for number, size in enumerate(sizes):
            part, rows = rows[:size], rows[size:]
            here = folder / f"rows-{number}"
            here.mkdir()
            write_rows(part, here / "rows.jsonl")
            write_rows(part, here / "items.jsonl")
            self.files.append(Source(str(here), f"rows-{number}"))

    def common(self, seed: int) -> dict[str, Any]:
        """What every step that runs the model is told."""
        return {"labels": LABELS, "reads": "pair", "compute": self.compute.as_config(), "seed": seed}

    def lower(self, rows: Source, file: str) -> Step:
        """What the frozen layers make of rows."""
        config = {**self.common(0), "rows_file": file, "freeze": FROZEN, "max_tokens": 64}
        return Step(LOWER, config, {"base": self.base, "rows": rows}, label="lower layers")

    def train(self, rows: Source, start: Step | None, seed: int, *, frozen: int, stored: bool) -> Step:
        """One training."""
        settings = ClassifierSettings(freeze=frozen, epochs=self.plan.epochs, learning_rate=3e-4, max_tokens=64)
        config = {**self.common(seed), "rows_file": "rows.jsonl", "settings": settings.as_config(), "base_name": MODEL}
        inputs: dict[str, Step | Source] = {"base": self.base, "rows": rows}
        inputs |= {} if start is None else {"start": start}
        inputs |= {"lower0": self.lower(rows, "rows.jsonl")} if stored else {}
        return Step(TRAIN_CLASSIFIER, config, inputs, label=f"train {seed}", weights=("model*.safetensors",))

    def answers(self, *, frozen: int, stored: bool) -> list[Step]:
        """Every model's answers to every probe."""
        start_rows, *more = self.files
        start = self.train(start_rows, None, 0, frozen=frozen, stored=stored)
        arms, probes = more[: self.plan.arms], more[self.plan.arms :]
        models = [start, *(self.train(rows, start, at, frozen=frozen, stored=stored) for at, rows in enumerate(arms))]
        asked = {"by": "head", "max_tokens": 64, "four_bit": False}
        steps = []
        for model in models:
            for items in probes:
                inputs: dict[str, Step | Source] = {"base": self.base, "items": items, "model": model}
                inputs |= {"lower": self.lower(items, "items.jsonl")} if stored else {}
                steps.append(Step(PREDICT, {**self.common(0), **asked}, inputs, label="answers"))
        return steps

    def run(self, *, frozen: int, stored: bool) -> tuple[float, list[list[str]]]:
        """Processor seconds, and the predictions."""
        import pyarrow.parquet as pq

        steps = self.answers(frozen=frozen, stored=stored)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            began = time.process_time()
            run_steps(steps, store, RunOptions(threads=1), Progress(quiet=True))
            spent = time.process_time() - began
            tables = [
                pq.read_table(store.path(step.key) / "predictions.parquet", columns=["predicted"]) for step in steps
            ]
        return spent, [table.to_pydict()["predicted"] for table in tables]


def unlike(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many answers differ, of how many."""
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
    return sum(a != b for a, b in pairs), len(pairs)


def main() -> None:
    """Measure and print."""
    parser = timing.parser(__doc__, quick="a small grid, one round")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    quiet_libraries()
    where = timing.machine()
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid(plan, Path(folder))
        arms = {
            "frozen, stored states": lambda: grid.run(frozen=FROZEN, stored=True),
            "frozen, computed anew": lambda: grid.run(frozen=FROZEN, stored=False),
            "all layers trained": lambda: grid.run(frozen=0, stored=False),
        }
        warm = Grid(Plan(start=8, arm=8, arms=1, items=8, probes=1, epochs=1), Path(tempfile.mkdtemp(dir=folder)))
        warm_up = dict.fromkeys(arms, lambda: warm.run(frozen=FROZEN, stored=True))
        say(f"a start of {plan.start} rows, {plan.arms} arms of {plan.arm}, {plan.probes} probes of {plan.items} items")
        timed = timing.alternate(arms, rounds=plan.rounds, warm_up=warm_up)
    spent = {name: [seconds for seconds, _ in one.results] for name, one in timed.items()}
    ours, plain, whole = spent.values()
    differ, answers = unlike(*(one.last[1] for one in list(timed.values())[:2]))
    found = {
        "ratio_frozen_grid": timing.ratio(plain, ours)["median"],
        "ratio_all_layers": timing.ratio(whole, ours)["median"],
        "answers_that_differ": differ,
        "answers": answers,
        "processor_seconds": spent,
        "machine": where,
    }
    lines = [
        f"processor time, frozen: computed anew / stored {timing.shown(timing.ratio(plain, ours))}",
        f"processor time, all layers trained / stored    {timing.shown(timing.ratio(whole, ours))}",
        f"answers that differ between the two ways: {differ} of {answers}",
    ]
    timing.write_out(found, lines, as_json=given.json)


if __name__ == "__main__":
    main()
