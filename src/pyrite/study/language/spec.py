"""What a study of a language model says: data, trainings, repairs, cells, probes, contrasts, a pilot. With line numbers.

Rows are named DATA.POOL. The word `damage` stands for the training that the file chooses under `damage`: as a step of a
cell; as rows, for those that it is trained on; `damage.POOL` is a pool of the data that these come from.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pyrite.config_base import ConfigBase, from_yaml, refuse
from pyrite.models.hardware import PrecisionChoice
from pyrite.probe.config import ProbeConfig
from pyrite.repair.settings import RepairSettings
from pyrite.train.settings import TrainSettings

DAMAGE = "damage"
PILOT_SEED = 100_000
"""The seed with which a pilot trains unless its file names another: far above those that studies and `--seeds` take."""
TASKS = ("ifeval", "followbench", "mt_bench", "gsm8k", "perplexity")
HARNESS = "harness:"
DOTTED = r"^[^.]+\.[^.]+$"
"""PROBE.METRIC."""
OWN = ("task", "columns", "on_bad_row", "items", "skip", "seed", "max_tokens", "max_new_tokens", "part", "margin")
"""Options of `pyrite probe` that a probe has as keys of its own; any other goes under `options`."""
NOT_HERE = ("model", "other", "predictions", "labels", "label_map", "backend", "base_url", "export", "gate", "undecided",
            "max_time", "store", "quiet", "precision")  # fmt: skip


class LanguageData(ConfigBase):
    """Files, and the pools that their rows are divided into; no two pools share a row."""

    files: tuple[str, ...] = Field(min_length=1, description="files below --data, or hf://org/name[:config][@split]")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    duplicates: Literal["drop", "keep"] = Field("drop", description="rows with the text of an earlier row")
    pools: dict[str, int | Literal["rest"]] = Field(
        min_length=1, description="rows of each pool; one may take the rest"
    )
    group: str | None = Field(
        None,
        description="rows with the same value here go to one pool: prompt (what stands before the first answer of a chat), or a column of the file",
    )
    expected_rows: int | None = Field(None, ge=1, description="rows in all, for plans made without the data")
    tokens_per_row: int = Field(200, ge=1, description="for plans: tokens in a row")

    @model_validator(mode="after")
    def _pools(self) -> "LanguageData":
        if sum(rows == "rest" for rows in self.pools.values()) > 1:
            raise ValueError("pools: only one can take the rest")
        if any(isinstance(rows, int) and rows < 1 for rows in self.pools.values()):
            raise ValueError("pools: a pool has one row or more")
        if self.group is not None and self.duplicates == "keep":
            raise ValueError(
                "group: a copy that is kept may be of another group than its row; leave out duplicates: keep"
            )
        return self


class LanguageTraining(ConfigBase):
    """Further training: on chats (loss on answers) or on plain text (loss on every token)."""

    trains: Literal["chat", "text"] = Field("chat", description="chat: loss on the answers; text: on all tokens")
    on: str | dict[str, float] = Field(
        description="rows, as DATA.POOL; or several with their shares of the text (in characters), no row used twice"
    )
    first: int | None = Field(None, ge=1, description="only the first so many rows")
    settings: TrainSettings = Field(default_factory=TrainSettings, description="how the weights move")
    pack_tokens: int = Field(0, ge=0, description="tokens in one forward pass; 0: by the device")

    @model_validator(mode="after")
    def _shares(self) -> "LanguageTraining":
        if isinstance(self.on, dict) and (
            any(share <= 0 for share in self.on.values()) or abs(sum(self.on.values()) - 1) > 1e-6
        ):
            raise ValueError(f"on: shares are above 0 and add up to 1, these to {sum(self.on.values()):g}")
        return self

    def pools(self) -> tuple[str, ...]:
        """The rows that are read."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)


class LanguageRepair(ConfigBase):
    """A repair: what is unlearned, what is replayed, and the rows of its guard."""

    forget: str = Field(DAMAGE, description="rows to unlearn")
    replay: str = Field(description="rows to keep up")
    guard_forget: str = Field(description="the guard's own rows of the one sort")
    guard_replay: str = Field(description="the guard's own rows of the other")
    before: str | None = Field(
        None,
        description="the cell whose model of the same seed is the one before, for kl_to: before and self_replay [the model as given]",
    )
    self_replay: bool = Field(
        False,
        description="replay rows (and the guard's) keep their prompts; the model before answers them, sampled once",
    )
    self_tokens: int = Field(256, ge=8, description="self_replay: answers that do not end within so many are dropped")
    self_temperature: float = Field(1.0, ge=0, description="self_replay: the temperature at which they are sampled")
    settings: RepairSettings = Field(default_factory=RepairSettings, description="see pyrite repair")

    def pools(self) -> tuple[str, ...]:
        """The rows that are read."""
        return (self.forget, self.replay, self.guard_forget, self.guard_replay)


class LanguageMerge(ConfigBase):
    """A model between itself and the one before: before + alpha * (model - before), weight by weight (arXiv 2109.01903)."""

    alpha: float = Field(ge=0, le=1, description="0: the model before; 1: the model that the step is given")
    before: str | None = Field(
        None, description="the cell whose model of the same seed is the one before [the model as given]"
    )
    groups: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="alpha of the weights whose names fit a pattern, such as '*layers.0.*': 0.2"
    )


class FrontierChoice(ConfigBase):
    """Which of several cells is the one to take, by other items than those that judge it."""

    among: tuple[str, ...] = Field(min_length=2, description="the cells in question")
    lost: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was lost, on the items that choose")
    gained: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was gained")


class LanguageFrontier(ConfigBase):
    """What every repair brings back of what was lost, and keeps of what was gained (docs/repair.md)."""

    lost: str = Field(pattern=DOTTED, description="PROBE.METRIC, such as ifeval.prompt_strict")
    gained: str = Field(pattern=DOTTED, description="PROBE.METRIC, such as gain.nats_per_token")
    before: str = Field("start", description="the cell before the harm")
    harmed: str = Field("damaged", description="the cell that was harmed")
    keep: float = Field(0.9, ge=0, le=1, description="the share of the gain that a repair should keep")
    choose: FrontierChoice | None = Field(None, description="how one of several cells is chosen")


class LanguageProbe(ConfigBase):
    """What models are asked, as `pyrite probe --task` asks it."""

    task: str = Field(description="ifeval, followbench, mt_bench, gsm8k, perplexity, or harness:TASK")
    file: str | None = Field(None, description="the task's file below --data")
    data: str | None = Field(None, description="perplexity: a pool instead of a file")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    items: int | None = Field(None, ge=1, description="at most so many items, drawn by the seed")
    skip: int = Field(0, ge=0, description="leave out the first so many of the seeded order: a pilot's")
    seed: int = Field(0, ge=0, description="seed of the choice of items")
    max_tokens: int = Field(512, ge=8, description="perplexity: rows are read in pieces of this size")
    max_new_tokens: int | None = Field(None, ge=1, description="answers are cut here [the task's standard]")
    part: Literal["answers", "all"] | None = Field(None, description="perplexity: of answers, or of everything")
    metrics: tuple[str, ...] = Field((), description="the metrics that are shown [all]")
    only_cells: tuple[str, ...] | None = Field(None, description="only these cells are asked")
    options: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="further options of pyrite probe, such as num_fewshot: 5"
    )

    @model_validator(mode="after")
    def _one_task(self) -> "LanguageProbe":
        if self.task not in TASKS and not self.task.startswith(HARNESS):
            near = difflib.get_close_matches(self.task, TASKS, 1)
            hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(TASKS)}, {HARNESS}TASK"
            raise ValueError(f"there is no task '{self.task}'{hint}")
        if self.task.startswith(HARNESS) and (self.file or self.data):
            raise ValueError(f"{self.task} has items of its own: leave out file and data")
        if not self.task.startswith(HARNESS) and (self.file is None) == (self.data is None):
            raise ValueError("give file or data")
        if self.data and self.task != "perplexity":
            raise ValueError(f"data: only perplexity reads a pool, {self.task} reads a file")
        strange = [name for name in self.options if name in OWN or name in NOT_HERE]
        if strange:
            raise ValueError(f"options.{strange[0]} is a key of the probe or of the study itself")
        self.config(None)
        return self

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


class LanguageContrast(ConfigBase):
    """One primary question: is this cell worse than the other on one number?"""

    cell: str = Field(description="the cell in question")
    against: str = Field(description="the cell that it is compared with, within each seed")
    probe: str = Field(pattern=DOTTED, description="PROBE.METRIC, such as ifeval.prompt_strict")
    margin: float | None = Field(
        None, gt=0, description="differences smaller than this do not matter, in units of the metric [the study's]"
    )


class PilotSpec(ConfigBase):
    """Which training does harm that shows? Chosen on items that the study then leaves alone."""

    probe: LanguageProbe = Field(description="what is asked; its items are the first of the seeded order (no skip)")
    metric: str = Field(description="the number that must fall")
    against: str = Field("start", description="the cell that every damage is compared with, item by item")
    grid: dict[str, LanguageTraining] = Field(min_length=1, description="damages to try, trained with the pilot's seed")
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


class LanguageSpec(ConfigBase):
    """A whole study of a language model."""

    study: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name; the run folder is called so")
    says: str = Field("", description="one sentence on what it is")
    about: Literal["language"] = Field(description="language: this sort of study")
    model: str = Field(description="packaged:NAME, a folder, or org/name[@revision] on the hub")
    precision: PrecisionChoice = Field("auto", description="auto: bf16-mixed where the hardware has it")
    parameters: float | None = Field(None, gt=0, description="number of weights, for plans made without the model")
    data: dict[str, LanguageData] = Field(min_length=1, description="where rows come from")
    trainings: dict[str, LanguageTraining] = Field(default_factory=dict, description="steps that train")
    damage: str | None = Field(None, description="the training (of trainings or of the pilot's grid) called damage")
    repairs: dict[str, LanguageRepair] = Field(default_factory=dict, description="steps that repair")
    quantise: dict[str, Literal["int8", "nf4"]] = Field(default_factory=dict, description="steps that round weights")
    merge: dict[str, LanguageMerge] = Field(
        default_factory=dict, description="steps that mix a model with the one before, without training"
    )
    cells: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="steps in order; none is the model as given. Cells share their common beginnings"
    )
    compare_with: tuple[str, ...] | None = Field(
        None, description="cells that every cell is compared with [start and damaged, where there are such]"
    )
    probes: dict[str, LanguageProbe] = Field(min_length=1, description="what every cell is asked")
    contrasts: tuple[LanguageContrast, ...] = Field((), max_length=3, description="at most three primary questions")
    frontier: LanguageFrontier | None = Field(
        None, description="what each cell brings back of what was lost, and keeps of what was gained"
    )
    margin: float = Field(0.03, gt=0, lt=1, description="differences of shares smaller than this do not matter")
    margin_real: float = Field(0.05, gt=0, description="the same for other metrics (nats, points)")
    max_missing: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="a contrast of which a larger share of items has no answer on some side is not testable",
    )
    pilot: PilotSpec | None = Field(None, description="how the damage is chosen: pyrite study FILE --pilot")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="training seeds: the unit of replication")
    keep: Literal["predictions", "adapters", "all"] = Field("predictions", description="what stays of trained models")
    workers: int = Field(0, ge=0, description="processes; 0: one for each core on a CPU, one on a GPU")

    def all_trainings(self) -> dict[str, LanguageTraining]:
        """The trainings and the pilot's grid."""
        return {**self.trainings, **(self.pilot.grid if self.pilot else {})}

    def primary(self) -> tuple[LanguageContrast, ...]:
        """The primary contrasts."""
        return self.contrasts

    def references(self) -> tuple[str, ...]:
        """The cells that every cell is compared with."""
        named = ("start", "damaged") if self.compare_with is None else self.compare_with
        return tuple(name for name in named if name in self.cells)

    def rows(self, name: str, damage: str | None = None) -> str:
        """DATA.POOL of what a key calls rows; `damage` is the training to take for the chosen one."""
        chosen = damage or self.damage or ""
        if name.partition(".")[0] != DAMAGE:
            return name
        trained = self.all_trainings()[chosen].on if chosen in self.all_trainings() else None
        if not isinstance(trained, str):
            return name
        return trained if name == DAMAGE else f"{trained.partition('.')[0]}.{name.partition('.')[2]}"

    @model_validator(mode="after")
    def _checked(self) -> "LanguageSpec":
        from pyrite.study.language.check import mistakes

        refuse(mistakes(self))
        return self


def parse_language(text: str, where: str) -> LanguageSpec:
    """A study of a language model from YAML text; `where` names it in messages."""
    return from_yaml(LanguageSpec, text, where, what="study file", see="docs/study.md lists every key")


def pools_of(spec: LanguageSpec) -> Mapping[str, tuple[str, str]]:
    """Every DATA.POOL, as its two parts."""
    return {f"{name}.{pool}": (name, pool) for name, one in spec.data.items() for pool in one.pools}
