"""Frozen layers of a study's classifiers: what they make of a row is computed once, and shared by all models that have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.models import load
from pyrite.steps import Source, Step
from pyrite.study.plan_graph import StepGraph
from pyrite.study.plan_labelled import LabelledRows
from pyrite.study.spec_steps import START_ROWS
from pyrite.train.lower import LOWER

WHOLE_POOL, DRAWS_SHARE = 20_000, 20
"""What frozen layers make of rows is computed for a whole pool of at most so many rows, and at most so many times the rows
of a draw."""


@dataclass(frozen=True, slots=True)
class Lower:
    """The lower layers that a trained model left as they are: so many of this model (None: of the base model)."""

    model: Step | None
    layers: int


class FrozenLayers:
    """Steps that hold the states of frozen layers, and whose layers each trained model kept."""

    def __init__(self, graph: StepGraph, labelled: LabelledRows) -> None:
        self.graph, self.labelled, self.spec = graph, labelled, graph.spec
        self.kept: dict[str, Lower] = {}

    def note(self, trained: Step, lower: Lower) -> None:
        """A trained model left these layers as they were."""
        self.kept[trained.key] = lower

    def below(self, model: Step | None) -> Lower | None:
        """The layers that a model's training left as they were, where it reads pairs."""
        return None if model is None or self.graph.reads != "pair" else self.kept.get(model.key)

    def share_trained(self, frozen: int) -> float:
        """The share of the task model's layers above the frozen ones; 1 where the model is not at hand."""
        layers = self.task_config().get("num_hidden_layers") if frozen else None
        return 1 - frozen / layers if isinstance(layers, int) and layers > frozen else 1.0

    def task_config(self) -> dict[str, Any]:
        """The task model's config.json; empty where the model is not at hand."""
        folder = Path(self.graph.base.path)
        return load.read_config(folder) if (folder / "config.json").is_file() else {}

    def lower_of(self, start: Step | None, layers: int) -> Lower | None:
        """Whose lower layers are those of a model that is trained from `start` with so many frozen? None: its own."""
        if not layers:
            return None
        before = None if start is None else self.kept.get(start.key)
        if before is not None and before.layers >= layers:
            return Lower(before.model, layers)
        return Lower(start, layers)

    def stored_of(self, rows: Step, lower: Lower, max_tokens: int) -> list[Step]:
        """The steps that hold what the frozen layers make of drawn rows: one for each pool that they are drawn from, so
        that all draws share it, or for the drawn rows themselves where a pool holds far more."""
        parts = [(rows.inputs[f"part{at}"], part) for at, part in enumerate(rows.config["parts"])]
        of_all_rows = [self.shares_states(part) for _, part in parts]
        steps = {}
        for (step, part), all_rows in zip(parts, of_all_rows, strict=True):
            assert isinstance(step, Step)
            source, file, name = (step, part["file"], part["name"]) if all_rows else (rows, "rows.jsonl", rows.label)
            count = self.labelled.rows_in(name) if all_rows and name != START_ROWS else int(part["rows"])
            stored = self.stored(source, file, lower, max_tokens, f"{name}: lower {lower.layers} layers", count)
            steps[stored.key] = stored
        return list(steps.values())

    def shares_states(self, part: Mapping[str, Any]) -> bool:
        """Are states computed for all rows that a part is drawn from, so that other draws find them? Where it is not far
        more than is drawn; said by the draw alone, so that another seed changes no key."""
        if part["name"] == START_ROWS or part["rows"] == "all":
            return True
        drawn: int = part["rows"]
        return self.labelled.rows_in(part["name"]) <= min(WHOLE_POOL, DRAWS_SHARE * drawn)

    def stored(self, rows: Step, file: str, lower: Lower, max_tokens: int, label: str, count: int) -> Step:
        """The step that holds what the frozen layers make of the rows of a file."""
        config = {
            "labels": list(self.spec.labels),
            "rows_file": file,
            "reads": self.graph.reads,
            "freeze": lower.layers,
            "max_tokens": max_tokens,
            "compute": self.graph.compute.as_config(),
            "seed": 0,
        }
        inputs: dict[str, Step | Source] = {"base": self.graph.base, "rows": rows}
        if lower.model is not None:
            inputs["model"] = lower.model
        tokens = count * self.spec.tokens_per_row
        cost = self.graph.cost_of(
            self.spec.given.model,
            tokens * (1 - self.share_trained(lower.layers)),
            training=False,
            keeps=4 * self.task_config().get("hidden_size", 1024) * tokens,  # fp32
        )
        return self.graph.keep(Step(LOWER, config, inputs, label=label, cost=cost, weights=("states.npy",)))
