"""Make a model that was trained on flawed data follow instructions again, keep what it gained, and say what it cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pyrite.errors import UserError
from pyrite.models import hardware, load
from pyrite.models.hardware import Compute
from pyrite.probe import gate as gating
from pyrite.probe.asked import Asked, opened
from pyrite.probe.output import described
from pyrite.probe.run import Compared
from pyrite.repair import merge, output, proofs, scorecard
from pyrite.repair.config import RepairConfig
from pyrite.repair.report import not_forgotten, report
from pyrite.repair.rows import Rows, is_chat, overlap, plan_rows, read_json, too_few
from pyrite.repair.scorecard import BEFORE, REPAIRED, Scored
from pyrite.repair.settings import GuardSettings, RepairSettings, RepairTraining
from pyrite.repair.sorts import check_classifier, is_classifier, labels_of
from pyrite.steps import Progress, RunOptions, Source, Step, Store, closure, default_store, run_steps
from pyrite.strict import mapping
from pyrite.synth.run import portable_name
from pyrite.train.settings import LoraSettings

if TYPE_CHECKING:
    import altair
    import polars

Finish = Callable[[Sequence[Step]], None]


@dataclass(frozen=True)
class Given:
    """The model as given: a whole one, or an adapter and its base."""

    name: str
    source: Source
    base: Source | None
    labels: tuple[str, ...] = ()
    """A classifier's outputs in order, in lower case; a language model has none."""

    @cached_property
    def whole(self) -> Step | Source:
        """The whole model: as it is, or the step that merges adapter and base."""
        return self.source if self.base is None else merge.merged(self.source, self.base, "merge the adapter as given")


@dataclass(frozen=True)
class Planned:
    """What was asked for, checked as far as it can be before anything runs."""

    config: RepairConfig
    settings: RepairSettings
    proofs: list[proofs.Proof]
    given: Given
    folder: Path
    store: Store
    rows: Rows
    asked: list[Asked]
    gates: list[gating.Gate]
    undone: Mapping[str, Any] | None
    compute: Compute

    @property
    def base_name(self) -> str:
        """The given model's name as it may stand in files."""
        return portable_name(self.given.name, self.given.source)

    @property
    def before(self) -> Path:
        """The folder of the whole model as given, once it is there."""
        return place(self.given.whole, self.store)[0]


@dataclass(frozen=True)
class Proved:
    """One proof: its scorecard, beside the repaired model's and the one's before."""

    scored: Scored
    against_repaired: list[Compared]
    against_before: list[Compared]

    def as_json(self) -> dict[str, Any]:
        """The proof as plain values."""
        return {
            "proof": self.scored.name,
            "scorecards": self.scored.as_json(),
            "against_repaired": [one.as_json() for one in self.against_repaired],
            "against_before": [one.as_json() for one in self.against_before],
        }


@dataclass(frozen=True)
class Repair:
    """The repaired model's folder, both scorecards, what changed, proofs, gates, and all that `--json` tells."""

    folder: Path
    before: Scored
    repaired: Scored
    compared: list[Compared]
    proved: list[Proved]
    gates: list[gating.GateResult]
    told: Mapping[str, Any]
    exit_code: int = 0

    def table(self) -> "polars.DataFrame":
        """What changed on every task, of the repair and of its proofs."""
        from pyrite.repair.objects import table

        return table(self.told)

    def figure(self) -> "altair.VConcatChart | None":
        """The curves, as an Altair chart; None where no step was made."""
        from pyrite.repair.figure import chart

        drawn: altair.VConcatChart | None = chart(self.told)
        return drawn

    def as_json(self) -> dict[str, Any]:
        """The shape that `--json` promises; also the folder's repair.json."""
        return dict(self.told)


def repair(config: RepairConfig) -> Repair:
    """Repair a model, write it with its card, and compare it with the one before; finished steps are never redone.

    Raises:
        UserError: rows that overlap, are too few or cannot be read, options that do not go together, an unknown method,
            task or gate, a model that does not write, an output folder that is in use.
    """
    planned = plan(config)
    store, rows = planned.store, planned.rows
    finish = finisher(config, store)
    try:
        finish([rows.forget, rows.replay])
    except UserError as error:
        raise too_few(error) from error
    shared = overlap(rows, store, config.overlap_limit)
    proofs.check_rows(planned.proofs, rows, store)
    chats = is_chat(rows, store)
    trained = training_step(planned)
    finish([trained])
    models = models_of(planned, trained, chats=chats)
    finish([model for model in models.values() if isinstance(model, Step)])
    scored = score(planned, models, finish)
    before, repaired = scored[BEFORE], scored[REPAIRED]
    compared = scorecard.compared(planned.asked, before, repaired, config)
    proved = [
        Proved(
            scored[proof.name],
            scorecard.compared(planned.asked, repaired, scored[proof.name], config),
            scorecard.compared(planned.asked, before, scored[proof.name], config),
        )
        for proof in planned.proofs
    ]
    gates = scorecard.gate_results(planned.gates, before, repaired, config.seed)
    code = gating.verdict(gates, config.undecided)
    both = [one.as_json() for one in compared]
    first = report(planned, read_json(trained, store, "repair.json"), shared, chats=chats)
    told = {
        **first,
        "notes": [*first["notes"], *(not_forgotten(both) if first["training"]["steps"] else [])],
        **described(repaired.results, config.margin),
        "scorecards": [*before.as_json(), *repaired.as_json()],
        "compared": both,
        "proofs": [one.as_json() for one in proved],
        "gates": [gate.as_json() for gate in gates],
        "exit_code": code,
        "steps": {
            step.label: step.key for step in closure([model for model in models.values() if isinstance(model, Step)])
        },
    }
    output.write(planned.folder, told, store.path(trained.key), [one.told for one in scored.values()])
    return Repair(planned.folder, before, repaired, compared, proved, gates, told, code)


def plan(config: RepairConfig) -> Planned:
    """Everything that can be refused before a step runs is refused here."""
    from pyrite.repair.methods import resolve

    settings = settings_of(config)
    given = find_model(config.model)
    if given.labels:
        check_classifier(settings, resolve(settings.method, settings.options))
        proofs.check_classifier(proofs.parse(config.prove))
    folder = config.out or Path("runs") / f"repair-{output.stem_of(config.model)}"
    store = Store(config.store or default_store())
    rows = plan_rows(config, given.labels)
    output.check_folder(folder, reads=[given.source.path, *config.forget, *config.replay, str(store.root)])
    asked = scorecard.asked_of(config, rows, store, given.labels)
    if given.labels:
        scorecard.check_labels(asked, Path((given.base or given.source).path))
    return Planned(
        config=config,
        settings=settings,
        proofs=proofs.parse(config.prove),
        given=given,
        folder=folder,
        store=store,
        rows=rows,
        asked=asked,
        gates=scorecard.gates_of(config, asked),
        undone=output.undone(config.undoes) if config.undoes is not None else None,
        compute=hardware.choose(config.precision),
    )


def settings_of(config: RepairConfig) -> RepairSettings:
    """The flags as the training step's settings.

    Raises:
        UserError: options that do not go together, an unknown method, or an option that it does not have.
    """
    from pyrite.repair.gates import parse_gates
    from pyrite.repair.methods import resolve

    parse_gates(config.guard_gate)
    try:
        options = {name: float(value) for name, value in (mapping("--option", config.option) or {}).items()}
    except ValueError as error:
        raise UserError("A method's option is a number.", ", ".join(config.option), "--option beta=0.1") from error
    resolve(config.method, options)
    both = set(RepairSettings.model_fields) & set(type(config).model_fields) - {"training", "guard"}
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
            **{name: getattr(config, name) for name in sorted(both)},
            options=options,
            training=training,
            guard=GuardSettings(**guard, gates=config.guard_gate),
        )
    except ValidationError as error:
        found = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise UserError("These options do not go together.", found, "pyrite repair --help") from error


def find_model(name: str) -> Given:
    """Which model is to be repaired? An adapter brings its base.

    Raises:
        UserError: no such model, one that neither writes nor classifies, a classifier whose outputs have no names, or
            a classifier's adapter without its head.
    """
    found = load.resolve(name)
    base = merge.base_of(found.folder) if (found.folder / load.ADAPTER_CONFIG).is_file() else None
    folder = found.folder if base is None else base.folder
    labels = labels_of(folder) if is_classifier(folder) else ()
    if not labels and base is not None and merge.is_of_classifier(found.folder):
        fix = "merge the two into one model folder whose outputs have names (id2label)"
        raise UserError("A classifier's adapter does not name its labels.", f"{found.folder} on {folder}", fix)
    if not labels and not load.is_causal(folder):
        fix = "give a model that writes, or a classifier with its head"
        raise UserError("Repair needs a language model or a classifier.", str(folder), fix)
    load.check_safetensors(folder)
    source = Source(str(found.folder), found.identity)
    return Given(name, source, None if base is None else Source(str(base.folder), base.identity), labels)


def training_step(planned: Planned) -> Step:
    """The step that unlearns. An adapter that is kept stands on its base (`under`); else the two are merged before.

    A tracker is named in the step's configuration, so that asking for one later trains again and sends the curve.
    """
    from pyrite.repair.train import REPAIR

    rows, given = planned.rows, planned.given
    pools = ("forget", "replay", "guard_forget", "guard_replay")
    inputs: dict[str, Step | Source] = {"base": given.whole, **{pool: rows.of(pool) for pool in pools}}
    if given.base is not None and planned.settings.adapter == "keep":
        inputs |= {"base": given.source, "under": given.base}
    chosen: dict[str, Any] = {
        "files": {pool: f"{pool}.jsonl" for pool in pools},
        "settings": planned.settings.model_dump(mode="json"),
        "compute": planned.compute.as_config(),
        "seed": planned.config.seed,
        "base_name": planned.base_name,
    }
    if given.labels:
        chosen["segments"] = True  # rows of pairs tell the model which text is which
    if planned.config.report_to != "none":
        chosen["report_to"] = [planned.config.report_to]
    return Step(REPAIR, chosen, inputs, label=f"repair {output.stem_of(planned.given.name)}: {planned.settings.method}")


def models_of(planned: Planned, trained: Step, *, chats: bool) -> dict[str, Step | Source]:
    """Every whole model that is asked, by its name on the scorecard: before, repaired, and one for each proof."""
    whole = trained
    if planned.settings.save == "adapter":
        whole = merge.merged(trained, planned.given.whole, "merge the repair's adapter")
    models: dict[str, Step | Source] = {BEFORE: planned.given.whole, REPAIRED: whole}
    for proof in planned.proofs:
        models[proof.name] = proofs.step_of(
            proof, whole, planned.rows, planned.config, planned.compute, planned.base_name, chats=chats
        )
    return models


def score(planned: Planned, models: Mapping[str, Step | Source], finish: Finish) -> dict[str, Scored]:
    """Every model's scorecards."""
    asked, store = planned.asked, planned.store
    subjects = {name: scorecard.subject(name, *place(one, store)) for name, one in models.items()}
    steps = {name: scorecard.steps_of(asked, whom) for name, whom in subjects.items()}
    finish([one for some in steps.values() for step in some.values() for one in opened(step)])
    return {
        name: scorecard.read_scores(asked, whom, steps[name], store, planned.config.seed)
        for name, whom in subjects.items()
    }


def place(model: Step | Source, store: Store) -> tuple[Path, str]:
    """Where is a model that is there by now, and what identifies it?"""
    if isinstance(model, Source):
        return Path(model.path), model.identity
    return store.path(model.key), model.key


def finisher(config: RepairConfig, store: Store) -> Finish:
    """Runs what is missing of some steps, within what is left of `--max-time`.

    A finished step whose weights were dropped (by a study that keeps answers only) is run again: they are needed here.
    """
    end = None if config.max_time is None else time.monotonic() + config.max_time * 60

    def finish(steps: Sequence[Step]) -> None:
        left = None if end is None else max(0.0, end - time.monotonic())
        run_steps(list(steps), store, RunOptions(max_seconds=left, weights=True), Progress(quiet=config.quiet))

    return finish
