"""The rows of a study as steps: labelled rows read, divided, written and drawn; chats divided, mixed and drawn.

Rows that a study lets vary (`pools_vary`, `texts_vary`) are those of a seed; seed 0 has the rows that all seeds share
where they do not vary, and probes and judges always read those.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.hardware import FLOPS, Compute
from pyrite.models.quantised import refuse_quantised
from pyrite.steps import Cost, Source, Step
from pyrite.study.cells import Plan
from pyrite.study.chat_steps import DRAW_CHATS, MIX
from pyrite.study.labelled_steps import ARM, GRAMMAR, POOLS, QUALITY
from pyrite.study.labelled_uses import HELD_OUT, pools_held_out, pools_kept, rows_of_judge
from pyrite.study.row_files import arm_title
from pyrite.study.spec import StudySpec, data_path
from pyrite.study.spec_data import DataSpec, as_pool
from pyrite.study.spec_steps import START_ROWS, TrainingStep
from pyrite.synth.rows import READ
from pyrite.synth.run import ExampleRows, synth_steps
from pyrite.train.split import SPLIT

MATMUL_PARAMETERS = {"packaged:minilm-l6": 10.7e6, "packaged:smollm2-135m-instruct": 135e6}
CHAT_TOKENS = 200
"""For plans: tokens in a chat where the file does not say."""


class RowPlanner(ABC):
    """Every method returns the step that makes what it is named after, and where needed the file that holds it.

    `lenient`: a plan only, made also where files and models are absent (they are listed in the plan).
    """

    def __init__(
        self, spec: StudySpec, data_folder: Path | None, compute: Compute, plan: Plan, *, lenient: bool
    ) -> None:
        self.spec, self.compute, self.plan = spec, compute, plan
        self.folder, self.lenient = data_folder, lenient
        self.steps: dict[str, Step] = {}
        self.base = self.model(spec.given.model)

    @abstractmethod
    def start(self, name: str, seed: int) -> Step | None:
        """A start's model for one seed."""

    @abstractmethod
    def reading(self, seed: int) -> dict[str, Any]:
        """How a classifier is asked, for the steps that ask it."""

    def miss(self, what: str) -> None:
        """Note something that a plan names and this machine does not have."""
        if what not in self.plan.absent:
            self.plan.absent.append(what)

    def keep(self, step: Step) -> Step:
        """Steps with the same key are the same object."""
        return self.steps.setdefault(step.key, step)

    def file(self, name: str) -> Source:
        """A data file as an input.

        Raises:
            UserError: it is not there, and this is not only a plan.
        """
        from pyrite.io import file_hash
        from pyrite.io.hub import cached_commit

        path = data_path(name, self.folder)
        try:
            identity = cached_commit(path) if self.lenient and path.startswith("hf://") else file_hash(path)
        except UserError:
            if not self.lenient:
                raise
            identity = None
        if identity is None:
            self.miss(f"data {path}")
        return Source(path, identity or f"absent:{name}")

    def model(self, name: str, *, trains: bool = True) -> Source:
        """A model as an input; one that is trained further is not quantised."""
        if not self.lenient:
            resolved = load.resolve(name)
            if trains:
                refuse_quantised(resolved.folder)
            return Source(str(resolved.folder), resolved.identity)
        identity = load.identity_without_files(name)
        is_local = Path(name).expanduser().is_dir() or (
            name.startswith(packaged.PREFIX) and packaged.is_fetched(name.removeprefix(packaged.PREFIX))
        )
        if not is_local and (not load.is_hub_name(name) or identity.startswith("absent:")):
            self.miss(f"model {name}")
        return Source(name, identity)

    def weights_of(self, model: str) -> float:
        """How many weights a model has, as far as a plan can know."""
        stated = self.spec.given.parameters if model == self.spec.given.model else None
        return stated or MATMUL_PARAMETERS.get(model) or parameters_in_name(model) or 1e8

    def cost(self, flops: float, tokens: float, *, share: float = 1.0, keeps: float = 0.0) -> Cost:
        """So many FLOPs at a share of this machine's rate."""
        rate = FLOPS.get((self.compute.device, self.compute.precision), 1e11)
        return Cost(int(tokens), 2.0 + flops / rate / share, int(keeps))

    def cost_of(self, model: str, tokens: float, *, training: bool, keeps: float = 0) -> Cost:
        """Six FLOPs for each weight and token in training, two in reading."""
        return self.cost((6 if training else 2) * self.weights_of(model) * tokens, tokens, keeps=keeps)

    # labelled rows

    def source(self, name: str, seed: int = 0) -> Step:
        """All rows of a source, for one seed."""
        spec = self.spec.data[name]
        if spec.synth:
            return self.synthetic(name, spec, seed if self.spec.texts_vary else 0)
        if spec.grammar:
            written = {"grammar": spec.grammar.as_config(), "fields": list(self.spec.fields)}
            step = self.keep(Step(GRAMMAR, written, label=f"{name}: write rows by grammar", cost=Cost(seconds=2)))
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
            }
            inputs = {f"file{number}": self.file(file) for number, file in enumerate(spec.files)}
            config["names"] = {key: pinned(source) for key, source in inputs.items()}
            step = self.keep(Step(READ, config, inputs, label=f"{name}: read and clean", cost=Cost(seconds=5)))
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
        return self.keep(Step(POOLS, config, {"rows": step}, label=label, cost=Cost(seconds=2))), f"{pool}.jsonl"

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
        """A generator's rows: train it (or show it rows), sample, parse, drop duplicates, judge the labels."""
        synth = spec.synth
        assert synth is not None
        assert spec.train_on is not None
        step, file = self.data(spec.train_on, seed)
        is_first = seed == (self.spec.seeds[0] if self.spec.texts_vary else 0)
        title = name if is_first else f"{name}, seed {seed}"
        rows = synth_steps(
            title,
            synth,
            base=self.model(synth.model, trains=synth.mode == "finetuned"),
            examples=ExampleRows(step, file, self.rows_in(spec.train_on)),
            labels=list(self.spec.labels),
            fields=list(self.spec.fields),
            compute=self.compute,
            tokens_per_row=self.spec.tokens_per_row,
            cost=lambda tokens, training: self.cost_of(synth.model, tokens, training=training),
            texts_seed=seed_of_texts(synth.seed, seed),
        )
        rows = self.keep(rows)
        self.plan.counts[title] = rows
        if spec.judge and is_first and name not in self.plan.quality:
            self.plan.quality[name] = self.judged(name, rows)
        return rows

    def judged(self, name: str, rows: Step) -> Step:
        """How good the labels of a generator's rows are."""
        spec = self.spec.data[name]
        quality = self.plan.quality.get(name)
        if quality is not None and quality.inputs["rows"] is rows:
            return quality
        assert spec.synth is not None
        assert spec.judge is not None
        judge = self.start(spec.judge, self.spec.seeds[0])
        held, held_file = self.held_out(spec.train_on)
        config = {**self.reading(self.spec.seeds[0]), "human_file": held_file}
        inputs: dict[str, Step | Source] = {"base": self.base, "rows": rows, "human": held}
        if judge is not None:
            inputs["model"] = judge
        texts = sum(spec.synth.raw_per_label(list(self.spec.labels)).values())
        cost = self.cost_of(self.spec.given.model, texts * self.spec.tokens_per_row, training=False)
        label = f"{rows.label.partition(':')[0]}: judge the labels"
        return self.keep(Step(QUALITY, config, inputs, label=label, cost=cost))

    def held_out(self, train_on: str | None) -> tuple[Step, str]:
        """The rows that a judge is tried on (`rows_of_judge`).

        Raises:
            UserError: there are none.
        """
        name = rows_of_judge(self.spec, train_on)
        if name is None:
            fix = "add one to the human source's pools"
            raise UserError("A judge needs held-out human rows.", "no pool named validation", fix)
        return self.data(name)

    def drawn(
        self,
        parts: list[dict[str, Any]],
        *,
        seed: int,
        order: int,
        balance: bool,
        noise: float | str | None,
        label: str,
        start: str = "",
    ) -> Step:
        """The rows of an arm or start for one seed; `order` is the seed that draws them from their pools."""
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
        if isinstance(noise, str):
            inputs["quality"] = self.judged(noise, self.source(noise, seed))
            noise = None
        config = {"parts": parts, "labels": list(self.spec.labels), "seed": order, "balance": balance, "noise": noise}
        return self.keep(Step(ARM, config, inputs, label=label, cost=Cost(seconds=1)))

    def seed_of(self, start: str, seed: int) -> int:
        """The seed of a start's model where the study's is `seed`: the first of all where there is one model for all."""
        return self.spec.seeds[0] if self.spec.starts[start].seeds == "one" else seed

    def start_rows(self, name: str, seed: int) -> tuple[Step, int]:
        """The rows that a start is trained on for one seed, and how many they are."""
        spec, seed = self.spec.starts[name], self.seed_of(name, seed)
        parts = [{"name": used, "rows": count, "bias": None} for used, count in spec.rows.items()]
        count = sum(self.rows_in(used) if n == "all" else n for used, n in spec.rows.items())
        order = seed if self.spec.pools_vary else 0
        label = f"start {name}: rows{f', seed {seed}' if self.rows_vary else ''}"
        return self.drawn(parts, seed=seed, order=order, balance=False, noise=None, label=label), count

    @property
    def rows_vary(self) -> bool:
        """Does each seed have rows of its own to draw from?"""
        return self.spec.pools_vary or self.spec.texts_vary

    def arm_rows(self, name: str, size: int, seed: int, start: str) -> tuple[Step, int]:
        """An arm's rows of one size and seed, and how many they are."""
        arm = self.spec.all_arms()[name]
        counts = arm.counts(size)
        parts = []
        for used, count in counts.items():
            bias = arm.bias if arm.bias and arm.bias_on in (None, used) else None
            parts.append({"name": used, "rows": count, "bias": bias.as_config() if bias else None})
        order = seed if self.spec.arm_rows_vary else 0
        label = f"arm {name}, {size} rows, seed {seed if self.rows_vary else order}: draw"
        rows = self.drawn(parts, seed=seed, order=order, balance=True, noise=arm.noise, label=label, start=start)
        self.plan.rows.setdefault(arm_title(name, size), (rows, "rows.jsonl"))
        return rows, sum(counts.values())

    # chats

    def split_chats(self, name: str) -> Step:
        """A source divided into its pools."""
        source = self.spec.data[name]
        inputs: dict[str, Step | Source] = {}
        names = {}
        for number, file in enumerate(source.files):
            identity = self.file(file)
            inputs[f"file{number}"], names[f"file{number}"] = identity, pinned(identity) or Path(file).name
        config: dict[str, Any] = {
            "names": names,
            "columns": source.columns,
            "on_bad_row": source.on_bad_row,
            "duplicates": "keep" if source.duplicates == "keep" else "drop",
        }
        config |= {"pools": dict(source.pools), "seed": 0}
        config |= {"group": source.group} if source.group is not None else {}
        step = self.keep(Step(SPLIT, config, inputs, label=f"{name}: divide into pools", cost=Cost(seconds=2)))
        self.plan.counts[name] = step
        return step

    def chats(self, name: str) -> tuple[Step, str]:
        """The step and file that hold the chats of a pool."""
        resolved = self.spec.rows(name, self.plan.damage)
        source, _, pool = resolved.partition(".")
        return self.plan.pools.setdefault(resolved, (self.split_chats(source), f"{pool}.jsonl"))

    def tokens_of(self, name: str) -> tuple[int, int]:
        """How many rows a plan expects in a pool, and tokens in each."""
        source, _, pool = self.spec.rows(name, self.plan.damage).partition(".")
        pools, expected = self.spec.data[source].chat_pools, self.spec.data[source].expected_rows
        sized = sum(rows for rows in pools.values() if isinstance(rows, int))
        rows = pools[pool]
        count = rows if isinstance(rows, int) else max(1, (expected or sized + 1000) - sized)
        return count, self.spec.data[source].tokens_per_row or CHAT_TOKENS

    def mixed(self, training: TrainingStep) -> tuple[Step, str, float]:
        """The rows of a training, and how many tokens they should have."""
        if isinstance(training.on, str):
            rows, each = self.tokens_of(training.on)
            return (*self.chats(training.on), min(rows, training.first or rows) * each)
        shares = {self.spec.rows(name, self.plan.damage): share for name, share in training.on.items()}
        inputs: dict[str, Step | Source] = {f"part{at}": self.chats(name)[0] for at, name in enumerate(shares)}
        config = {"shares": shares, "trains": training.trains, "seed": 0}
        label = "mix " + " + ".join(f"{share:g} {name}" for name, share in shares.items())
        step = self.keep(Step(MIX, config, inputs, label=label, cost=Cost(seconds=5)))
        self.plan.counts[label] = step
        sizes = {name: self.tokens_of(name) for name in shares}
        tokens = min(rows * each / shares[name] for name, (rows, each) in sizes.items())
        mean = 1 / sum(share / sizes[name][1] for name, share in shares.items())
        return step, "rows.jsonl", min(tokens, (training.first or tokens) * mean)

    def drawn_chats(self, parts: list[dict[str, Any]], seed: int, label: str) -> Step:
        """So many chats of each part (a pool, or its first rows), drawn by a seed."""
        inputs: dict[str, Step | Source] = {f"part{at}": self.chats(part["name"])[0] for at, part in enumerate(parts)}
        step = self.keep(Step(DRAW_CHATS, {"parts": parts, "seed": seed}, inputs, label=label, cost=Cost(seconds=2)))
        self.plan.counts[label] = step
        return step


def pinned(source: Source) -> str:
    """How a step opens a data set on the hub: its name and commit; nothing for a file, which is opened by its path."""
    return f"{source.path}#{source.identity}" if source.path.startswith("hf://") else ""


def seed_of_texts(seed: int, study_seed: int) -> int:
    """The seed that samples a generator's texts for one seed of the study: its own for 0, else another for each."""
    return seed if study_seed == 0 else int(np.random.SeedSequence([seed, study_seed]).generate_state(1)[0])


def parameters_in_name(name: str) -> float | None:
    """The size that a model's name states: 7e9 for 'Llama-2-7b-hf'."""
    import re

    match = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", name)
    return float(match[1]) * {"b": 1e9, "m": 1e6}[match[2].lower()] if match else None
