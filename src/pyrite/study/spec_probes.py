"""What a study file asks: probes, the contrasts that are judged, the frontier, and how a pilot chooses the damage."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pyrite.config_base import DistinctConfig
from pyrite.errors import UserError
from pyrite.models.hardware import PrecisionChoice
from pyrite.probe.config import ProbeConfig
from pyrite.study.spec_steps import TrainingStep

GAP = "gap"
"""In a contrast, in the place of a probe: how much further the blind spot fell than the general task."""
PILOT_SEED = 100_000
"""The seed with which a pilot trains unless its file names another: far above those that studies and `--seeds` take."""
LABEL_TASKS = ("nli", "hans", "labelled")
HARNESS = "harness:"
DOTTED = r"^[^.]+\.[^.]+$"
"""PROBE.METRIC."""
OWN_OPTIONS = ("task", "columns", "label_map", "on_bad_row", "items", "skip", "seed", "max_tokens", "max_new_tokens",
               "part", "margin")  # fmt: skip
"""Options of `pyrite probe` that a probe has as keys of its own; any other goes under `options`."""
NOT_IN_STUDIES = ("model", "other", "predictions", "labels", "backend", "base_url", "export", "gate", "undecided",
                  "max_time", "store", "quiet", "precision")  # fmt: skip


class ProbeSpec(DistinctConfig):
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
        from pyrite.tasks.generative_tasks import GENERATIVE

        tasks = (*LABEL_TASKS, *GENERATIVE, "perplexity")
        if self.task not in tasks and not self.task.startswith(HARNESS):
            near = difflib.get_close_matches(self.task, tasks, 1)
            hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(tasks)}, {HARNESS}TASK"
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
            try:
                self.config(None)
            except UserError as error:
                raise ValueError(f"options: {error.found}; {error.fix}") from error
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

    def config(
        self,
        path: str | None,
        precision: PrecisionChoice = "auto",
        store: Path | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> ProbeConfig:
        """The options of `pyrite probe` for this probe; `path` is where its file lies, `variables` are the chat template's."""
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
            chat_template_kwargs=tuple(f"{name}={json.dumps(value)}" for name, value in (variables or {}).items()),
            **more,
            **self.options,
        )

    def text(self, path: str) -> str:
        """The task as `--task` takes it."""
        return self.task if self.task.startswith(HARNESS) else f"{self.task}={path}"


class ContrastSpec(DistinctConfig):
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


class FrontierChoice(DistinctConfig):
    """Which of several cells is the one to take, by other items than those that judge it."""

    among: tuple[str, ...] = Field(min_length=2, description="the cells in question")
    lost: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was lost, on the items that choose")
    gained: str = Field(pattern=DOTTED, description="PROBE.METRIC of what was gained")


class FrontierSpec(DistinctConfig):
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


class PilotSpec(DistinctConfig):
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
