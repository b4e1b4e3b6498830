"""What a loop file says: the data in question, what people wrote, the model, and the options of each part.

Files are named as in `--data`; `study:ARM` stands for the rows (or, as `model`, for the model) of an arm of the loop's own
study; in a study's data and in further audits, `loop:clean`, `loop:flagged` and `loop:made` stand for the rows that the
audit cleared, those that it flagged, and those that the recipe made; in further audits, `grammar:NAME` stands for the
rows of one of the loop's grammars.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pyrite.audit.config import AuditOptions
from pyrite.config_base import ConfigBase, DistinctConfig, from_yaml, yaml_text
from pyrite.errors import UserError
from pyrite.probe.config import ProbeOptions
from pyrite.repair.config import RepairOptions
from pyrite.study.spec_data import GrammarSpec

STUDY = "study:"
GRAMMAR = "grammar:"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""What a name may be that becomes a folder's."""
LOOP = ("loop:clean", "loop:flagged", "loop:made")
OURS = ("out", "store", "quiet", "max_time", "engine", "shard", "gate", "undecided")
"""Options that the loop sets for all its parts; gates stand under `gates`."""
SHARED = ("seed", "precision", "max_tokens")
"""Options that probe and repair have in common: with a repair they stand there, once."""
ASKED_AGAIN = (
    *("task", "items", "skip", "max_new_tokens", "margin"),
    *("judge_url", "judge_model", "judge_votes", "judge_key_variable"),
)
"""What the probe says of its questions, and the repair asks again."""


def refuse_reserved(part: ConfigBase, reserved: tuple[str, ...]) -> None:
    """A part's options may not say what the loop itself says."""
    refused = sorted(part.model_fields_set & {*OURS, *reserved})
    if refused:
        raise ValueError(f"{', '.join(refused)}: the loop sets this itself")


class AuditPart(AuditOptions, DistinctConfig):
    """Options of `pyrite audit` but for its references and outputs, which the loop knows."""

    @model_validator(mode="after")
    def _own(self) -> "AuditPart":
        refuse_reserved(self, ("reference", "flagged", "clean", "workers"))
        return self


class MoreAudit(AuditOptions, DistinctConfig):
    """A further comparison, beside the one that divides the rows."""

    data: tuple[str, ...] = Field(
        min_length=1, description="the data set: files, study:ARM, grammar:NAME, loop:clean or loop:flagged"
    )

    @model_validator(mode="after")
    def _own(self) -> "MoreAudit":
        refuse_reserved(self, ("flagged", "clean", "workers"))
        return self


class ProbePart(ProbeOptions, DistinctConfig):
    """Options of `pyrite probe`: what the model is asked, before the repair and after it."""

    @model_validator(mode="after")
    def _own(self) -> "ProbePart":
        refuse_reserved(self, ("predictions", "export", "backend", "base_url"))
        return self


class RepairPart(RepairOptions, DistinctConfig):
    """Options of `pyrite repair` but for its rows and its tasks: those are the audit's, and the probe's."""

    forget: tuple[str, ...] = Field((), description="set by the loop")
    replay: tuple[str, ...] = Field((), description="set by the loop")

    @model_validator(mode="after")
    def _own(self) -> "RepairPart":
        refuse_reserved(self, ("forget", "replay", *ASKED_AGAIN))
        return self


class LoopSpec(DistinctConfig):
    """A whole loop. Which parts run is said by which keys are there: audit always, the others where they are named."""

    loop: str = Field(pattern=NAME, description="its name; the run folder is called so")
    says: str = Field("", description="one sentence on what it is")
    synthetic: tuple[str, ...] = Field(
        min_length=1, description="the data in question: files below --data, hf://org/name, or study:ARM"
    )
    human: tuple[str, ...] = Field(
        min_length=1, description="what people wrote, each a source of its own: the audit's references, and replay rows"
    )
    audit: AuditPart = Field(default_factory=AuditPart, description="options of the audit")
    audits: dict[Annotated[str, Field(pattern=NAME)], MoreAudit] = Field(
        default_factory=dict,
        description="further comparisons, by name; where the study runs first, those that need nothing of it run before it",
    )
    grammars: dict[Annotated[str, Field(pattern=NAME)], GrammarSpec] = Field(
        default_factory=dict, description="rows that a grammar writes, by name, for further audits"
    )
    synth: str | None = Field(
        None,
        description="a recipe (YAML below --data) that makes rows anew; its rows may be loop:clean; they are audited",
    )
    study: str | None = Field(None, description="a study file below --data, or a bundled one")
    model: str | None = Field(
        None,
        description="the model: packaged:NAME, a folder, org/name[@revision], or study:ARM (first start and seed, largest size)",
    )
    probe: ProbePart | None = Field(None, description="what the model is asked, before and after")
    repair: RepairPart | None = Field(None, description="unlearn the flagged rows: options of the repair")
    forget: Literal["flagged", "all", "none"] = Field(
        "flagged",
        description="rows to unlearn: those that the audit flagged, or all; none: of a repair that needs no rows (method: interpolate)",
    )
    replay: tuple[Literal["human", "clean"], ...] = Field(
        ("human", "clean"), min_length=1, description="rows to replay: people's, and those that the audit cleared"
    )
    gates: tuple[str, ...] = Field(
        (), description="'PART: CONDITION' with PART audit, probe, study or repair; they set the exit code"
    )

    @property
    def rows(self) -> tuple[str, ...]:
        """Every row file that the audits read."""
        further = (row for audit in self.audits.values() for row in (*audit.data, *audit.reference))
        return (*self.synthetic, *self.human, *further)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are named: the one that is asked and repaired, and the one before the harm."""
        named = (self.model, self.repair.before if self.repair else None)
        return tuple(name for name in named if name is not None)

    @property
    def study_first(self) -> bool:
        """Must the study run before the audit, because what it makes is audited or repaired?"""
        return any(name.startswith(STUDY) for name in (*self.rows, *self.models))

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts in the order in which they run."""
        requested = {
            "audit": True,
            "synth": self.synth,
            "probe": self.probe,
            "repair": self.repair,
            "study": self.study,
        }
        order = ["audit", "synth", "study", "probe", "repair"]
        if self.study_first:
            order = ["audits", "study", "audit", "synth", "probe", "repair"]
            requested["audits"] = bool(self.audits_at_once)
        return tuple(name for name in order if requested[name] not in (None, False))

    @property
    def audits_at_once(self) -> dict[str, MoreAudit]:
        """The further comparisons whose rows are there before any other part has run."""
        rows_by_audit = {name: (*audit.data, *audit.reference) for name, audit in self.audits.items()}
        return {
            name: self.audits[name]
            for name, rows in rows_by_audit.items()
            if not any(row.startswith((STUDY, "loop:")) for row in rows)
        }

    @model_validator(mode="after")
    def _together(self) -> "LoopSpec":
        if (self.probe or self.repair) and self.model is None:
            raise ValueError("model: probe and repair need one")
        if self.model is not None and not (self.probe or self.repair):
            raise ValueError("model: neither probe nor repair is asked for, so no model is needed")
        repeated = sorted(self.probe.model_fields_set & set(SHARED)) if self.probe and self.repair else []
        if repeated:
            raise ValueError(f"probe.{repeated[0]}: say it under repair, for both")
        extra = sorted(self.probe.model_fields_set - {*SHARED, *ASKED_AGAIN}) if self.probe and self.repair else []
        if extra:
            raise ValueError(f"probe.{extra[0]}: a repair cannot ask the same again with it; leave out one of the two")
        own_rows = [row for row in (*self.synthetic, *self.human) if row in LOOP]
        if own_rows:
            raise ValueError(f"{own_rows[0]}: that is what the audit of these very rows leaves; name files")
        grammars = [row.removeprefix(GRAMMAR) for row in self.rows if row.startswith(GRAMMAR)]
        unknown = sorted(set(grammars) - set(self.grammars))
        if unknown:
            raise ValueError(f"{GRAMMAR}{unknown[0]}: grammars names {', '.join(self.grammars) or 'none'}")
        if "made" in self.audits:
            raise ValueError("audits: the name 'made' is that of the audit of the recipe's rows")
        if self.study_first and self.study is None:
            raise ValueError("study: rows or a model of a study are named (study:ARM), and no study")
        if "clean" in self.replay and self.forget == "all" and "replay" in self.model_fields_set:
            raise ValueError("replay: with forget: all, cleared rows are among those to forget; leave out clean")
        if self.forget == "none" and self.repair and self.repair.method != "interpolate":
            raise ValueError("forget: none goes with repair.method: interpolate; other methods need rows")
        if self.synth and not self.study:
            raise ValueError("synth: the rows it makes are for a study; name one")
        for gate in self.gates:
            part = gate.partition(":")[0].strip()
            gated = [name for name in self.parts if name not in ("synth", "audits")]
            if part not in gated:
                named = f"gates: '{gate}' names no part that runs"
                raise ValueError(f"{named}; write PART: CONDITION, PART one of {', '.join(gated)}")
        return self

    def gates_of(self, part: str) -> tuple[str, ...]:
        """The conditions on one part, without its name."""
        conditions = [gate.partition(":") for gate in self.gates]
        return tuple(condition.strip() for name, _, condition in conditions if name.strip() == part)


def bundled() -> Mapping[str, Path]:
    """The loop files that come with Pyrite, by name."""
    module_file = Path(__file__).resolve()
    for folder in (module_file.parents[1] / "loops", module_file.parents[3] / "loops"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


def load_loop(name: str) -> LoopSpec:
    """Read and check a loop file; every mistake is named with its line and what to write instead.

    Raises:
        UserError: no such file, no YAML, an unknown key, or a value that does not fit.
    """
    path = Path(name)
    if not path.is_file():
        path = bundled().get(name, path)
    if not path.is_file():
        loop_names = ", ".join(bundled()) or "none"
        raise UserError("That loop file is not there.", name, f"give a YAML file, or one of: {loop_names}")
    return from_yaml(
        LoopSpec, yaml_text(path, "loop file"), str(path), what="loop file", see="docs/loop.md lists every key"
    )


def named_in(study: Any) -> tuple[str, ...]:
    """Which rows of the loop does a study read?"""
    return tuple(file for data in study.data.values() for file in getattr(data, "files", ()) if file in LOOP)
