"""The steps of an audit: every file is read once, the sample is compared flaw by flaw."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyrite.audit.compare import COMPARE
from pyrite.audit.config import AuditConfig
from pyrite.audit.flaw import MODEL_READS, Flaw, Need
from pyrite.audit.flaws import BUILT_IN
from pyrite.audit.flaws.registry import FLAWS, plugin_settings
from pyrite.audit.gather import DATA, SAMPLE, TOTALS
from pyrite.audit.human_sources import SOURCES
from pyrite.audit.input_files import (
    check_references,
    evaluation_sets,
    file_input,
    reference_files,
    size_of,
    source_labels,
)
from pyrite.audit.reading import FIRST_LOOK, INPUT_NAMES, reading, with_names
from pyrite.audit.spans import FILE, NUMBERED, SPANS, division_of
from pyrite.audit.stream import STREAM
from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import is_hub, name_in_place
from pyrite.steps import Cost, Source, Step


@dataclass(frozen=True)
class Planned:
    """The steps that read the files, by population and number of the file, data first: `files` those that stand for each file,
    with its counts and its sample; `spans` those that read it, in order (of a small file: the same one). `resources`: the
    tokenizer and the evaluation sets by the names of inputs, `against` the names of the latter."""

    flaws: Sequence[str]
    files: Mapping[tuple[str, int], Step]
    spans: Mapping[tuple[str, int], Sequence[Step]]
    totals: Step
    sample: Step
    resources: Mapping[str, Source]
    against: Sequence[str]

    def reading_steps(self) -> list[Step]:
        """The steps that read, of all files."""
        return [step for steps in self.spans.values() for step in steps]


def selected_flaws(only: Sequence[str]) -> list[str]:
    """The names of the flaws to look for, in the order of `FLAWS`; all where `only` names none.

    Raises:
        UserError: a name of no flaw.
    """
    names = [name.strip() for text in only for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FLAWS]
    if unknown:
        raise UserError("That is no flaw that Pyrite looks for.", ", ".join(unknown), f"--only with {', '.join(FLAWS)}")
    return [name for name in FLAWS if not names or name in names]


def needing(need: Need, names: Iterable[str]) -> list[str]:
    """Those of these flaws that need it."""
    return [name for name in names if need in FLAWS[name].needs]


def processes(config: AuditConfig) -> int:
    """How many processes read a large file, or compare."""
    return config.workers or min(8, os.cpu_count() or 1)


def plan(config: AuditConfig, flaws: Sequence[str]) -> Planned:
    """The steps that read every file. No model library is loaded for them."""
    sets = evaluation_sets(config.against)
    resources = shared_resources(config, flaws, sets)
    if not sets:
        flaws = [name for name in flaws if name not in needing("evaluation_sets", flaws)]
    against = sorted(sets) if needing("evaluation_sets", flaws) else []
    streamed = [name for name in flaws if FLAWS[name].stream is not None]
    inputs_of = {path: file_input(path, "data set") for path in config.data}
    inputs_of |= {path: file_input(path, "reference") for path in reference_files(config.reference)}
    for need in model_reads(flaws):
        reading(config, need)  # a model that cannot be read ends the audit before any row is read
    check_references(config, inputs_of)
    files = [(DATA, shard, DATA, path) for shard, path in enumerate(config.data)]
    labels = source_labels(config.reference)
    files += [(f"reference {at}", 0, label, path) for at, (path, label) in enumerate(labels)]
    spans = {
        (name, shard): stream(config, name, label, inputs_of[path], streamed, against, resources)
        for name, shard, label, path in files
    }
    whole_files = {place: steps[0] if len(steps) == 1 else whole_file(config, steps) for place, steps in spans.items()}
    names = list(dict.fromkeys(name for name, _ in spans))
    numbered = {
        (name, number): step
        for name in names
        for number, step in enumerate(step for place, steps in spans.items() if place[0] == name for step in steps)
    }
    settings = {"against": against, "seed": config.seed, "flaws": streamed, **plugin_settings(streamed)}
    totals = Step(
        TOTALS, {**as_inputs(numbered)[0], **settings}, {**as_inputs(numbered)[1], **resources}, label="whole data set"
    )
    listed, inputs = as_inputs(whole_files)
    sample = Step(SAMPLE, {**listed, "sample": config.sample}, inputs, label="sample")
    return Planned(flaws, whole_files, spans, totals, sample, resources, against)


def as_inputs(steps: Mapping[tuple[str, int], Step]) -> tuple[dict[str, Any], dict[str, Step | Source]]:
    """Steps by population and number as a configuration, and as the inputs that it names."""
    return {"files": [list(name) for name in steps]}, {
        f"{name} {number}": step for (name, number), step in steps.items()
    }


def shared_resources(config: AuditConfig, flaws: Sequence[str], sets: Mapping[str, str]) -> dict[str, Source]:
    """What these flaws need beside rows, by the names of inputs: the tokenizer, and the evaluation sets.

    Raises:
        UserError: an evaluation set on the hub, or one that is not there.
    """
    from pyrite.models import load

    resources: dict[str, Source] = {}
    if needing("tokenizer", flaws):
        model = load.resolve(config.tokenizer or config.model, tokenizer_only=True)
        resources["tokenizer"] = Source(str(model.folder), model.identity)
    if needing("evaluation_sets", flaws):
        for path in filter(is_hub, sets.values()):
            fix = "download it (hf download --repo-type dataset ORG/NAME) and name its file"
            raise UserError("An evaluation set is read from a file.", path, fix)
        resources |= {f"against {name}": file_input(path, "evaluation set") for name, path in sets.items()}
    return resources


def inputs_for(flaw: Flaw, resources: Mapping[str, Source]) -> dict[str, Step | Source]:
    """Those of the resources that a flaw needs."""
    return {
        name: source
        for name, source in resources.items()
        if ("tokenizer" if name == "tokenizer" else "evaluation_sets") in flaw.needs
    }


def draws_for(config: AuditConfig, flaws: Sequence[str]) -> int:
    """How many draws of the null: as asked, and at least so many that one measure alone can pass Holm's correction."""
    from math import ceil

    return max(config.permutations, ceil(2 * sum(len(FLAWS[name].statistics) for name in flaws) / config.alpha))


def nll_reading(config: AuditConfig, planned: Planned, size: int, before: Step | None = None) -> Step:
    """The step in which the causal model reads so many rows of each side; `before`: the step of the first look."""
    how, steps = reading(config, "nll"), []
    sources = len({label for _, label, _ in references(planned)})
    inputs: dict[str, Step | Source] = {"sample": planned.sample}
    for stream, _, files in references(planned):
        label = f"{stream.label.removesuffix(': read')}: likelihoods"
        first = how.step(FIRST_LOOK // files + 1, {"file": stream}, label)
        each = max(FIRST_LOOK, size // sources) // files + 1
        # the first look's own step of this file, which does not know of the data
        steps.append(first if before is None else how.step(each, {"file": stream, **dict(with_names([first]))}, label))
    earlier = {} if before is None else dict(with_names([before]))
    for part in range(how.parts):
        steps.append(
            how.step(
                size, {**inputs, **earlier}, f"data: likelihoods of {size} rows, {part + 1} of {how.parts}", part=part
            )
        )
    return replace(how.step(size, inputs | dict(with_names(steps)), "likelihoods"), cost=Cost())


def embedding_reading(config: AuditConfig, planned: Planned) -> Step:
    """The step in which the embedder reads the sample."""
    how, steps = reading(config, "embeddings"), []
    inputs: dict[str, Step | Source] = {"sample": planned.sample}
    for stream, _, files in references(planned):
        label = f"{stream.label.removesuffix(': read')}: embeddings"
        steps.append(how.step(config.sample // files + 1, {"file": stream}, label))
    for part in range(how.parts):
        step = how.step(None, inputs, f"data: embeddings, {part + 1} of {how.parts}", part=part)
        steps.append(replace(step, cost=how.cost(config.sample // how.parts)))
    return how.step(None, inputs | dict(with_names(steps)), "embeddings")


def references(planned: Planned) -> list[tuple[Step, str, int]]:
    """The steps of the references' files, each with its source's name and how many files that has."""
    files = [(step, str(step.config["source"])) for (name, _), step in planned.files.items() if name != DATA]
    names = [name for _, name in files]
    return [(step, name, names.count(name)) for step, name in files]


WORTH_IT = 20.0
"""Seconds of reading from which on further processes are started: each loads the libraries and the model."""
BYTES_A_SECOND = 2e6
"""What one process reads with all flaws, about (experiment log)."""


def readers(config: AuditConfig, flaws: Sequence[str], rows: int) -> int:
    """How many processes compare, or read so many rows of the sample: where a model reads, one on a GPU; on a CPU as
    many as are asked for, fit into memory and are worth their start."""
    readings = [reading(config, need) for need in model_reads(flaws)]
    if not readings:
        return min(processes(config), max(1, len(flaws)))
    few = min(rows, 3 * FIRST_LOOK)
    seconds = sum(how.cost(few if how.need == "nll" else 2 * rows).seconds for how in readings)
    if readings[0].compute.device != "cpu" or seconds < WORTH_IT:
        return 1
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else 2**33
    return max(1, min(processes(config), int(0.7 * room // max(1, 2 * max(how.bytes for how in readings)))))


def model_reads(flaws: Iterable[str]) -> list[Need]:
    """What models must read for these flaws, each once."""
    return [need for need in sorted(MODEL_READS) if needing(need, flaws)]


def comparisons(config: AuditConfig, planned: Planned, nll: Step | None = None) -> dict[str, Step]:
    """The step that compares, for each flaw, with the models that read the sample for it; `nll`: the step in which the
    causal model reads, by default at the first look."""
    reads: dict[Need, Step] = {}
    for need in model_reads(planned.flaws):
        if need == "nll":
            reads[need] = nll or nll_reading(config, planned, min(FIRST_LOOK, config.model_sample))
        else:
            reads[need] = embedding_reading(config, planned)
    sources = sources_of(config, planned, reads)
    steps = {}
    for name in planned.flaws:
        flaw = FLAWS[name]
        draws = draws_for(config, planned.flaws) * (2 if flaw.two_looks and config.model_sample > FIRST_LOOK else 1)
        settings = {
            "flaw": name,
            "against": list(planned.against) if "evaluation_sets" in flaw.needs else [],
            "permutations": draws,
            "seed": config.seed,
            **plugin_settings([name]),
        }
        inputs: dict[str, Step | Source] = {"sample": planned.sample, "whole": planned.totals}
        if sources is not None:
            inputs["sources"] = sources
        inputs |= inputs_for(flaw, planned.resources)
        inputs |= {INPUT_NAMES[need]: reads[need] for need in flaw.model_reads}
        steps[name] = Step(COMPARE, settings, inputs, label=f"{name}: comparison")
    return steps


def sources_of(config: AuditConfig, planned: Planned, reads: Mapping[Need, Step]) -> Step | None:
    """The step that says which references are human sources of their own; None without references. Flaws that need no
    more than the rows help to tell even where they are not looked for."""
    if not config.reference:
        return None
    flaws = [
        flaw
        for flaw in FLAWS.values()
        if flaw.tells_sources_apart and (flaw.name in planned.flaws or (not flaw.needs and flaw.name in BUILT_IN))
    ]
    inputs: dict[str, Step | Source] = {"sample": planned.sample}
    for flaw in flaws:
        inputs |= inputs_for(flaw, planned.resources)
        inputs |= {INPUT_NAMES[need]: reads[need] for need in flaw.model_reads}
    names = [flaw.name for flaw in flaws]
    settings = {"flaws": names, "seed": config.seed, **plugin_settings(names)}
    return Step(SOURCES, settings, inputs, label="human sources")


def stream(
    config: AuditConfig,
    name: str,
    label: str,
    source: Source,
    flaws: Sequence[str],
    against: Sequence[str],
    resources: Mapping[str, Source],
) -> list[Step]:
    """The steps that read one file: one, or one for each of its spans."""
    what, path = ("data set" if name == DATA else "reference"), source.path
    size = size_of(path)
    count, parts = division_of(path, config.encoding if name == DATA else config.reference_encoding)
    columns = config.columns if name == DATA else config.reference_columns
    settings = {
        "flaws": list(flaws),
        "against": list(against),
        "source": label,
        "source_column": None if name == DATA else config.source_column,
        "sample": config.sample,
        "seed": config.seed,
        "file_seed": seed_of(source.identity),
        "parts": parts,
        "layout": config.layout if name == DATA else config.reference_layout,
        "columns": mapping("--columns" if name == DATA else "--reference-columns", columns),
        "label_map": mapping("--label-map", config.label_map),
        "text_fields": list(config.text_fields) or None,
        "on_bad_row": config.on_bad_row,
        "hub": path if is_hub(path) else None,
        "revision": source.identity if is_hub(path) else None,
        "file": name_in_place(path),  # row ids begin with it
    }
    settings |= read_settings(config, name == DATA)
    if config.cluster is not None:
        settings["cluster"] = config.cluster
    if config.part != "answer":
        settings["part"] = config.part
    settings |= plugin_settings(flaws)
    label = f"{what} {name_in_place(path)}: read"
    cost, cpus = Cost(seconds=size / count / BYTES_A_SECOND), min(parts, processes(config))
    if count == 1:
        return [Step(STREAM, settings, {"file": source, **resources}, label=label, cost=cost, cpus=cpus)]
    places = Step(SPANS, {"spans": count}, {"file": source}, label=f"{what} {name_in_place(path)}: {count} spans")
    inputs: dict[str, Step | Source] = {"file": source, "spans": places, **resources}
    return [
        Step(STREAM, {**settings, "span": [at, count]}, inputs, label=f"{label}, {at + 1} of {count}", cost=cost)
        for at in range(count)
    ]


def whole_file(config: AuditConfig, spans: Sequence[Step]) -> Step:
    """The step that stands for a file which is read in spans."""
    settings = {
        "spans": len(spans),
        "sample": config.sample,
        **{name: spans[0].config[name] for name in ("file", "source")},
    }
    inputs = {"file": spans[0].inputs["file"], **{f"{NUMBERED}{at}": step for at, step in enumerate(spans)}}
    return Step(FILE, settings, inputs, label=spans[0].label.rpartition(", ")[0])


def read_settings(config: AuditConfig, is_data: bool) -> dict[str, Any]:
    """How a file is to be read, beyond its columns; without what is as usual, so that it is in no step's key."""
    settings = {
        "encoding": config.encoding if is_data else config.reference_encoding,
        "roles": mapping("--roles", config.roles),
        "tool_calls": config.tool_calls if config.tool_calls != "text" else None,
        "flags": None if is_data else "reference-",
    }
    return {name: value for name, value in settings.items() if value is not None}


def seed_of(identity: str) -> list[int]:
    """Two numbers out of a file's hash."""
    from hashlib import sha256

    mixed = sha256(identity.encode()).digest()
    return [int.from_bytes(mixed[:4], "big"), int.from_bytes(mixed[4:8], "big")]
