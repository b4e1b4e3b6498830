"""What a repair is asked for: models, rows, tasks, gates. Everything that can be refused before a step runs is refused here."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.probe import gate as gating
from pyrite.probe.probe_task import ProbeTask
from pyrite.repair import merge, output, proofs, scorecard
from pyrite.repair.config import RepairConfig
from pyrite.repair.model_type import check_classifier, is_classifier, labels_of
from pyrite.repair.rows import RowSteps, plan_rows, replay_files
from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining
from pyrite.repair.weights import METHODS as WEIGHT_METHODS
from pyrite.steps import Source, Step, Store, default_store
from pyrite.synth.run import portable_name
from pyrite.train.settings import LoraSettings

ALPHAS = (0.15, 0.3, 0.5, 0.7, 0.85)
"""What is tried where tasks can choose."""
ALPHA = 0.5
"""What is taken where none can."""
SELECT = 0.3
"""Share of the items that choose among several alphas."""


@dataclass(frozen=True)
class SourceModel:
    """A model as given: a whole one, or an adapter and its base."""

    name: str
    source: Source
    base: Source | None
    labels: tuple[str, ...] = ()
    """A classifier's outputs in order, in lower case; a language model has none."""

    @cached_property
    def full_model(self) -> Step | Source:
        """The whole model: as it is, or the step that merges adapter and base."""
        return (
            self.source
            if self.base is None
            else merge.merged_model_step(self.source, self.base, "merge the adapter as given")
        )

    @property
    def folder(self) -> Path:
        """Where its configuration lies: the whole model's folder, or the base's."""
        return Path((self.base or self.source).path)


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
        config.out or Path("runs") / f"repair-{output.file_stem(config.model)}{'' if trains else f'-{config.method}'}"
    )
    store = Store(config.store or default_store())
    rows = plan_rows(config, harmed.labels, original, trains=trains)
    reads = [model.source.path for model in (harmed, original, forgetter) if model is not None]
    output.check_repair_folder(folder, reads=[*reads, *config.forget, *replay_files(config)[0], str(store.root)])
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
        undone=output.undone(config.undoes) if config.undoes is not None else None,
        compute=hardware.choose(config.precision),
    )


TRAINING = (
    *("forget_weight", "replay_weight", "kl_weight", "tokens", "steps", "forget_rows", "replay_rows", "long_rows"),
    *("processes", "adapter", "training", "weight_decay", "max_grad_norm", "warmup", "schedule", "optimizer"),
    *(
        "lora_rank",
        "lora_alpha",
        "guard_every_tokens",
        "guard_rows",
        "guard_forget_rows",
        "guard_replay_rise",
        "guard_kl",
    ),
    *("guard_entropy_ratio", "guard_repetition_rise", "guard_answers", "guard_answer_tokens", "guard_gate"),
    *("self_tokens", "self_temperature", "undoes", "report_to"),
)
"""Flags of methods that train."""
UNUSED = {"interpolate": (*TRAINING, "learning_rate"), "negate": TRAINING}
"""Flags that a method of weights does not read; `negate` may train the model of the forget rows."""


def is_set(config: RepairConfig, name: str) -> bool:
    """Does a flag stand at another value than its default?"""
    return bool(getattr(config, name) != type(config).model_fields[name].get_default(call_default_factory=True))


def check_sides(config: RepairConfig, *, trains: bool, has_base: bool = False) -> None:
    """Refuse a repair without the rows that its method needs, and options that its method does not read.

    Raises:
        UserError: which, and what to write instead.
    """
    if trains and not (config.forget and config.replay):
        absent = " and ".join(f"--{side}" for side in ("forget", "replay") if not getattr(config, side))
        fix = "give both; or, with the model before the harm, --before MODEL --method interpolate, which needs no rows"
        raise UserError(f"The method {config.method} needs rows to forget and to replay.", f"no {absent}", fix)
    strange = {
        "--alpha": bool(config.alpha) and trains and config.before is None,
        "--group": bool(config.group) and trains and not config.alpha and config.start_alpha is None,
        "--forgetter": config.forgetter is not None and config.method != "negate",
        "--start-alpha": config.start_alpha is not None and not trains,
        "--kl-to": config.kl_to != "given" and not trains,
        "--select": config.select is not None and trains,
        "--option": bool(config.option) and not trains,
    }
    if not trains:
        strange |= {f"--{name.replace('_', '-')}": is_set(config, name) for name in UNUSED[config.method]}
    wrong = [flag for flag, is_set_flag in strange.items() if is_set_flag]
    if wrong:
        fix = "leave it out" if trains is False or config.before else "leave it out, or give --before MODEL"
        raise UserError("These options do not go together.", f"{wrong[0]} with --method {config.method}", fix)
    if not trains and replay_files(config)[1]:
        raise UserError("Nothing is replayed without training.", "--replay self=FILE", "--replay FILE")
    needs = {
        "--gain": bool(config.gain),
        "--start-alpha": config.start_alpha is not None,
        "--kl-to before": config.kl_to == "before",
        "--replay self=FILE": any(file.startswith("self=") for file in config.replay),
    }
    for flag, is_set_flag in needs.items():
        if is_set_flag and config.before is None and (trains or not has_base):
            fix = "--before MODEL: the model before the harmful training"
            raise UserError("This needs the model before.", flag, fix)
    if config.kl_to == "before" and config.processes > 1:
        raise UserError("KL to the model before is for one process.", "--processes", "--processes 1")


def check_weights(config: RepairConfig, harmed: SourceModel, forgetter: SourceModel | None, *, trains: bool) -> None:
    """Refuse a repair in weight space without its models or with an alpha that it cannot take.

    Raises:
        UserError: no model before, no model of the forget rows, an alpha above 1, several alphas and nothing to choose by.
    """
    if trains:
        return
    if config.before is None and harmed.base is None:
        fix = "--before MODEL: the model before the training that did harm"
        raise UserError(f"The method {config.method} needs the model before.", config.model, fix)
    high = [alpha for alpha in (*config.alpha, *groups_of(config).values()) if alpha > 1]
    if config.method == "interpolate" and high:
        detail = f"--alpha {high[0]:g}"
        raise UserError("Between two models alpha is at most 1.", detail, "0: the model before; 1: the harmed one")
    if config.method == "negate" and forgetter is None and (not config.forget or harmed.labels):
        fix = "--forgetter MODEL" + (
            ", or --forget FILE to train one" if not harmed.labels else " (train one: pyrite study)"
        )
        raise UserError("Negation needs a model trained on the rows to forget.", config.method, fix)
    if len(config.alpha) > 1 and not (config.task and config.gain):
        fix = "--task TASK (what was lost) and --gain TASK (what was gained), or one --alpha"
        raise UserError("There is nothing to choose an alpha by.", f"{len(config.alpha)} alphas", fix)
    if config.select is not None and len(alphas_of(config, trains=trains)) == 1:
        raise UserError("One alpha leaves nothing to choose.", "--select", "give several --alpha, or leave it out")


def alphas_of(config: RepairConfig, *, trains: bool) -> tuple[float, ...]:
    """The alphas in question, each once."""
    if config.alpha or trains:
        return tuple(dict.fromkeys(config.alpha))
    return ALPHAS if config.task and config.gain else (ALPHA,)


def groups_of(config: RepairConfig) -> dict[str, float]:
    """The alphas of groups of weights, by pattern.

    Raises:
        UserError: a text that is no PATTERN=ALPHA.
    """
    try:
        groups = {name: float(value) for name, value in (mapping("--group", config.group) or {}).items()}
    except ValueError as error:
        detail = ", ".join(config.group)
        raise UserError("A group's alpha is a number.", detail, "--group '*layers.0.*=0.2'") from error
    for name, value in groups.items():
        if not 0 <= value <= 1:
            raise UserError("A group's alpha lies between 0 and 1.", f"--group {name}={value:g}", "0 to 1")
    return groups


def original_of(config: RepairConfig, harmed: SourceModel) -> SourceModel | None:
    """The model before: as named, or the base of an adapter that is interpolated; None where there is none."""
    if config.before is not None:
        return find_model(config.before)
    if config.method in WEIGHT_METHODS and harmed.base is not None:
        return SourceModel(harmed.base.path, harmed.base, None, harmed.labels)
    return None


def check_same_type(harmed: SourceModel, original: SourceModel) -> None:
    """Refuse a model before that is of another sort, or a classifier of other labels.

    Raises:
        UserError: which.
    """
    if bool(harmed.labels) != bool(original.labels):
        detail = f"{harmed.name} and {original.name}: one is a classifier"
        raise UserError("The two models are not alike.", detail, "give the model that was trained further")
    if harmed.labels != original.labels:
        detail = f"{harmed.name} says {', '.join(harmed.labels)}; {original.name} {', '.join(original.labels)}"
        fix = "give the model before with the same outputs in the same order (id2label)"
        raise UserError("The two classifiers' outputs differ.", detail, fix)


def settings_of(config: RepairConfig) -> RepairSettings:
    """The flags as the training step's settings.

    Raises:
        UserError: options that do not go together, an unknown method, or an option that it does not have.
    """
    from pyrite.repair.gates import parse_gates
    from pyrite.repair.methods import resolve_method

    parse_gates(config.guard_gate)
    try:
        options = {name: float(value) for name, value in (mapping("--option", config.option) or {}).items()}
    except ValueError as error:
        raise UserError("A method's option is a number.", ", ".join(config.option), "--option beta=0.1") from error
    if config.method not in WEIGHT_METHODS:
        check_method(config.method)
        resolve_method(config.method, options)
    shared_names = set(RepairSettings.model_fields) & set(type(config).model_fields) - {"training", "guard"}
    named = ("learning_rate", "weight_decay", "max_grad_norm", "warmup", "schedule", "optimizer")
    lora = RepairTraining().lora.model_dump() | {"rank": config.lora_rank, "alpha": config.lora_alpha}
    guard = {
        name: getattr(config, f"guard_{name}") for name in GuardSettings.model_fields if name != "gates"
    }  # fmt: skip
    try:
        training = RepairTraining(
            method=config.training, lora=LoraSettings(**lora), **{name: getattr(config, name) for name in named}
        )
        return RepairSettings(
            **{name: getattr(config, name) for name in sorted(shared_names)},
            options=options,
            training=training,
            guard=GuardSettings(**guard, gates=config.guard_gate),
        )
    except ValidationError as error:
        detail = "; ".join(str(problem["msg"]).removeprefix("Value error, ") for problem in error.errors())
        raise UserError("These options do not go together.", detail, "pyrite repair --help") from error


def check_method(name: str) -> None:
    """Refuse a method that is none, of either sort.

    Raises:
        UserError: with the nearest one's name.
    """
    from pyrite.repair.methods import METHODS

    method_names = (*WEIGHT_METHODS, *METHODS)
    if name not in method_names:
        near = difflib.get_close_matches(name.lower(), method_names, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError("There is no such method.", name, f"{hint}there are: {', '.join(method_names)}")


def find_model(name: str) -> SourceModel:
    """Which model is meant? An adapter brings its base.

    Raises:
        UserError: no such model, one that neither writes nor classifies, a classifier whose outputs have no names, or
            a classifier's adapter without its head.
    """
    resolved = load.resolve(name)
    base = merge.base_of(resolved.folder) if (resolved.folder / load.ADAPTER_CONFIG).is_file() else None
    folder = resolved.folder if base is None else base.folder
    labels = labels_of(folder) if is_classifier(folder) else ()
    if not labels and base is not None and merge.is_of_classifier(resolved.folder):
        fix = "merge the two into one model folder whose outputs have names (id2label)"
        raise UserError("A classifier's adapter does not name its labels.", f"{resolved.folder} on {folder}", fix)
    if not labels and not load.is_causal(folder):
        fix = "give a model that writes, or a classifier with its head"
        raise UserError("Repair needs a language model or a classifier.", str(folder), fix)
    load.check_safetensors(folder)
    source = Source(str(resolved.folder), resolved.identity)
    return SourceModel(name, source, None if base is None else Source(str(base.folder), base.identity), labels)
