"""The labelled rows of a study as steps: read, divided into pools, written by a grammar or generator, drawn for starts and arms.

Rows that a study lets vary (`pools_vary`, `texts_vary`) are those of a seed; seed 0 has the rows that all seeds share
where they do not vary, and probes and judges always read those.
"""

from functools import partial
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.io import read_settings
from pyrite.steps import Cost, Source, Step
from pyrite.study.labelled_steps import ARM, GRAMMAR, POOLS
from pyrite.study.labelled_uses import HELD_OUT, pools_held_out, pools_kept
from pyrite.study.plan_graph import BYTES_PER_TOKEN, StepGraph, pinned
from pyrite.study.row_files import arm_title
from pyrite.study.spec_data import DataSpec, as_pool
from pyrite.study.spec_steps import START_ROWS
from pyrite.synth.rows import READ
from pyrite.synth.run import ExampleRows, synth_steps
from pyrite.synth.settings import SynthSettings


class LabelledRows:
    """Every method returns the step that makes what it is named after, and where needed the file that holds it."""

    def __init__(self, graph: StepGraph) -> None:
        self.graph, self.spec, self.plan = graph, graph.spec, graph.plan

    def source(self, name: str, seed: int = 0) -> Step:
        """All rows of a source, for one seed."""
        spec = self.spec.data[name]
        if spec.synth:
            return self.synthetic(name, spec, seed if self.spec.texts_vary else 0)
        if spec.grammar:
            written = {"grammar": spec.grammar.as_config(), "fields": list(self.spec.fields)}
            cost = Cost(seconds=2, rows=self.bytes_of(self.rows_in(name)))
            step = self.graph.keep(Step(GRAMMAR, written, label=f"{name}: write rows by grammar", cost=cost))
        else:
            config: dict[str, Any] = {
                "fields": list(self.spec.fields),
                "labels": list(self.spec.labels),
                "columns": spec.columns,
                "label_map": spec.label_map,
                "on_bad_row": spec.on_bad_row,
                "duplicates": "drop_repeats" if spec.duplicates in (None, "drop") else spec.duplicates,
                "layout": None if tuple(self.spec.fields) == ("premise", "hypothesis") else "labelled",
                "first": None,
                **read_settings(spec, spec.roles),
            }
            inputs = {f"file{number}": self.graph.file(file) for number, file in enumerate(spec.files)}
            config["names"] = {key: pinned(source) for key, source in inputs.items()}
            cost = Cost(seconds=5, rows=self.bytes_of(self.rows_in(name)))
            step = self.graph.keep(Step(READ, config, inputs, label=f"{name}: read and clean", cost=cost))
        self.plan.counts[name] = step
        return step

    def data(self, name: str, seed: int = 0) -> tuple[Step, str]:
        """The step and file that hold the rows of a source or pool, for one seed."""
        source, _, pool = name.partition(".")
        step = self.source(source, seed)
        if not pool:
            return step, "rows.jsonl"
        config = self.division(source)
        label = f"{source}: divide into pools"
        fixed_pools = pools_kept(self.spec, source)
        if self.spec.pools_vary and seed and pool not in fixed_pools:
            config |= {"division": seed, "kept": sorted(fixed_pools)}
            label += f", seed {seed}"
        cost = Cost(seconds=2, rows=self.bytes_of(self.rows_in(source)))
        return self.graph.keep(Step(POOLS, config, {"rows": step}, label=label, cost=cost)), f"{pool}.jsonl"

    def division(self, source: str) -> dict[str, Any]:
        """How a source is divided. What the file does not ask for is left out, so that older divisions are found again."""
        spec = self.spec.data[source]
        pools = {name: as_pool(pool) for name, pool in spec.pools.items()}
        held_out = pools_held_out(self.spec, source)
        pool_configs = {
            name: pool.model_dump(mode="json", exclude={"shares_with", "where"}) for name, pool in pools.items()
        }
        for name, pool in pools.items():
            shares = sorted(held_out & set(pool.shares_with))
            pool_configs[name] |= {"shares_with": shares} if shares else {}
            pool_configs[name] |= {"where": pool.where} if pool.where else {}
        config: dict[str, Any] = {"pools": pool_configs, "labels": list(self.spec.labels), "seed": 0}
        if held_out - set(HELD_OUT) and not all(pool.disjoint for pool in pools.values()):
            config["held_out"] = sorted(held_out)
        if spec.group is not None:
            config["group"] = spec.group
        if spec.group in self.spec.fields:
            config["group_text"] = "same_text"  # before, only case and blanks did not matter
        return config

    def rows_in(self, name: str) -> int:
        """How many rows a plan expects this data to have."""
        source, _, pool = name.partition(".")
        spec = self.spec.data[source]
        if pool and isinstance(as_pool(spec.pools[pool]).rows, int):
            return int(as_pool(spec.pools[pool]).rows)
        if spec.grammar:
            return spec.grammar.rows
        if spec.synth:
            return sum(spec.synth.raw_per_label(list(self.spec.labels)).values())
        return spec.expected_rows or 10_000

    def synthetic(self, name: str, spec: DataSpec, seed: int) -> Step:
        """A generator's rows: train it (or show it rows), sample, parse, drop duplicates."""
        synth = spec.synth
        assert synth is not None
        assert spec.train_on is not None
        step, file = self.data(spec.train_on, seed)
        first_seed = self.spec.seeds[0] if self.spec.texts_vary else 0
        title = name if seed == first_seed else f"{name}, seed {seed}"
        rows = synth_steps(
            title,
            synth,
            base=self.graph.model(synth.model, trains=synth.mode == "finetuned"),
            examples=ExampleRows(step, file, self.rows_in(spec.train_on)),
            labels=list(self.spec.labels),
            fields=list(self.spec.fields),
            compute=self.graph.compute,
            tokens_per_row=self.spec.tokens_per_row,
            cost=partial(self.cost_of_generator, synth),
            texts_seed=seed_of_texts(synth.seed, seed),
        )
        rows = self.graph.keep(rows)
        self.plan.counts[title] = rows
        return rows

    def bytes_of(self, rows: float) -> int:
        """Bytes of so many rows in the store."""
        return int(BYTES_PER_TOKEN * self.spec.tokens_per_row * rows)

    def cost_of_generator(self, synth: SynthSettings, tokens: float, trains: bool) -> Cost:
        """What a generator takes to learn tokens, or to write them: as long, for want of a better guess."""
        cost = self.graph.cost_of(synth.model, tokens, training=True, written=not trains)
        return self.graph.storing(cost, synth.model, synth.training, merged=False) if trains else cost

    def drawn(
        self,
        parts: list[dict[str, Any]],
        *,
        seed: int,
        order: int,
        balance: bool,
        noise: float | None,
        label: str,
        start: str = "",
        quality: Step | None = None,
    ) -> Step:
        """The rows of an arm or start for one seed; `order` is the seed that draws them from their pools. The share of labels
        flipped is `noise`, or what the step `quality` estimates."""
        inputs: dict[str, Step | Source] = {}
        for number, part in enumerate(parts):
            if part["name"] == START_ROWS:
                if not self.spec.starts[start].rows:
                    detail = f"start {start} is the base model"
                    raise UserError(
                        "An arm of the start's own rows needs a start with rows.", detail, "leave this start out"
                    )
                inputs[f"part{number}"], part["file"] = self.start_rows(start, seed)[0], "rows.jsonl"
            else:
                inputs[f"part{number}"], part["file"] = self.data(part["name"], seed)
        if quality is not None:
            inputs["quality"] = quality
        config = {"parts": parts, "labels": list(self.spec.labels), "seed": order, "balance": balance, "noise": noise}
        count = sum(self.rows_in(part["name"]) if part["rows"] == "all" else part["rows"] for part in parts)
        cost = Cost(seconds=1, rows=self.bytes_of(count))
        return self.graph.keep(Step(ARM, config, inputs, label=label, cost=cost))

    def start_rows(self, name: str, seed: int) -> tuple[Step, int]:
        """The rows that a start is trained on for one seed, and how many they are."""
        spec, seed = self.spec.starts[name], self.spec.seed_of_start(name, seed)
        parts = [{"name": used, "rows": count, "bias": None} for used, count in spec.rows.items()]
        count = sum(self.rows_in(used) if n == "all" else n for used, n in spec.rows.items())
        order = seed if self.spec.pools_vary else 0
        label = f"start {name}: rows{f', seed {seed}' if self.rows_vary else ''}"
        return self.drawn(parts, seed=seed, order=order, balance=False, noise=None, label=label), count

    @property
    def rows_vary(self) -> bool:
        """Does each seed have rows of its own to draw from?"""
        return self.spec.pools_vary or self.spec.texts_vary

    def arm_rows(self, name: str, size: int, seed: int, start: str, quality: Step | None = None) -> tuple[Step, int]:
        """An arm's rows of one size and seed, and how many they are; `quality` estimates its noise, where a judge does."""
        arm = self.spec.all_arms()[name]
        counts = arm.counts(size)
        parts = []
        for used, count in counts.items():
            bias = arm.bias if arm.bias and arm.bias_on in (None, used) else None
            parts.append({"name": used, "rows": count, "bias": bias.as_config() if bias else None})
        order = seed if self.spec.arm_rows_vary else 0
        label = f"arm {name}, {size} rows, seed {seed if self.rows_vary else order}: draw"
        noise = None if isinstance(arm.noise, str) else arm.noise
        rows = self.drawn(
            parts, seed=seed, order=order, balance=True, noise=noise, label=label, start=start, quality=quality
        )
        self.plan.rows.setdefault(arm_title(name, size), (rows, "rows.jsonl"))
        return rows, sum(counts.values())


def seed_of_texts(seed: int, study_seed: int) -> int:
    """The seed that samples a generator's texts for one seed of the study: its own for 0, else another for each."""
    return seed if study_seed == 0 else int(np.random.SeedSequence([seed, study_seed]).generate_state(1)[0])
