"""What a study file says: models, data, steps, cells, probes, contrasts. Validated, with line numbers.

A study is named *cells*: ordered steps (train, repair, merge, quantise) from a model, with probes after any of them.
`starts` × `arms` × `sizes` (× `synthetic_share`) is a way of writing cells. With `labels`, starts and arms train a
classifier; without, they train a language model on chats.

Names of rows are dotted: `human` is a whole source, `human.start` one of its pools. Three words stand for rows that
depend on the cell: `start` (in an arm's mix: the start's own rows again), `trained` (in a repair: the rows of the cell's
last training) and `damage` (those of the training that the file chooses under `damage`; `damage.POOL` is a pool of the
same data).
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from pyrite.config_base import ConfigBase, from_yaml, refuse
from pyrite.errors import UserError
from pyrite.models.hardware import PrecisionChoice
from pyrite.probe.config import ProbeConfig
from pyrite.repair.settings import RepairSettings
from pyrite.synth.settings import BiasSettings, SynthSettings
from pyrite.train.settings import ClassifierSettings, TrainSettings

START_ROWS = "start"
"""In an arm's mix: the rows that the start itself was trained on. As a contrast's other side: the start's model."""
TRAINED = "trained"
"""In a repair: the rows of the last training of the cell."""
DAMAGE = "damage"
"""As a step of a cell, the training that the file chooses; as rows, those that it is trained on."""
GAP = "gap"
"""In a contrast, in the place of a probe: how much further the blind spot fell than the general task."""
PILOT_SEED = 100_000
"""The seed with which a pilot trains unless its file names another: far above those that studies and `--seeds` take."""
LABEL_TASKS = ("nli", "hans", "labelled")
TEXT_TASKS = ("ifeval", "followbench", "mt_bench", "gsm8k", "perplexity")
HARNESS = "harness:"
DOTTED = r"^[^.]+\.[^.]+$"
"""PROBE.METRIC."""
OWN_OPTIONS = ("task", "columns", "label_map", "on_bad_row", "items", "skip", "seed", "max_tokens", "max_new_tokens",
               "part", "margin")  # fmt: skip
"""Options of `pyrite probe` that a probe has as keys of its own; any other goes under `options`."""
NOT_IN_STUDIES = ("model", "other", "predictions", "labels", "backend", "base_url", "export", "gate", "undecided",
                  "max_time", "store", "quiet", "precision")  # fmt: skip


class TaskModelSpec(ConfigBase):
    """The model that is trained and probed."""

    model: str = Field(description="packaged:NAME, a folder, or org/name[@revision] on the hub")
    reads: Literal["auto", "pair", "prompt"] = Field(
        "auto", description="labelled rows as two segments (encoders) or as a prompt (decoders)"
    )
    precision: PrecisionChoice = Field("auto", description="auto: bf16-mixed where the hardware has it")
    parameters: float | None = Field(None, gt=0, description="number of weights, for plans made without the model")


class GrammarSpec(ConfigBase):
    """Rows written by one of our grammars."""

    name: Literal["heuristics", "general", "reviews"] = Field(
        description="HANS-like pairs, general NLI pairs, or short reviews (field text; positive, negative)"
    )
    rows: int = Field(ge=1, description="rows to write")
    seed: int = Field(0, ge=0, description="seed of the grammar")
    three_way: bool = Field(False, description="heuristics: neutral/contradiction instead of non-entailment")
    subcases: tuple[str, ...] | None = Field(None, description="heuristics: only these subcases")
    leave_out: tuple[str, ...] = Field((), description="heuristics: heuristics or subcases to leave out")
    overlap_entailment: float = Field(
        0.5, ge=0, le=1, description="general: share of entailment rows with full word overlap"
    )
    overlap_other: float = Field(0.0, ge=0, le=1, description="general: share of the other rows with full word overlap")
    negated: float = Field(
        0.3, ge=0, le=1, description="reviews: share of each label's rows that say what a thing was not"
    )
    style: Literal["people", "program"] = Field(
        "people", description="reviews: twenty shapes, or one that begins with a stock phrase"
    )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the grammar writes."""
        return ("text",) if self.name == "reviews" else ("premise", "hypothesis")

    def as_config(self) -> dict[str, Any]:
        """As plain values for a step: what the named grammar reads, so that further grammars change no step's key."""
        reviews = {"negated", "style"}
        if self.name == "reviews":
            return self.model_dump(mode="json", include={"name", "rows", "seed", *reviews})
        return self.model_dump(mode="json", exclude=reviews)


class PoolSpec(ConfigBase):
    """A part of a source."""

    rows: int | Literal["rest", "all"] = Field(
        description="rows in the pool; rest: what no other pool takes; all: every row. Pools are filled by name, rest last"
    )
    disjoint: bool = Field(
        True,
        description="false: draw from every row but those of disjoint pools that a probe or judge reads, or that are named test or validation",
    )
    balance: bool = Field(
        False, description="the same number of rows for every label; of rest and all, as many as of the rarest"
    )
    where: dict[str, str] = Field(
        default_factory=dict, description="only rows with these values in their columns; of a group, in all its rows"
    )
    shares_with: tuple[str, ...] = Field(
        (),
        description="pools of this source whose rows may be in this one too, though a probe or judge reads them: it is then asked what was trained on",
    )


def as_pool(value: int | Literal["rest"] | PoolSpec) -> PoolSpec:
    """A pool written as a number (or rest), or in full."""
    return value if isinstance(value, PoolSpec) else PoolSpec(rows=value)


class DataSpec(ConfigBase):
    """Where rows come from: files, a data set on the hub, a grammar, or a generator; and the pools that they are divided into."""

    holds: Literal["labelled", "chats"] | None = Field(
        None,
        description="labelled: text fields and a label; chats: conversations or plain text [labelled where the study has labels]",
    )
    files: tuple[str, ...] = Field((), description="files below --data, or hf://org/name[:config][@split]")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    duplicates: Literal["drop_all", "drop_repeats", "drop", "keep"] | None = Field(
        None,
        description="drop_all: every copy of a duplicated row (the paper); drop_repeats, the same as drop: all but the first [drop_repeats]",
    )
    grammar: GrammarSpec | None = Field(None, description="labelled rows written by a grammar")
    synth: SynthSettings | None = Field(None, description="labelled rows written by a generator")
    train_on: str | None = Field(None, description="synth: the data that the generator is trained on or shown")
    judge: str | None = Field(None, description="synth: the start whose model (first seed) judges the labels' quality")
    pools: dict[str, int | Literal["rest"] | PoolSpec] = Field(
        default_factory=dict, description="parts of this source that share no row; chats are used by pool only"
    )
    group: str | None = Field(
        None,
        description="rows with the same value here go to one pool: a field of the study, such as premise; of chats prompt (what stands before the first answer); or a column of the file",
    )
    expected_rows: int | None = Field(None, ge=1, description="rows after cleaning, for plans made without the data")
    tokens_per_row: int | None = Field(
        None, ge=1, description="for plans: tokens in a row [of chats 200, else the study's]"
    )

    @model_validator(mode="after")
    def _checked(self) -> "DataSpec":
        if sum([bool(self.files), self.grammar is not None, self.synth is not None]) != 1:
            raise ValueError("give exactly one of files, grammar, synth")
        if self.synth and self.train_on is None:
            raise ValueError("a synth source needs train_on: the data that its generator is trained on or shown")
        for name, pool in self.pools.items():
            if as_pool(pool).rows == "all" and as_pool(pool).disjoint:
                raise ValueError(f"pools.{name}: all rows cannot be disjoint from the other pools; say disjoint: false")
        if sum(as_pool(pool).rows == "rest" and as_pool(pool).disjoint for pool in self.pools.values()) > 1:
            raise ValueError("pools: only one can take the rest")
        if self.group is not None and not self.pools:
            raise ValueError("group keeps rows together in pools, and there are none: add pools, or leave group out")
        return self

    @property
    def chat_pools(self) -> "dict[str, int | Literal['rest']]":
        """The pools of a source of chats: so many rows, or the rest."""
        return {name: pool for name, pool in self.pools.items() if not isinstance(pool, PoolSpec)}


class StartSpec(ConfigBase):
    """A model before augmentation: trained on so many rows of each source; none at all is the model as given."""

    rows: dict[str, int | Literal["all"]] = Field(default_factory=dict, description="data: rows to train on")
    after: str | None = Field(None, description="train further from this start instead of from the model as given")
    seeds: Literal["each", "one"] = Field(
        "each",
        description="each: a model of its own for every seed; one: that of the first seed for all, so that the seeds differ in what follows only",
    )
    training: ClassifierSettings | None = Field(None, description="instead of the study's start training")

    @property
    def is_given(self) -> bool:
        """Is nothing trained here, so that the model as given (or the start before) is the start?"""
        return not self.rows or all(count == 0 for count in self.rows.values())


class ArmSpec(ConfigBase):
    """What a start is trained on further: a mix of data, a selection, label noise."""

    mix: dict[str, float] = Field(description="data: its share of the rows; 'start' is the start's own rows again")
    combine: Literal["replace", "add"] = Field(
        "replace",
        description="replace: the shares divide the size among them; add: every share is on top of the others, in parts of the size",
    )
    bias: BiasSettings | None = Field(None, description="filter rows to agree with a heuristic")
    bias_on: str | None = Field(None, description="filter only this data of the mix")
    noise: Annotated[float, Field(ge=0, lt=1)] | str | None = Field(
        None, description="share of labels flipped at random, or a synth source: its estimated error rate"
    )

    @model_validator(mode="after")
    def _shares(self) -> "ArmSpec":
        if any(share < 0 for share in self.mix.values()) or not sum(self.mix.values()) > 0:
            raise ValueError("shares are 0 or more, and not all 0")
        if self.combine == "replace" and abs(sum(self.mix.values()) - 1) > 1e-6:
            raise ValueError(f"with combine: replace the shares add up to 1, these to {sum(self.mix.values()):g}")
        return self


class ShareAxis(ConfigBase):
    """Arms along an axis: from only human to only synthetic."""

    shares: tuple[float, ...] = Field(description="synthetic share of each arm, 0 to 1")
    human: str = Field(description="the human data")
    synthetic: str = Field(description="the synthetic data")
    combine: Literal["replace", "add"] = Field("replace", description="see arms")


class TrainingStep(ConfigBase):
    """A step that trains a language model further: on chats (loss on answers) or on plain text (loss on every token)."""

    trains: Literal["chat", "text"] = Field("chat", description="chat: loss on the answers; text: on all tokens")
    on: str | dict[str, float] = Field(
        description="rows, as DATA.POOL; or several with their shares of the text (in characters), no row used twice"
    )
    first: int | None = Field(None, ge=1, description="only the first so many rows")
    settings: TrainSettings = Field(default_factory=TrainSettings, description="how the weights move")
    pack_tokens: int = Field(0, ge=0, description="tokens in one forward pass; 0: by the device")

    @model_validator(mode="after")
    def _shares(self) -> "TrainingStep":
        if isinstance(self.on, dict) and (
            any(share <= 0 for share in self.on.values()) or abs(sum(self.on.values()) - 1) > 1e-6
        ):
            raise ValueError(f"on: shares are above 0 and add up to 1, these to {sum(self.on.values()):g}")
        return self

    def pools(self) -> tuple[str, ...]:
        """The rows that are read."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)


class RepairStep(ConfigBase):
    """A step that unlearns: what is unlearned, what is replayed, and the rows of its guard. Labelled rows for a classifier,
    chats for a language model."""

    forget: str | None = Field(
        None,
        description="rows to unlearn [damage, where the study names one; else trained: those of the cell's last training]",
    )
    replay: str = Field(description="rows to keep up")
    guard_forget: str | None = Field(
        None, description="the guard's own rows of the one sort; not needed without a guard"
    )
    guard_replay: str | None = Field(None, description="the guard's own rows of the other")
    before: str | None = Field(
        None,
        description="the cell whose model of the same seed is the one before, for kl_to: before and self_replay [the model as given; of a classifier, the cell's start]",
    )
    self_replay: bool = Field(
        False,
        description="replay rows (and the guard's) keep their prompts; the model before answers them, sampled once",
    )
    self_tokens: int = Field(256, ge=8, description="self_replay: answers that do not end within so many are dropped")
    self_temperature: float = Field(1.0, ge=0, description="self_replay: the temperature at which they are sampled")
    settings: RepairSettings = Field(default_factory=RepairSettings, description="see pyrite repair")

    @model_validator(mode="after")
    def _guarded(self) -> "RepairStep":
        guard = (self.guard_forget, self.guard_replay)
        if self.settings.guard.every_tokens and None in guard:
            raise ValueError(
                "a guard has rows of its own: guard_forget and guard_replay, or settings: {guard: {every_tokens: 0}}"
            )
        if (self.guard_forget is None) != (self.guard_replay is None):
            raise ValueError("give both guard_forget and guard_replay, or neither")
        return self

    def pools(self) -> dict[str, str]:
        """The rows that are read, by their role; `forget` as the study resolves it is not among them where it is not written."""
        roles = {role: getattr(self, role) for role in ("forget", "replay", "guard_forget", "guard_replay")}
        return {role: name for role, name in roles.items() if name is not None}


class MergeStep(ConfigBase):
    """A step that mixes a model with the one before: before + alpha * (model - before), weight by weight (arXiv 2109.01903)."""

    alpha: float = Field(ge=0, le=1, description="0: the model before; 1: the model that the step is given")
    before: str | None = Field(
        None,
        description="the cell whose model of the same seed is the one before [the model as given; of a classifier, the cell's start]",
    )
    groups: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="alpha of the weights whose names fit a pattern, such as '*layers.0.*': 0.2"
    )


class CellSpec(ConfigBase):
    """One path written out: where it begins, and the steps that follow. `NAME: [steps]` is short for a cell without a start."""

    name: str = Field(description="its name in the tables, in the place of an arm's")
    start: str | None = Field(None, description="the start where it begins [the model as given]")
    steps: tuple[str, ...] = Field(
        (), description="arms, trainings, repairs, merges and roundings, in order; none is the model itself"
    )
    size: int = Field(0, ge=0, description="rows of each arm among its steps")


class ProbeSpec(ConfigBase):
    """What models are asked, and which part of it is the number that contrasts look at."""

    task: str = Field(
        description="of labels: nli, hans, labelled; of language models also ifeval, followbench, mt_bench, gsm8k, perplexity, harness:TASK"
    )
    data: str | None = Field(None, description="a source or pool of this study, in the place of a file")
    file: str | None = Field(
        None,
        description="the task's file below --data, or a bundled grammar: grammar:heuristics, grammar:negation, grammar:reviews",
    )
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    merge: dict[str, str] | None = Field(None, description="labelled: model label → gold label, where they differ")
    slices: tuple[tuple[str, ...], ...] = Field((), description="labelled: columns (or 'gold') to score apart")
    template: str | None = Field(None, description="labelled: the column that says which items are alike")
    items: int | None = Field(
        None, ge=1, description="at most so many items, drawn by the seed; of labels, balanced over the slices"
    )
    in_full: dict[str, str] = Field(
        default_factory=dict, description="of labels: items with these values are all taken"
    )
    headline: dict[str, str] | Literal["overall"] | None = Field(
        None,
        validate_default=True,
        description="the slice that contrasts look at, or overall; by default of hans its non-entailment, judged for each heuristic, and of other tasks overall",
    )
    seed: int = Field(0, ge=0, description="seed of the choice of items")
    grammar_rows: int = Field(3000, ge=30, description="items that a grammar writes")
    skip: int = Field(0, ge=0, description="leave out the first so many of the seeded order: a pilot's")
    max_tokens: int = Field(512, ge=8, description="perplexity: rows are read in pieces of this size")
    max_new_tokens: int | None = Field(None, ge=1, description="answers are cut here [the task's standard]")
    part: Literal["answers", "all"] | None = Field(None, description="perplexity: of answers, or of everything")
    metrics: tuple[str, ...] = Field((), description="the metrics that are shown [all]")
    only_cells: tuple[str, ...] | None = Field(None, description="only these cells (or arms) are asked")
    options: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="further options of pyrite probe, such as num_fewshot: 5"
    )

    @field_validator("headline", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        if value is None or value == "overall" or isinstance(value, Mapping):
            return value
        raise ValueError(
            f"a headline is columns and their values, such as {{gold: non-entailment}}, or overall; not {value!r}"
        )

    @field_validator("headline")
    @classmethod
    def _resolved(cls, value: Any, info: ValidationInfo) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        from pyrite.tasks import TASKS

        task = TASKS.get(info.data.get("task", ""))
        return {} if value == "overall" or task is None else dict(task.headline)

    @model_validator(mode="after")
    def _fits(self) -> "ProbeSpec":
        known = (*LABEL_TASKS, *TEXT_TASKS)
        if self.task not in known and not self.task.startswith(HARNESS):
            near = difflib.get_close_matches(self.task, known, 1)
            hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}, {HARNESS}TASK"
            raise ValueError(f"there is no task '{self.task}'{hint}")
        if self.task.startswith(HARNESS) and (self.file or self.data):
            raise ValueError(f"{self.task} has items of its own: leave out file and data")
        if not self.task.startswith(HARNESS) and (self.file is None) == (self.data is None):
            raise ValueError("give data or file")
        of_labels = {"label_map", "merge", "slices", "template", "in_full", "headline", "grammar_rows"}
        of_text = {"skip", "max_tokens", "max_new_tokens", "part", "options"}
        strange = sorted(name for name in (of_text if self.names_labels else of_labels) if self.says(name))
        if strange:
            raise ValueError(f"{strange[0]} means nothing for the task {self.task}: leave it out")
        if not self.names_labels and self.data and self.task != "perplexity":
            raise ValueError(f"data: only perplexity reads a pool, {self.task} reads a file")
        clash = [name for name in self.options if name in OWN_OPTIONS or name in NOT_IN_STUDIES]
        if clash:
            raise ValueError(f"options.{clash[0]} is a key of the probe or of the study itself")
        if not self.names_labels:
            self.config(None)
        return self

    def says(self, name: str) -> bool:
        """Has this key another value than its default?"""
        value = getattr(self, name)
        default = type(self).model_fields[name].get_default(call_default_factory=True, validated_data={})
        return bool(value != default and not (name == "headline" and value == {}))

    @property
    def names_labels(self) -> bool:
        """Are the answers labels?"""
        return self.task in LABEL_TASKS

    @property
    def headline_slice(self) -> dict[str, str]:
        """The columns and values of the headline slice; empty for all items."""
        assert isinstance(self.headline, dict)
        return self.headline

    def config(self, path: str | None, precision: PrecisionChoice = "auto", store: Path | None = None) -> ProbeConfig:
        """The options of `pyrite probe` for this probe; `path` is where its file lies."""
        more: dict[str, Any] = {"skip": self.skip} if self.skip else {}
        return ProbeConfig(
            task=(self.text(path or "x"),),
            columns=tuple(f"{ours}={theirs}" for ours, theirs in (self.columns or {}).items()),
            on_bad_row=self.on_bad_row,
            items=self.items,
            seed=self.seed,
            max_tokens=self.max_tokens,
            max_new_tokens=self.max_new_tokens,
            part=self.part,
            precision=precision,
            store=store,
            quiet=True,
            **more,
            **self.options,
        )

    def text(self, path: str) -> str:
        """The task as `--task` takes it."""
        return self.task if self.task.startswith(HARNESS) else f"{self.task}={path}"


class ContrastSpec(ConfigBase):
    """One primary question: is an arm (or cell) worse than another on one number?"""

    arm: str = Field("", description="the arm in question, or a cell of the same start and size")
    cell: str = Field("", description="the cell in question, where the study has no starts")
    against: str = Field("", description="an arm, a cell, or 'start'; of an arm by default the human arm")
    probe: str = Field(
        "",
        description="PROBE or PROBE.METRIC (such as ifeval.prompt_strict), or 'gap': how much further the blind spot fell than the general task; by default the first blind spot",
    )
    starts: tuple[str, ...] | None = Field(
        None, description="only these starts; all by default, averaged within a seed"
    )
    sizes: tuple[int, ...] | None = Field(None, description="only these sizes")
    margin: float | None = Field(
        None, gt=0, description="differences smaller than this do not matter, in units of the metric [the study's]"
    )

    @model_validator(mode="after")
    def _one_side(self) -> "ContrastSpec":
        if bool(self.arm) == bool(self.cell):
            raise ValueError("name the arm (or, without starts, the cell) in question: arm or cell, and not both")
        if self.cell and not self.against:
            raise ValueError("against: the cell that it is compared with")
        return self

    @property
    def about(self) -> str:
        """The arm or cell in question."""
        return self.arm or self.cell

    def as_json(self) -> dict[str, Any]:
        """Plain values, of a contrast between arms or of one between cells."""
        unsaid = {"cell"} | ({"margin"} if self.margin is None else set()) if self.arm else {"arm", "starts", "sizes"}
        return self.model_dump(mode="json", exclude=unsaid)

    @property
    def probe_name(self) -> str:
        """The probe without its metric."""
        return self.probe.partition(".")[0]

    @property
    def metric(self) -> str:
        """The metric; empty for the probe's first."""
        return self.probe.partition(".")[2]


class FrontierChoice(ConfigBase):
    """Which of several cells is the one to take, by other items than those that judge it."""

    among: tuple[str, ...] = Field(min_length=2, description="the cells in question")
    lost: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was lost, on the items that choose")
    gained: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was gained")


class FrontierSpec(ConfigBase):
    """What every repair brings back of what was lost, and keeps of what was gained (docs/repair.md)."""

    lost: str = Field(
        pattern=DOTTED,
        description="PROBE.METRIC, such as ifeval.prompt_strict; of labels, of the probe's headline slice",
    )
    gained: str = Field(pattern=DOTTED, description="PROBE.METRIC, such as gain.nats_per_token")
    before: str = Field("start", description="the cell before the harm")
    harmed: str = Field("damaged", description="the cell (or arm) that was harmed")
    keep: float = Field(0.9, ge=0, le=1, description="the share of the gain that a repair should keep")
    choose: FrontierChoice | None = Field(None, description="how one of several cells is chosen")


class PilotSpec(ConfigBase):
    """Which training does harm that shows? Chosen on items that the study then leaves alone."""

    probe: ProbeSpec = Field(description="what is asked; its items are the first of the seeded order (no skip)")
    metric: str = Field(description="the number that must fall")
    against: str = Field("start", description="the cell that every damage is compared with, item by item")
    grid: dict[str, TrainingStep] = Field(min_length=1, description="damages to try, trained with the pilot's seed")
    seed: int = Field(
        PILOT_SEED,
        ge=0,
        description="training seed of the pilot, none of the study's: what was picked for its result is no replicate",
    )
    rule: Literal["most negative upper bound"] = Field(
        "most negative upper bound",
        description="of those whose paired 95 % interval lies below 0, the one whose upper bound is lowest; of equals the one of fewer tokens",
    )

    @model_validator(mode="after")
    def _first_items(self) -> "PilotSpec":
        if self.probe.items is None or self.probe.skip:
            raise ValueError("probe: a pilot names its items and skips none")
        return self


class TrainingSpec(ConfigBase):
    """How starts and arms are trained."""

    start: ClassifierSettings = Field(default_factory=ClassifierSettings, description="starts")
    arm: ClassifierSettings = Field(default_factory=ClassifierSettings, description="arms")


class StudySpec(ConfigBase):
    """A whole study."""

    study: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name; the run folder is called so")
    says: str = Field("", description="one sentence on what it is")
    about: Literal["labels", "language"] | None = Field(
        None, description="not needed: a study with labels trains classifiers, one without trains language models"
    )
    labels: tuple[str, ...] = Field(
        (), description="the labels that starts and arms learn to name; none: they learn from chats"
    )
    fields: tuple[str, ...] = Field(
        ("premise", "hypothesis"), min_length=1, description="text columns of labelled rows, in reading order"
    )
    task_model: TaskModelSpec | None = Field(None, description="the model that is trained and probed")
    model: str | None = Field(None, description="the same in short: its name")
    precision: PrecisionChoice = Field("auto", description="with model: see task_model")
    parameters: float | None = Field(None, gt=0, description="with model: see task_model")
    data: dict[str, DataSpec] = Field(min_length=1, description="where rows come from")
    starts: dict[str, StartSpec] = Field(default_factory=dict, description="models before augmentation")
    arms: dict[str, ArmSpec] = Field(default_factory=dict, description="what they are trained on further")
    synthetic_share: ShareAxis | None = Field(None, description="more arms, along an axis")
    human_arm: str = Field("human", description="the arm that the others are compared with at equal size")
    sizes: tuple[int, ...] = Field((), description="rows of an arm")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="how starts and arms are trained")
    arm_rows_vary: bool = Field(
        True, description="each seed draws its own rows for an arm, where there are more than needed"
    )
    pools_vary: bool = Field(
        False,
        description="each seed divides the sources into pools anew, but for the pools that a probe or judge reads, and draws its own rows for a start",
    )
    texts_vary: bool = Field(False, description="each seed samples its own raw texts of every synth source")
    trainings: dict[str, TrainingStep] = Field(default_factory=dict, description="steps that train a language model")
    damage: str | None = Field(None, description="the training (of trainings or of the pilot's grid) called damage")
    repairs: dict[str, RepairStep] = Field(default_factory=dict, description="steps that unlearn")
    quantise: dict[str, Literal["int8", "nf4"]] = Field(default_factory=dict, description="steps that round weights")
    merge: dict[str, MergeStep] = Field(
        default_factory=dict, description="steps that mix a model with the one before, without training"
    )
    cells: tuple[CellSpec, ...] = Field(
        (), description="paths written out, beyond the grid: NAME: [steps], or a list of {name, start, steps, size}"
    )
    compare_with: tuple[str, ...] | None = Field(
        None,
        description="without starts: cells that every cell is compared with [start and damaged, where there are such]",
    )
    probes: dict[str, ProbeSpec] = Field(
        min_length=1,
        description="what is asked; with arms, 'general' is the general task, every other one a blind spot",
    )
    contrasts: tuple[ContrastSpec, ...] = Field(
        (),
        max_length=3,
        description="at most three primary questions; default: each arm against the human arm on the blind spot",
    )
    frontier: FrontierSpec | None = Field(
        None, description="what each cell brings back of what was lost, and keeps of what was gained"
    )
    margin: float = Field(
        0.03, gt=0, lt=1, description="differences smaller than this do not matter (shares, as a fraction of items)"
    )
    margin_real: float = Field(0.05, gt=0, description="the same for other metrics (nats, points)")
    max_missing: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="a contrast of which a larger share of items has no answer on some side is not testable",
    )
    pilot: PilotSpec | None = Field(None, description="how the damage is chosen: pyrite study FILE --pilot")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="training seeds: the unit of replication")
    tokens_per_row: int = Field(40, ge=1, description="for plans: tokens in a labelled row")
    keep: Literal["predictions", "adapters", "all"] = Field("predictions", description="what stays of trained models")
    workers: int = Field(0, ge=0, description="processes; 0: one for each core on a CPU, one on a GPU")
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads of each step; another number than 1 is part of what a step is (its sums differ in their last bits). --plan says where more would use cores that are idle",
    )

    @field_validator("cells", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return [
            {"name": name, **(path if isinstance(path, Mapping) else {"steps": path})} for name, path in value.items()
        ]

    @field_serializer("cells")
    def _in_short(self, cells: tuple[CellSpec, ...]) -> Any:
        if cells and all(cell.start is None and not cell.size for cell in cells):
            return {cell.name: list(cell.steps) for cell in cells}
        return [cell.model_dump(mode="json") for cell in cells]

    @model_validator(mode="after")
    def _checked(self) -> "StudySpec":
        from pyrite.study.check import mistakes

        refuse(mistakes(self))
        return self

    @property
    def given(self) -> TaskModelSpec:
        """The model as given."""
        if self.task_model is not None:
            return self.task_model
        assert self.model is not None
        return TaskModelSpec(model=self.model, precision=self.precision, parameters=self.parameters)

    @property
    def has_grid(self) -> bool:
        """Are cells written as starts × arms × sizes?"""
        return bool(self.starts)

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The steps of each written-out cell that begins with the model as given, by its name."""
        return {cell.name: cell.steps for cell in self.cells if cell.start is None}

    def holds(self, source: str) -> Literal["labelled", "chats"]:
        """What the rows of a source are."""
        return self.data[source].holds or ("labelled" if self.labels else "chats")

    def all_arms(self) -> dict[str, ArmSpec]:
        """The arms as written, and those of the share axis."""
        arms = dict(self.arms)
        if self.synthetic_share:
            axis = self.synthetic_share
            for share in axis.shares:
                human = 1 - share if axis.combine == "replace" else 1.0
                mix = {axis.human: human, axis.synthetic: share}
                arms[f"share={share:g}"] = ArmSpec(mix={k: v for k, v in mix.items() if v}, combine=axis.combine)
        return arms

    def all_trainings(self) -> dict[str, TrainingStep]:
        """The trainings and the pilot's grid."""
        return {**self.trainings, **(self.pilot.grid if self.pilot else {})}

    def primary(self) -> tuple[ContrastSpec, ...]:
        """The primary contrasts: as written, or each arm against the human arm, at most three; defaults filled in."""
        if not self.has_grid:
            return self.contrasts
        others = [arm for arm in self.all_arms() if arm != self.human_arm]
        written = self.contrasts or tuple(ContrastSpec(arm=arm) for arm in others[:3])
        spot = next((name for name in self.probes if name != "general"), "general")
        return tuple(
            contrast.model_copy(update={"against": contrast.against or self.human_arm, "probe": contrast.probe or spot})
            for contrast in written
        )

    def references(self) -> tuple[str, ...]:
        """Without starts: the cells that every cell is compared with."""
        named = ("start", "damaged") if self.compare_with is None else self.compare_with
        known = [cell.name for cell in self.cells]
        return tuple(name for name in named if name in known)

    def forgets(self, repair: RepairStep) -> str:
        """The name of the rows that a repair unlearns."""
        return repair.forget or (DAMAGE if self.damage or self.pilot else TRAINED)

    def rows(self, name: str, damage: str | None = None) -> str:
        """DATA.POOL of what a key calls rows; `damage` is the training to take for the chosen one."""
        chosen = damage or self.damage or ""
        if name.partition(".")[0] != DAMAGE:
            return name
        trained = self.all_trainings()[chosen].on if chosen in self.all_trainings() else None
        if not isinstance(trained, str):
            return name
        return trained if name == DAMAGE else f"{trained.partition('.')[0]}.{name.partition('.')[2]}"


def bundled() -> Mapping[str, Path]:
    """The study files that come with Pyrite, by name."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "studies", here.parents[3] / "studies"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


def find_spec(name: str | Path) -> Path:
    """A study file by its path, or a bundled one by its name."""
    path = Path(name)
    if not path.is_file() and str(name) in bundled():
        path = bundled()[str(name)]
    if not path.is_file():
        fix = f"give a YAML file, or one of: {', '.join(bundled())}"
        raise UserError("That study file is not there.", str(name), fix)
    return path


def load_spec(name: str | Path) -> tuple[StudySpec, Path]:
    """Read and check a study file; every mistake is named with its line and what to write instead."""
    path = find_spec(name)
    return parse_spec(path.read_text(encoding="utf-8"), str(path)), path


def parse_spec(text: str, where: str) -> StudySpec:
    """A study from YAML text; `where` names it in messages."""
    return from_yaml(StudySpec, text, where, what="study file", see="docs/study.md lists every key")


def data_path(name: str, folder: Path | None) -> str:
    """A data file's path: below `--data` (or `$PYRITE_DATA`, or here), as it is where absolute or on the hub."""
    if name.startswith("hf://") or Path(name).is_absolute():
        return name
    root = folder or Path(os.environ.get("PYRITE_DATA", "."))
    return str(root / name)


def chat_pools(spec: StudySpec) -> Mapping[str, tuple[str, str]]:
    """Every DATA.POOL of chats, as its two parts."""
    return {
        f"{name}.{pool}": (name, pool)
        for name, source in spec.data.items()
        if spec.holds(name) == "chats"
        for pool in source.pools
    }
