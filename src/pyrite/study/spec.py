"""What a study file says: models, data, starts, arms, sizes, seeds, probes, contrasts. Validated, with line numbers.

Names of data are dotted: `human` is a whole source, `human.start` one of its pools.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pyrite.config_base import ConfigBase, from_yaml, refuse
from pyrite.errors import UserError
from pyrite.models.hardware import PrecisionChoice
from pyrite.synth.settings import BiasSettings, SynthSettings
from pyrite.train.settings import ClassifierSettings

if TYPE_CHECKING:
    from pyrite.study.language.spec import LanguageSpec

START_ROWS = "start"
"""In an arm's mix: the rows that the start itself was trained on."""


class TaskModelSpec(ConfigBase):
    """The model that is trained and probed."""

    model: str = Field(description="packaged:NAME, a folder, or org/name[@revision] on the hub")
    reads: Literal["auto", "pair", "prompt"] = Field(
        "auto", description="rows as two segments (encoders) or as a prompt (decoders)"
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


def as_pool(value: int | PoolSpec) -> PoolSpec:
    """A pool written as a number, or in full."""
    return value if isinstance(value, PoolSpec) else PoolSpec(rows=value)


class SourceSpec(ConfigBase):
    """Where rows come from: files, a data set on the hub, a grammar, or a generator."""

    files: tuple[str, ...] = Field((), description="files below --data, or hf://org/name[:config][@split]")
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    duplicates: Literal["drop_all", "drop_repeats", "keep"] = Field(
        "drop_repeats",
        description="drop_all: every copy of a duplicated row (the paper); drop_repeats: all but the first",
    )
    grammar: GrammarSpec | None = Field(None, description="rows written by a grammar")
    synth: SynthSettings | None = Field(None, description="rows written by a generator")
    train_on: str | None = Field(None, description="synth: the data that the generator is trained on or shown")
    judge: str | None = Field(None, description="synth: the start whose model (first seed) judges the labels' quality")
    pools: dict[str, int | PoolSpec] = Field(default_factory=dict, description="parts of this source that share no row")
    group: str | None = Field(
        None,
        description="rows with the same value here go to one pool: a field of the study, such as premise, or a column of the file",
    )
    expected_rows: int | None = Field(None, ge=1, description="rows after cleaning, for plans made without the data")

    @model_validator(mode="after")
    def _one_origin(self) -> "SourceSpec":
        if sum([bool(self.files), self.grammar is not None, self.synth is not None]) != 1:
            raise ValueError("give exactly one of files, grammar, synth")
        if self.synth and self.train_on is None:
            raise ValueError("a synth source needs train_on: the data that its generator is trained on or shown")
        for name, pool in self.pools.items():
            if isinstance(pool, PoolSpec) and pool.rows == "all" and pool.disjoint:
                raise ValueError(f"pools.{name}: all rows cannot be disjoint from the other pools; say disjoint: false")
        if (
            sum(isinstance(pool, PoolSpec) and pool.rows == "rest" and pool.disjoint for pool in self.pools.values())
            > 1
        ):
            raise ValueError("pools: only one can take the rest")
        if self.group is not None and not self.pools:
            raise ValueError("group keeps rows together in pools, and there are none: add pools, or leave group out")
        return self


class StartSpec(ConfigBase):
    """A model before augmentation: trained on so many rows of each source; none at all is the base model."""

    rows: dict[str, int | Literal["all"]] = Field(default_factory=dict, description="data: rows to train on")
    after: str | None = Field(None, description="train further from this start instead of from the base model")
    seeds: Literal["each", "one"] = Field(
        "each",
        description="each: a model of its own for every seed; one: that of the first seed for all, so that the seeds differ in what follows only",
    )
    training: ClassifierSettings | None = Field(None, description="instead of the study's start training")


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


class CellSpec(ConfigBase):
    """One path written out: a start and the arms it is trained on, one after the other."""

    name: str = Field(description="its name in the table, in the place of an arm")
    start: str = Field(description="where it begins")
    steps: tuple[str, ...] = Field(min_length=1, description="arms, in order; each of the size given")
    size: int = Field(ge=1, description="rows of each step")


class ProbeSpec(ConfigBase):
    """What every model is asked, and which part of it is the number that contrasts look at."""

    task: Literal["nli", "hans", "labelled"] = Field(description="how answers are scored")
    data: str | None = Field(None, description="a source or pool of this study")
    file: str | None = Field(
        None,
        description="a file below --data, or a bundled grammar: grammar:heuristics, grammar:negation, grammar:reviews",
    )
    columns: dict[str, str] | None = Field(None, description="our field name: the file's column")
    label_map: dict[str, str] | None = Field(None, description="label in the file: our label")
    on_bad_row: Literal["stop", "skip"] = Field("stop", description="stop at a bad row, or count it and go on")
    merge: dict[str, str] | None = Field(None, description="labelled: model label → gold label, where they differ")
    slices: tuple[tuple[str, ...], ...] = Field((), description="labelled: columns (or 'gold') to score apart")
    template: str | None = Field(None, description="labelled: the column that says which items are alike")
    items: int | None = Field(None, ge=1, description="at most so many items, balanced over the slices")
    in_full: dict[str, str] = Field(default_factory=dict, description="items with these values are all taken")
    headline: dict[str, str] | Literal["overall"] | None = Field(
        None,
        validate_default=True,
        description="the slice that contrasts look at, or overall; by default of hans its non-entailment, judged for each heuristic, and of other tasks overall",
    )
    seed: int = Field(0, ge=0, description="seed of the choice of items")
    grammar_rows: int = Field(3000, ge=30, description="items that a grammar writes")

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

    @property
    def headline_slice(self) -> dict[str, str]:
        """The columns and values of the headline slice; empty for all items."""
        assert isinstance(self.headline, dict)
        return self.headline


class ContrastSpec(ConfigBase):
    """One primary question: is `arm` worse than `against` on the probe's number?"""

    arm: str = Field(description="the arm in question")
    against: str = Field("", description="an arm, or 'start'; by default the human arm")
    probe: str = Field(
        "",
        description="the probe, or 'gap': how much further the blind spot fell than the general task; by default the first blind spot",
    )
    starts: tuple[str, ...] | None = Field(
        None, description="only these starts; all by default, averaged within a seed"
    )
    sizes: tuple[int, ...] | None = Field(None, description="only these sizes")


class TrainingSpec(ConfigBase):
    """How starts and arms are trained."""

    start: ClassifierSettings = Field(default_factory=ClassifierSettings, description="starts")
    arm: ClassifierSettings = Field(default_factory=ClassifierSettings, description="arms")


class StudySpec(ConfigBase):
    """A whole study."""

    study: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name; the run folder is called so")
    says: str = Field("", description="one sentence on what it is")
    about: Literal["labels"] = Field(
        "labels", description="labels: this sort of study; for 'language' see LanguageSpec"
    )
    labels: tuple[str, ...] = Field(min_length=2, description="the task model's labels")
    fields: tuple[str, ...] = Field(
        ("premise", "hypothesis"), min_length=1, description="text columns, in reading order"
    )
    task_model: TaskModelSpec = Field(description="the model that is trained and probed")
    data: dict[str, SourceSpec] = Field(description="where rows come from")
    starts: dict[str, StartSpec] = Field(min_length=1, description="models before augmentation")
    arms: dict[str, ArmSpec] = Field(min_length=1, description="what they are trained on further")
    synthetic_share: ShareAxis | None = Field(None, description="more arms, along an axis")
    human_arm: str = Field("human", description="the arm that the others are compared with at equal size")
    sizes: tuple[int, ...] = Field(min_length=1, description="rows of an arm")
    seeds: tuple[int, ...] = Field(min_length=1, description="training seeds: the unit of replication")
    arm_rows_vary: bool = Field(
        True, description="each seed draws its own rows for an arm, where there are more than needed"
    )
    pools_vary: bool = Field(
        False,
        description="each seed divides the sources into pools anew, but for the pools that a probe or judge reads, and draws its own rows for a start",
    )
    texts_vary: bool = Field(False, description="each seed samples its own raw texts of every synth source")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="how starts and arms are trained")
    probes: dict[str, ProbeSpec] = Field(description="'general' is the general task; every other one a blind spot")
    cells: tuple[CellSpec, ...] = Field((), description="paths beyond the grid")
    contrasts: tuple[ContrastSpec, ...] = Field(
        (),
        max_length=3,
        description="at most three primary questions; default: each arm against the human arm on the blind spot",
    )
    margin: float = Field(
        0.03, gt=0, lt=1, description="differences smaller than this do not matter (fraction of items)"
    )
    max_missing: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="a contrast of which a larger share of items has no answer on some side is not testable",
    )
    tokens_per_row: int = Field(40, ge=1, description="for plans: tokens in a row")
    keep: Literal["predictions", "adapters", "all"] = Field("predictions", description="what stays of trained models")
    workers: int = Field(0, ge=0, description="processes; 0: one for each core on a CPU, one on a GPU")
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads of each step; another number than 1 is part of what a step is (its sums differ in their last bits). --plan says where more would use cores that are idle",
    )

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

    def primary(self) -> tuple[ContrastSpec, ...]:
        """The primary contrasts: as written, or each arm against the human arm, at most three; defaults filled in."""
        others = [arm for arm in self.all_arms() if arm != self.human_arm]
        written = self.contrasts or tuple(ContrastSpec(arm=arm) for arm in others[:3])
        spot = next((name for name in self.probes if name != "general"), "general")
        return tuple(
            contrast.model_copy(update={"against": contrast.against or self.human_arm, "probe": contrast.probe or spot})
            for contrast in written
        )

    @model_validator(mode="after")
    def _checked(self) -> "StudySpec":
        from pyrite.study.check import mistakes

        refuse(mistakes(self))
        return self


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


def is_language(name: str | Path) -> bool:
    """Is this a study of a language model (about: language)? A file that is no YAML is told so when it is read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(find_spec(name).read_text(encoding="utf-8"))
    except YAMLError:
        return False
    return isinstance(loaded, dict) and loaded.get("about") == "language"


def load_language(name: str | Path) -> "tuple[LanguageSpec, Path]":
    """Read and check a study file that is about a language model."""
    from pyrite.study.language.spec import parse_language

    path = find_spec(name)
    return parse_language(path.read_text(encoding="utf-8"), str(path)), path


def parse_spec(text: str, where: str) -> StudySpec:
    """A study from YAML text; `where` names it in messages."""
    return from_yaml(StudySpec, text, where, what="study file", see="docs/study.md lists every key")


def data_path(name: str, folder: Path | None) -> str:
    """A data file's path: below `--data` (or `$PYRITE_DATA`, or here), as it is where absolute or on the hub."""
    if name.startswith("hf://") or Path(name).is_absolute():
        return name
    root = folder or Path(os.environ.get("PYRITE_DATA", "."))
    return str(root / name)
