"""The steps of an audit: every file is read once, the sample is compared family by family."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pyrite.audit.compare import COMPARE, SOURCES, TOLD_APART_BY
from pyrite.audit.config import AuditConfig
from pyrite.audit.families import STREAMED, measures
from pyrite.audit.family import FLAWS
from pyrite.audit.gather import DATA, SAMPLE, WHOLE
from pyrite.audit.reading import EMBED, SURPRISE, with_names
from pyrite.audit.stream import ALONE_BYTES, STREAM
from pyrite.config_base import mapping
from pyrite.errors import UserError
from pyrite.io import file_hash, is_hub
from pyrite.io.files import data_suffix
from pyrite.models import hardware
from pyrite.models.hardware import FLOPS, Compute
from pyrite.steps import Cost, Source, Step, StepType

MAX_TOKENS = 256
"""Longer rows are cut here before a model reads them."""
NEEDS = {"perplexity": ("surprises",), "embedding": ("embeddings",), "duplicates": ("embeddings",)}
"""What a family needs a model to have read."""


@dataclass(frozen=True)
class Planned:
    """The steps that read the files, by population and number of the file, data first. `given`: the tokenizer and the
    evaluation sets, `against` the names of the latter."""

    flaws: Sequence[str]
    streams: Mapping[tuple[str, int], Step]
    whole: Step
    sample: Step
    given: Mapping[str, Source]
    against: Sequence[str]


def wanted(only: Sequence[str]) -> list[str]:
    """Which flaws to look for, in the order of `FLAWS`."""
    names = [name.strip() for text in only for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FLAWS]
    if unknown:
        raise UserError("That is no flaw that Pyrite looks for.", ", ".join(unknown), f"--only with {', '.join(FLAWS)}")
    return [flaw for flaw in FLAWS if not names or flaw in names]


def file_input(path: str, what: str) -> Source:
    """A data file, folder or hub data set as an input."""
    if not is_hub(path) and not Path(path).exists():
        raise UserError(f"That {what} is not there.", path, "give the path of a file or folder, or hf://org/name")
    return Source(path, file_hash(path))


def processes(config: AuditConfig) -> int:
    """How many processes read a large file, or compare."""
    return config.workers or min(8, os.cpu_count() or 1)


def plan(config: AuditConfig, flaws: Sequence[str]) -> Planned:
    """The steps that read every file. No model library is loaded for them."""
    from pyrite.models import load

    given: dict[str, Source] = {}
    if "tokens" in flaws:
        found = load.resolve(config.tokenizer or config.model)
        given["tokenizer"] = Source(str(found.folder), found.identity)
    sets = evaluation_sets(config.against)
    if "contamination" in flaws:
        for path in filter(is_hub, sets.values()):
            fix = "download it (hf download --repo-type dataset ORG/NAME) and name its file"
            raise UserError("An evaluation set is read from a file.", path, fix)
        given |= {f"against {name}": file_input(path, "evaluation set") for name, path in sets.items()}
        flaws = flaws if sets else [flaw for flaw in flaws if flaw != "contamination"]
    against = sorted(sets) if "contamination" in flaws else []
    streamed = [flaw for flaw in STREAMED if flaw in flaws]
    inputs_of = {path: file_input(path, "data set") for path in config.data}
    inputs_of |= {path: file_input(path, "reference") for path in reference_files(config.reference)}
    check_references(config, inputs_of)
    files = [(DATA, shard, DATA, path) for shard, path in enumerate(config.data)]
    labels = source_labels(config.reference)
    files += [(f"reference {at}", 0, label, path) for at, (path, label) in enumerate(labels)]
    streams = {
        (name, shard): stream(config, name, label, inputs_of[path], streamed, against, given)
        for name, shard, label, path in files
    }
    common = {"files": [list(name) for name in streams]}
    inputs = {f"{name} {shard}": step for (name, shard), step in streams.items()}
    settings = {**common, "against": against, "seed": config.seed, "flaws": streamed}
    whole = Step(WHOLE, settings, {**inputs, **given}, label="whole data set")
    sample = Step(SAMPLE, {**common, "sample": config.sample}, inputs, label="sample")
    return Planned(flaws, streams, whole, sample, given, against)


SHARD = re.compile(r"-\d{5}-of-\d{5}")


def reference_files(texts: Sequence[str]) -> list[str]:
    """Every file of `--reference`, in order: a text names one, or several of one source after commas."""
    return [path for text in texts for path in files_of(text)]


def files_of(text: str) -> list[str]:
    """The files that one `--reference` names."""
    texts = (
        [text] if "," not in text or Path(text).exists() else [one.strip() for one in text.split(",") if one.strip()]
    )
    return [path for one in texts for path in files_in(one)]


def files_in(text: str) -> list[str]:
    """The data files of a folder, in the order of their names; anything else (a file, a saved data set, the hub) as it is."""
    folder = Path(text)
    if is_hub(text) or not folder.is_dir() or any((folder / name).is_file() for name in SAVED):
        return [text]
    return [str(path) for path in sorted(folder.iterdir()) if path.is_file() and data_suffix(path.name)] or [text]


SAVED = ("dataset_dict.json", "state.json")
"""What a data set that was saved as a folder holds."""


def source_labels(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Every file of `--reference` with the human source that it belongs to: files after one `--reference`, those of a folder,
    and the shards NAME-00001-of-00004 of one folder, are one source. Called by the file's name (of several: the first one's,
    and how many more), or its path where two share it."""
    whole: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    for text in texts:
        paths = files_of(text)
        first = Path(paths[0])
        source = str(first.with_name(SHARD.sub("", first.name))) if len(paths) == 1 and not is_hub(text) else text
        folder = len(paths) > 1 and Path(text).is_dir()
        more = f" and {len(paths) - 1} more" if len(paths) > 1 and not folder else ""
        names[source] = Path(source).name if not more else f"{first.name}{more}"
        whole += [(path, source) for path in paths]
    called = {source: source if list(names.values()).count(name) > 1 else name for source, name in names.items()}
    return [(path, called[source]) for path, source in whole]


def evaluation_sets(texts: Sequence[str]) -> dict[str, str]:
    """The files named by `--against`, by name: the one given, else the file's, else (where two share it) the path.

    Raises:
        UserError: a name given twice.
    """
    made: dict[str, str] = {}
    for text in texts:
        name, sign, where = text.partition("=")
        if not sign or Path(text).exists() or not name.replace("_", "").replace("-", "").isalnum():
            name, where = Path(text).stem, text
            name = name if name not in made else text
        if name in made:
            raise UserError("An evaluation set is named twice.", text, "give each another NAME=FILE")
        made[name] = where
    return made


def check_references(config: AuditConfig, inputs_of: Mapping[str, Source]) -> None:
    """Refuse a reference that is given twice, or that is the data: nothing can be learned from either."""
    seen: dict[str, str] = {}
    for path in reference_files(config.reference):
        identity = content_of(inputs_of[path])
        if identity in seen:
            found = f"{path} has the content of {seen[identity]}"
            raise UserError("A reference is given twice.", found, "give each human source once")
        seen[identity] = path
    for path in config.data:
        identity = content_of(inputs_of[path])
        if identity in seen:
            found = f"{path} has the content of {seen[identity]}"
            raise UserError("The data is its own reference.", found, "name text that is not the data")


def content_of(given: Source) -> str:
    """What tells an input's content from another's: parts and splits of one data set on the hub share a commit."""
    return f"{given.path}#{given.identity}" if is_hub(given.path) else given.identity


def draws_for(config: AuditConfig, flaws: Sequence[str]) -> int:
    """How many draws of the null: as asked, and at least so many that one measure alone can pass Holm's correction."""
    from math import ceil

    return max(config.permutations, ceil(2 * sum(len(measures(flaw)) for flaw in flaws) / config.alpha))


FIRST_LOOK = 60
"""Rows of each side that the causal model reads first."""
MODELS_READ = ("perplexity", "embedding", "duplicates")
"""Families for which a model reads the sample."""
PARTS = 2
"""Steps that the data's rows are divided among for a model to read on a CPU: the same on every machine, as what they make
is part of what comparisons are made of."""


@dataclass(frozen=True)
class Reading:
    """A model that reads rows: what its steps are told, how their cost is estimated, and which input it is."""

    kind: StepType
    what: Literal["surprises", "embeddings"]
    model: Source
    compute: Compute
    common: Mapping[str, Any]

    def step(
        self, rows: int | None, inputs: Mapping[str, Step | Source], label: str, *, part: int | None = None
    ) -> Step:
        """A step that reads so many rows (None: all of the sample)."""
        config = {**self.common, "rows": rows} | ({} if part is None else {"part": [part, self.parts]})
        count = (rows or 0) // (1 if part is None else self.parts)
        return Step(self.kind, config, {"model": self.model, **inputs}, label=label, cost=self.cost(count))

    @property
    def parts(self) -> int:
        """Steps that the data's rows are divided among."""
        return PARTS if self.compute.device == "cpu" else 1

    def cost(self, rows: int) -> Cost:
        """What reading so many rows should take: two FLOPs for each weight and token, of a model in fp32."""
        tokens = rows * {"surprises": 300, "embeddings": 100}[self.what]
        rate = FLOPS[self.compute.device, self.compute.precision]
        return Cost(tokens, tokens * self.bytes / 2 / rate)

    @property
    def bytes(self) -> int:
        """Bytes of the model's weights on disk."""
        return sum(file.stat().st_size for file in Path(self.model.path).glob("*.safetensors"))


def reading(config: AuditConfig, what: Literal["surprises", "embeddings"]) -> Reading:
    """How the causal model, or the embedder, reads rows."""
    from pyrite.models import load

    hidden = what == "embeddings" and config.embedder == "hidden-states"
    found = load.resolve(config.model if hidden or what == "surprises" else config.embedder)
    compute = hardware.choose(config.precision)
    common: dict[str, Any] = {"max_tokens": MAX_TOKENS, "compute": compute.as_config()}
    common |= {"by": "hidden-states" if hidden else "sentences"} if what == "embeddings" else {}
    kind = EMBED if what == "embeddings" else SURPRISE
    return Reading(kind, what, Source(str(found.folder), found.identity), compute, common)


def surprises(config: AuditConfig, planned: Planned, size: int, before: Step | None = None) -> Step:
    """The step in which the causal model reads so many rows of each side; `before`: the step of the first look."""
    how, own = reading(config, "surprises"), []
    sources = len({label for _, label, _ in references(planned)})
    given: dict[str, Step | Source] = {"sample": planned.sample}
    for stream, _, files in references(planned):
        label = f"{stream.label.removesuffix(': read')}: perplexity"
        first = how.step(FIRST_LOOK // files + 1, {"file": stream}, label)
        each = max(FIRST_LOOK, size // sources) // files + 1
        # the first look's own step of this file, which does not know of the data
        own.append(first if before is None else how.step(each, {"file": stream, **dict(with_names([first]))}, label))
    known = {} if before is None else dict(with_names([before]))
    for part in range(how.parts):
        own.append(
            how.step(size, {**given, **known}, f"data: perplexity of {size} rows, {part + 1} of {how.parts}", part=part)
        )
    return replace(how.step(size, given | dict(with_names(own)), "perplexity"), cost=Cost())


def embeddings(config: AuditConfig, planned: Planned) -> Step:
    """The step in which the embedder reads the sample."""
    how, own = reading(config, "embeddings"), []
    given: dict[str, Step | Source] = {"sample": planned.sample}
    for stream, _, files in references(planned):
        label = f"{stream.label.removesuffix(': read')}: embeddings"
        own.append(how.step(config.sample // files + 1, {"file": stream}, label))
    for part in range(how.parts):
        made = how.step(None, given, f"data: embeddings, {part + 1} of {how.parts}", part=part)
        own.append(replace(made, cost=how.cost(config.sample // how.parts)))
    return how.step(None, given | dict(with_names(own)), "embeddings")


def references(planned: Planned) -> list[tuple[Step, str, int]]:
    """The steps that read the references' files, each with its source's name and how many files that has."""
    streams = [(step, str(step.config["source"])) for (name, _), step in planned.streams.items() if name != DATA]
    names = [name for _, name in streams]
    return [(step, name, names.count(name)) for step, name in streams]


WORTH_IT = 20.0
"""Seconds of reading from which on further processes are started: each loads the libraries and the model."""


def readers(config: AuditConfig, flaws: Sequence[str], rows: int) -> int:
    """How many processes compare, or read so many rows of the sample: where a model reads, one on a GPU; on a CPU as many
    as are asked for, fit into memory and are worth their start."""
    needed = sorted({name for flaw in flaws for name in NEEDS.get(flaw, ())})
    if not needed:
        return min(processes(config), max(1, len(flaws)))
    ways = [reading(config, "surprises" if name == "surprises" else "embeddings") for name in needed]
    few = min(rows, 3 * FIRST_LOOK)
    seconds = sum(way.cost(few if way.what == "surprises" else 2 * rows).seconds for way in ways)
    if ways[0].compute.device != "cpu" or seconds < WORTH_IT:
        return 1
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else 2**33
    return max(1, min(processes(config), int(0.7 * room // max(1, 2 * max(way.bytes for way in ways)))))


def comparisons(config: AuditConfig, planned: Planned, surprise: Step | None = None) -> dict[str, Step]:
    """The step that compares, for each family, with the models that read the sample for it; `surprise`: the step in which
    the causal model reads, by default at the first look."""
    flaws = planned.flaws
    more: dict[str, Step] = {}
    needed = {name for flaw in flaws for name in NEEDS.get(flaw, ())}
    if "surprises" in needed:
        more["surprises"] = surprise or surprises(config, planned, min(FIRST_LOOK, config.model_sample))
    if "embeddings" in needed:
        more["embeddings"] = embeddings(config, planned)
    sources = sources_of(config, planned, more)
    made = {}
    for flaw in flaws:
        settings: dict[str, Any] = {"flaw": flaw, "against": list(planned.against) if flaw == "contamination" else []}
        draws = draws_for(config, flaws) * (2 if flaw == "perplexity" and config.model_sample > FIRST_LOOK else 1)
        settings |= {"permutations": draws, "seed": config.seed}
        own: dict[str, Step | Source] = {"sample": planned.sample, "whole": planned.whole}
        if sources is not None:
            own["sources"] = sources
        if flaw == "contamination":
            own |= {name: one for name, one in planned.given.items() if name.startswith("against ")}
        if flaw == "tokens":
            own["tokenizer"] = planned.given["tokenizer"]
        own |= {name: more[name] for name in NEEDS.get(flaw, ())}
        made[flaw] = Step(COMPARE, settings, own, label=f"{flaw}: yardsticks")
    return made


def sources_of(config: AuditConfig, planned: Planned, more: Mapping[str, Step]) -> Step | None:
    """The step that says which references are human sources of their own; None without references."""
    if not config.reference:
        return None
    flaws = [flaw for flaw in TOLD_APART_BY if flaw == "format" or flaw in planned.flaws]  # format needs no model
    inputs: dict[str, Step | Source] = {"sample": planned.sample}
    if "tokens" in flaws:
        inputs["tokenizer"] = planned.given["tokenizer"]
    if "embedding" in flaws:
        inputs["embeddings"] = more["embeddings"]
    return Step(SOURCES, {"flaws": flaws, "seed": config.seed}, inputs, label="human sources")


def stream(
    config: AuditConfig,
    name: str,
    label: str,
    found: Source,
    flaws: Sequence[str],
    against: Sequence[str],
    given: Mapping[str, Source],
) -> Step:
    """The step that reads one file."""
    what, path = ("data set" if name == DATA else "reference"), found.path
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    columns = config.columns if name == DATA else config.reference_columns
    settings = {
        "flaws": list(flaws),
        "against": list(against),
        "source": label,
        "source_column": None if name == DATA else config.source_column,
        "sample": config.sample,
        "seed": config.seed,
        "file_seed": seed_of(found.identity),
        "parts": processes(config) if size > ALONE_BYTES else 1,
        "layout": config.layout if name == DATA else None,
        "columns": mapping("--columns" if name == DATA else "--reference-columns", columns),
        "label_map": mapping("--label-map", config.label_map),
        "text_fields": list(config.text_fields) or None,
        "on_bad_row": config.on_bad_row,
        "hub": path if is_hub(path) else None,
        "revision": found.identity if is_hub(path) else None,
        "file": Path(path).name,  # row ids begin with it
    }
    if config.cluster is not None:
        settings["cluster"] = config.cluster
    return Step(STREAM, settings, {"file": found, **given}, label=f"{what} {Path(path).name}: read")


def seed_of(identity: str) -> list[int]:
    """Two numbers out of a file's hash."""
    from hashlib import sha256

    mixed = sha256(identity.encode()).digest()
    return [int.from_bytes(mixed[:4], "big"), int.from_bytes(mixed[4:8], "big")]
