"""Give me synthetic data from this model, with known provenance: train or show, sample, parse, select.

A study's synth sources and `pyrite synth` are the same steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from pyrite.config_base import DistinctConfig, from_yaml, yaml_text
from pyrite.errors import UserError
from pyrite.io import file_hash, is_hub, path_in
from pyrite.io.copies import is_within, named_by_url
from pyrite.io.sources import parse_source
from pyrite.models import hardware, load
from pyrite.models.load import WEIGHTS, portable_name
from pyrite.models.quantised import refuse_quantised
from pyrite.outputs import takes_urls
from pyrite.steps import Cost, Progress, RunOptions, Source, Step, closure, open_store, run_steps
from pyrite.steps.shard import Shard, ShardDone, shard_of, steps_left
from pyrite.synth.config import SynthConfig
from pyrite.synth.rows import PARSE, READ
from pyrite.synth.sample import JOIN, PART, SAMPLE, sampling_batches
from pyrite.synth.settings import BiasSettings, SynthSettings
from pyrite.train.causal import TRAIN_GENERATOR


@dataclass(frozen=True, slots=True)
class ExampleRows:
    """The rows that a generator is trained on or shown: the step that makes them, its file, how many they are."""

    step: Step
    file: str
    rows: int


def no_cost(tokens: float, training: bool) -> Cost:
    """For callers that do not plan."""
    return Cost(int(tokens), 0.0, 0)


def synth_steps(
    name: str,
    synth: SynthSettings,
    *,
    base: Source,
    examples: ExampleRows,
    labels: list[str],
    fields: list[str],
    compute: hardware.Compute,
    tokens_per_row: int = 40,
    cost: Callable[[float, bool], Cost] = no_cost,
    texts_seed: int | None = None,
    part_texts: int | None = None,
) -> Step:
    """The step that ends in a generator's rows, standing on those that train it, sample it and parse its texts;
    `texts_seed` is the seed of the sampling where that is another than the training's; `cost` says what so many tokens take
    that are learned (True) or written (False). With `part_texts`, texts are sampled about so many to a step; they are the
    same."""
    texts = sum(synth.raw_per_label(labels).values())
    common = {"labels": labels, "fields": fields, "compute": compute.as_config(), "rows_file": examples.file}
    inputs: dict[str, Step | Source] = {"base": base}
    if synth.mode == "finetuned":
        inputs["generator"] = Step(
            TRAIN_GENERATOR,
            {
                **common,
                "settings": synth.training.model_dump(mode="json"),
                "seed": synth.seed,
                "base_name": synth.model,
            },
            {"base": base, "rows": examples.step},
            label=f"{name}: train the generator",
            cost=cost(examples.rows * synth.training.epochs * (tokens_per_row + 20), True),
            weights=WEIGHTS,
        )
    else:
        inputs["rows"] = examples.step
    sampling = synth.model_dump(mode="json", exclude={"select", "training"})
    sampling["training"] = {"method": synth.training.method}
    sampling["model"] = portable_name(synth.model, base)
    sampling["seed"] = synth.seed if texts_seed is None else texts_seed
    raw = Step(
        SAMPLE,
        {**common, "synth": sampling, "model_identity": base.identity},
        inputs,
        label=f"{name}: sample {texts} texts",
        cost=cost(texts * tokens_per_row, False),
    )
    if part_texts is not None:
        raw = divided_sampling(raw, len(sampling_batches(synth, labels)), max(1, part_texts // synth.together))
    selecting = {"model": sampling["model"], "raw": 1, "select": synth.select.model_dump(mode="json")}
    config = {"labels": labels, "fields": fields, "synth": selecting}
    return Step(PARSE, config, {"raw": raw}, label=f"{name}: parse and select", cost=Cost(seconds=5))


def divided_sampling(raw: Step, batches: int, each: int) -> Step:
    """The sampling of so many batches as steps of `each` batches, and one that joins their texts; the step itself where that
    would be one."""
    count = -(-batches // each)
    if count == 1:
        return raw
    parts = {
        f"{PART}{at}": Step(
            SAMPLE,
            {**raw.config, "batches": [at * each, min(batches, (at + 1) * each)]},
            raw.inputs,
            label=f"{raw.label}, part {at + 1} of {count}",
            cost=Cost(raw.cost.tokens // count, raw.cost.seconds / count, raw.cost.bytes // count),
        )
        for at in range(count)
    }
    return Step(JOIN, {"parts": count}, parts, label=f"{raw.label}: join")


PART_TEXTS = 4000
"""About so many texts are sampled by one step of `pyrite synth`: minutes of work beside seconds of loading the generator."""


class Recipe(DistinctConfig):
    """A YAML file for `pyrite synth`."""

    labels: tuple[str, ...] = Field(min_length=2, description="labels to write examples of")
    fields: tuple[str, ...] = Field(("premise", "hypothesis"), min_length=1, description="text columns, in order")
    rows: str = Field(description="labelled file that the generator is trained on or shown, relative to the recipe")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    use: int | None = Field(None, ge=1, description="use only the first so many rows")
    synth: SynthSettings = Field(description="generator, sampling, selection")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    bias: BiasSettings | None = Field(
        None, description="drop rows that disagree with a heuristic, each with probability strength"
    )

    @model_validator(mode="after")
    def _labels(self) -> "Recipe":
        if self.bias and self.bias.label not in self.labels:
            raise ValueError(f"bias: the labels are {', '.join(self.labels)}, not '{self.bias.label}'")
        if self.bias and not self.bias.fits(self.fields):
            raise ValueError(f"bias: {self.bias.heuristic} compares two fields, there is {self.fields[0]}")
        return self


@dataclass(frozen=True)
class Synthetic:
    """What was written: the file, the counts, and how many rows the bias left."""

    out: Path
    rows: int
    counts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"schema_version": 1, "out": named_by_url(str(self.out)), "rows": self.rows, "counts": self.counts}


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe."""
    if not path.is_file():
        raise UserError("That recipe is not there.", str(path), "give a YAML file with labels, rows and synth")
    text = yaml_text(path, "recipe")
    return from_yaml(Recipe, text, str(path), what="recipe", see=f"keys: {', '.join(Recipe.model_fields)}")


@takes_urls(ins=("recipe",), outs=("out",))
def synth(config: SynthConfig) -> "Synthetic | ShardDone":
    """Write synthetic rows with their provenance (model, prompt, seed, mean log-probability, time) to a file. With `shard`, sample
    one part of the texts; the job that finds all of them sampled writes the rows.

    Raises:
        UserError: a mistake in the recipe, absent rows or model, or no row left after selection.
    """
    shard = shard_of(config.shard)
    return write_synthetic(config) if shard is None else sample_shard(config, shard)


def sample_shard(config: SynthConfig, shard: Shard) -> "Synthetic | ShardDone":
    """Sample one part of the texts; where all are sampled, write the rows."""
    planned = plan_recipe(config)
    sampling = [step for step in closure([planned.target]) if step.kind is SAMPLE]
    store = open_store(config.store)
    run_steps(shard.of(sampling), store, run_options(config), Progress(quiet=config.quiet))
    with store.lock(f"synth-{planned.target.key}"):
        left = steps_left(sampling, store)
        if left:
            return ShardDone(shard, "synth", config.recipe.stem, left)
        return write_synthetic(config)


@dataclass(frozen=True)
class PlannedRows:
    """A recipe as steps: those that read the rows to learn from, and that end in the synthetic ones."""

    recipe: Recipe
    rows: Step
    target: Step


def run_options(config: SynthConfig) -> RunOptions:
    """Where the steps run."""
    return RunOptions(engine=config.engine, threads=hardware.cluster_threads(config.engine))


def plan_recipe(config: SynthConfig) -> PlannedRows:
    """Check a recipe, and say which steps make its rows."""
    recipe = load_recipe(config.recipe)
    file = recipe.rows if recipe.rows.startswith("hf://") else path_in(config.recipe.parent, recipe.rows)
    fields, labels = list(recipe.fields), list(recipe.labels)
    reading = {
        "fields": fields,
        "labels": labels,
        "columns": recipe.columns,
        "label_map": recipe.label_map,
        "on_bad_row": recipe.on_bad_row,
        "duplicates": "drop_repeats",
        "layout": None if fields == ["premise", "hypothesis"] else "labelled",
        "first": recipe.use,
        "names": {"file0": f"{file}#{file_hash(file)}" if file.startswith("hf://") else ""},
    }
    for path in (str(config.recipe), file):
        if not is_hub(path) and is_within(config.out, parse_source(path).place):
            fix = "choose another: --out FILE"
            raise UserError("The rows would be written over what they are made from.", str(config.out), fix)
    rows = Step(READ, reading, {"file0": Source(file, file_hash(file))}, label="read the rows")
    base = load.resolve(recipe.synth.model)
    if recipe.synth.mode == "finetuned":
        refuse_quantised(base.folder)
    target = synth_steps(
        config.recipe.stem,
        recipe.synth,
        base=Source(str(base.folder), base.identity),
        examples=ExampleRows(rows, "rows.jsonl", 0),
        labels=labels,
        fields=fields,
        compute=hardware.choose(),
        part_texts=PART_TEXTS,
    )
    return PlannedRows(recipe, rows, target)


def write_synthetic(config: SynthConfig) -> Synthetic:
    """Run what is missing of a recipe, and write its rows.

    Raises:
        UserError: no row is left.
    """
    from pyrite.io import write_jsonl
    from pyrite.synth.select import agrees
    from pyrite.tasks.rows import read_rows

    planned = plan_recipe(config)
    recipe, store = planned.recipe, open_store(config.store)
    run_steps([planned.target], store, run_options(config), Progress(quiet=config.quiet))
    rows_written = read_rows(store.path(planned.target.key) / "rows.jsonl")
    counts = store.read_json(planned.target, "counts.json")
    counts["read_as"] = store.read_json(planned.rows, "read_as.json")["file0"]
    if recipe.bias:
        rng, bias = np.random.default_rng(recipe.synth.seed), recipe.bias
        biased = [row for row in rows_written if agrees(row, bias) or rng.random() >= bias.strength]
        counts["dropped"]["disagrees with the bias"] = len(rows_written) - len(biased)
        counts["kept"], rows_written = len(biased), biased
    if not rows_written:
        raise UserError("No synthetic row is left.", f"{counts}", "sample more texts, or select less strictly")
    write_jsonl(rows_written, config.out)
    return Synthetic(config.out, len(rows_written), counts)
