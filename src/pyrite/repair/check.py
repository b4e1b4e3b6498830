"""Which flags of a repair go together: everything that can be refused, or worked out, from the flags alone."""

import difflib

from pydantic import ValidationError

from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.repair.config import RepairConfig
from pyrite.repair.rows import replay_files
from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining
from pyrite.repair.source_model import SourceModel
from pyrite.repair.weights import METHODS as WEIGHT_METHODS
from pyrite.steps.launch import check_processes, current
from pyrite.train.settings import LoraSettings

ALPHAS = (0.15, 0.3, 0.5, 0.7, 0.85)
"""What is tried where tasks can choose."""
ALPHA = 0.5
"""What is taken where none can."""
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
    if config.kl_to == "before" and check_processes(config.processes) > 1:
        fix = "one process: --processes 1, without torchrun"
        raise UserError("KL to the model before is for one process.", "--kl-to before", fix)
    if not trains and current() is not None:
        detail = f"--method {config.method}, started by torchrun"
        raise UserError("This method trains nothing.", detail, "start it once: pyrite repair …")


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


def settings_of(config: RepairConfig) -> RepairSettings:
    """The flags as the training step's settings.

    Raises:
        UserError: options that do not go together, an unknown method, or an option that it does not have.
    """
    from pyrite.repair.methods import resolve_method
    from pyrite.repair.settings import guard_gates

    guard_gates(config.guard_gate)
    try:
        options = {name: float(value) for name, value in (mapping("--option", config.option) or {}).items()}
    except ValueError as error:
        raise UserError("A method's option is a number.", ", ".join(config.option), "--option beta=0.1") from error
    if config.method not in WEIGHT_METHODS:
        check_method(config.method)
        resolve_method(config.method, options)
    shared_names = set(RepairSettings.model_fields) & set(type(config).model_fields) - {
        "training",
        "guard",
        "processes",
    }
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
            processes=check_processes(config.processes),
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
