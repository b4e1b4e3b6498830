"""What a repair is asked for: models, rows, tasks, gates. Everything that can be refused before a step runs is refused here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrite.errors import UserError
from pyrite.models import hardware
from pyrite.models.hardware import Compute
from pyrite.models.load import portable_name
from pyrite.probe import gate as gating
from pyrite.probe.probe_task import ProbeTask
from pyrite.repair import proofs, run_folder, scorecard
from pyrite.repair.check import alphas_of, check_sides, check_weights, groups_of, settings_of
from pyrite.repair.config import RepairConfig
from pyrite.repair.model_type import check_classifier
from pyrite.repair.rows import RowSteps, plan_rows, replay_files
from pyrite.repair.settings import RepairSettings
from pyrite.repair.source_model import SourceModel, check_same_type, find_model
from pyrite.repair.weights import METHODS as WEIGHT_METHODS
from pyrite.steps import Store, open_store

SELECT = 0.3
"""Share of the items that choose among several alphas."""


@dataclass(frozen=True)
class RepairPlan:
    """What was asked for, checked as far as it can be before anything runs."""

    config: RepairConfig
    settings: RepairSettings
    proofs: list[proofs.Proof]
    harmed: SourceModel
    original: SourceModel | None
    """The model before the training that did harm (`--before`)."""
    forgetter: SourceModel | None
    alphas: tuple[float, ...]
    groups: Mapping[str, float]
    folder: Path
    store: Store
    rows: RowSteps
    tasks: list[ProbeTask]
    lost: tuple[str, ...]
    """Names of the tasks that say what was lost."""
    gained: tuple[str, ...]
    gates: list[gating.Gate]
    undone: Mapping[str, Any] | None
    compute: Compute

    @property
    def trains(self) -> bool:
        """Does the method train, or does it work on weights alone?"""
        return self.config.method not in WEIGHT_METHODS

    @property
    def chooses(self) -> bool:
        """Is one of several candidates to be chosen?"""
        return not self.trains and len(self.alphas) > 1

    @property
    def select(self) -> float:
        """The share of the items that chooses, where something is to be chosen."""
        return SELECT if self.config.select is None else self.config.select

    @property
    def base_name(self) -> str:
        """The given model's name as it may stand in files."""
        return portable_name(self.harmed.name, self.harmed.source)


def plan_repair(config: RepairConfig) -> RepairPlan:
    """What is asked for, checked.

    Raises:
        UserError: rows, models, options, tasks or gates that are not there or do not go together; an output folder that is
            in use.
    """
    trains = config.method not in WEIGHT_METHODS
    settings = settings_of(config)
    harmed = find_model(config.model)
    check_sides(config, trains=trains, has_base=harmed.base is not None)
    original = original_of(config, harmed)
    forgetter = None if config.forgetter is None else find_model(config.forgetter)
    check_weights(config, harmed, forgetter, trains=trains)
    if original is not None:
        check_same_type(harmed, original)
    if harmed.labels:
        from pyrite.repair.methods import resolve_method

        if trains:
            check_classifier(settings, resolve_method(settings.method, settings.options))
        proofs.refuse_relearning(proofs.parse_proofs(config.prove))
    folder = (
        config.out
        or Path("runs") / f"repair-{run_folder.file_stem(config.model)}{'' if trains else f'-{config.method}'}"
    )
    store = open_store(config.store)
    rows = plan_rows(config, harmed.labels, original, trains=trains)
    reads = [model.source.path for model in (harmed, original, forgetter) if model is not None]
    run_folder.check_repair_folder(folder, reads=[*reads, *config.forget, *replay_files(config)[0], str(store.root)])
    tasks = scorecard.scorecard_tasks(config, rows, store, harmed.labels)
    if harmed.labels:
        scorecard.check_label_tasks(tasks, harmed.folder)
    lost, gained = (scorecard.flag_names(config, flag) for flag in ("task", "gain"))
    duplicates = [name for name in {*lost, *gained} if (*lost, *gained).count(name) > 1]
    if duplicates:
        fix = "name each once, under --task or under --gain; two files of one task cannot be told apart by name"
        raise UserError("A task is asked twice.", ", ".join(sorted(duplicates)), fix)
    return RepairPlan(
        config=config,
        settings=settings,
        proofs=proofs.parse_proofs(config.prove),
        harmed=harmed,
        original=original,
        forgetter=forgetter,
        alphas=alphas_of(config, trains=trains),
        groups=groups_of(config),
        folder=folder,
        store=store,
        rows=rows,
        tasks=tasks,
        lost=lost,
        gained=gained,
        gates=scorecard.gates_of(config, tasks),
        undone=run_folder.undone(config.undoes) if config.undoes is not None else None,
        compute=hardware.choose(config.precision),
    )


def original_of(config: RepairConfig, harmed: SourceModel) -> SourceModel | None:
    """The model before: as named, or the base of an adapter that is interpolated; None where there is none."""
    if config.before is not None:
        return find_model(config.before)
    if config.method in WEIGHT_METHODS and harmed.base is not None:
        return SourceModel(harmed.base.path, harmed.base, None, harmed.labels)
    return None
