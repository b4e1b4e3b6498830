"""Steps: what was gathered from each file becomes what is true of the data and of each reference, and one sample."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pyrite.audit.extras import extras_of
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.registry import flaw_of
from pyrite.audit.rows import Row, row_from_json
from pyrite.steps import Context, StepType

DATA = "data"
"""The data's own name among the populations."""
REFERENCE = "reference "
"""What the names of the references begin with, so that a file called `data` is not taken for the data."""


def parts_of(folder: Path, flaw: str) -> list[Path]:
    """What a flaw's stream gathered from one file, part by part."""
    return sorted(folder.glob(f"part-*/{flaw}"), key=lambda path: int(path.parent.name.partition("-")[2]))


def counts_of(folder: Path) -> dict[str, Any]:
    """The counts of one file."""
    counts: dict[str, Any] = orjson.loads((folder / "counts.json").read_bytes())
    return counts


def streamed_files(context: Context) -> dict[str, list[Path]]:
    """The folders of the streamed files (or their spans) by population: `data`, then each reference, in the order given."""
    by_population: dict[str, list[Path]] = defaultdict(list)
    for name, number in context.config["files"]:
        by_population[name].append(context.inputs[f"{name} {number}"])
    return dict(by_population)


def populations_of(context: Context) -> dict[str, list[Path]]:
    """The same by source: files of one source are one population; a file that names several stands for itself."""
    by_population: dict[str, list[Path]] = defaultdict(list)
    for name, folders in streamed_files(context).items():
        source = DATA if name == DATA else REFERENCE + (source_of(folders) or name)
        by_population[source] += folders
    return dict(by_population)


def totals_step(context: Context) -> None:
    """Step: `whole.json`: for the data and each reference, what each flaw says of all rows; `FLAW/` holds its files."""
    config = context.config
    extras = extras_of(config, context.inputs)
    files = populations_of(context)
    references = [path for name, folders in files.items() if name != DATA for path in folders]
    totals: dict[str, dict[str, Any]] = {}
    for population, folders in files.items():
        totals[population] = {}
        for name in config["flaws"]:
            merge = flaw_of(name, config).merge
            if merge is None:
                continue
            out = context.out / (
                name if population == DATA else f"references/{safe(population.removeprefix(REFERENCE))}/{name}"
            )
            out.mkdir(parents=True)
            parts = [
                (part, offset)
                for folder, offset in zip(folders, row_offsets(folders), strict=True)
                for part in parts_of(folder, name)
            ]
            reference_steps = references if population == DATA else []
            totals[population][name] = merge(
                [part for part, _ in parts],
                out,
                extras,
                reference=[part for folder in reference_steps for part in parts_of(folder, name)],
                offsets=[offset for _, offset in parts],
            )
            context.report_progress(sum(map(len, totals.values())), len(config["flaws"]) * len(files), "flaws")
    (context.out / "whole.json").write_bytes(orjson.dumps(totals, option=orjson.OPT_SERIALIZE_NUMPY))


def row_offsets(folders: Sequence[Path]) -> list[int]:
    """How many rows stand before those of each file."""
    offsets: list[int] = np.cumsum([0, *(counts_of(folder)["rows"] for folder in folders)])[:-1].tolist()
    return offsets


def source_of(folders: Sequence[Path]) -> str | None:
    """The one source that the rows of a file (its spans) come from; None where a column names several."""
    names = {name for folder in folders for name in counts_of(folder)["sources"]}
    return str(*names) if len(names) == 1 else None


def safe(name: str) -> str:
    """A source's name as a folder's."""
    from hashlib import sha256

    return sha256(name.encode()).hexdigest()[:16]


def sample_step(context: Context) -> None:
    """Step: `sample.jsonl`: the sampled rows of the data, then of each source of the references, as `{"role",
    "row"}`."""
    size = context.config["sample"]
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, folders in populations_of(context).items():
        offsets = zip(folders, row_offsets(folders), strict=True)
        drawn = [drawn_lines(folder / "sample.jsonl", offset) for folder, offset in offsets]
        for line in itertools.chain.from_iterable(drawn):
            by_source[name if name == DATA else REFERENCE + line["row"]["source"]].append(line)
    lines = []
    for role, drawn_rows in by_source.items():
        drawn_rows.sort(key=lambda line: line["drawn"])
        lines += [{"role": role, "row": line["row"]} for line in drawn_rows[:size]]
    (context.out / "sample.jsonl").write_bytes(
        b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
    )


def drawn_lines(path: Path, offset: int) -> list[dict[str, Any]]:
    """The sampled rows of one file, numbered as in the whole of its population."""
    with path.open("rb") as handle:
        lines = [orjson.loads(text) for text in handle]
    for line in lines:
        line["row"]["number"] += offset
    return lines


@dataclass(frozen=True)
class Sampled:
    """The sample: rows of the data first, then of each source; `data` and `references` are places in `rows`."""

    rows: Sequence[Row]
    data: Sequence[int]
    references: Mapping[str, Sequence[int]]

    @classmethod
    def read(cls, folder: Path) -> "Sampled":
        """What `sample_step` wrote."""
        rows: list[Row] = []
        data: list[int] = []
        references: dict[str, list[int]] = {}
        with (folder / "sample.jsonl").open("rb") as handle:
            for place, line in enumerate(handle):
                entry = orjson.loads(line)
                rows.append(row_from_json(entry["row"]))
                source = entry["role"].removeprefix(REFERENCE)
                (data if entry["role"] == DATA else references.setdefault(source, [])).append(place)
        return cls(rows, data, references)

    @classmethod
    def of(cls, data: Sequence[Row], references: Mapping[str, Sequence[Row]]) -> "Sampled":
        """Rows at hand, as a sample."""
        rows = [*data, *(row for source_rows in references.values() for row in source_rows)]
        ends = np.cumsum([len(data), *map(len, references.values())]).tolist()
        places = {name: range(start, end) for name, start, end in zip(references, ends, ends[1:], strict=False)}
        return cls(rows, range(len(data)), places)

    @property
    def clusters(self) -> list[str] | None:
        """What each row belongs to, where rows come in clusters; the same name in two sources is two clusters."""
        if not any(row.cluster for row in self.rows):
            return None
        return [f"{row.source}/{row.cluster}" if row.cluster else "" for row in self.rows]

    def human_sources(self, least: int) -> dict[str, list[int]]:
        """Places of the rows of each human source. Clusters of at least so many rows count as sources of their own, and
        what is left of their reference as one more where it is large enough."""
        sources: dict[str, list[int]] = {}
        for name, places in self.references.items():
            by_cluster: dict[str, list[int]] = defaultdict(list)
            for at in places:
                by_cluster[self.rows[at].cluster].append(at)
            big = {
                cluster: cluster_places
                for cluster, cluster_places in by_cluster.items()
                if cluster and len(cluster_places) >= least
            }
            rest = [at for at in places if self.rows[at].cluster not in big]
            if not big or (len(big) == 1 and len(rest) < least):
                sources[name] = list(places)
                continue
            sources |= {f"{name}: {cluster}": cluster_places for cluster, cluster_places in big.items()}
            if rest:  # fewer than `least` count as no source, and are people's rows all the same
                sources[f"{name}: other rows"] = rest
        return sources

    def first(self, size: int) -> list[int]:
        """Places of a smaller sample: the first rows of the data, and as many of the references, evenly by source (at
        least 60 of each)."""
        each = max(60, size // max(1, len(self.references)))
        return [
            *self.data[:size],
            *itertools.chain.from_iterable(source_places[:each] for source_places in self.references.values()),
        ]

    def populations(
        self, flaw: str, totals: Mapping[str, Any], folder: Path
    ) -> tuple[Population, dict[str, Population]]:
        """The data and each source, as a flaw's `evidence` sees them."""

        def population(name: str, places: Sequence[int], place: Path) -> Population:
            return Population([self.rows[at] for at in places], totals.get(name, {}).get(flaw, {}), (place / flaw,))

        references = {
            name: population(REFERENCE + name, places, folder / "references" / safe(name))
            for name, places in self.references.items()
        }
        return population(DATA, self.data, folder), references


CUT = "cut.json"
"""How much of the sample's texts an embedder read."""
UNKNOWN = 0.2
"""Share of a side's tokens above which an embedder that does not know them says nothing."""


def cut_counts(folder: Path) -> dict[str, Any]:
    """`CUT`: `limit`, the tokens of a text that were read at most, and for `data` and `references` their `rows`, how many
    `answers_cut` and `prompts_cut`, and the share of the answers' tokens that are `unknown`."""
    counts: dict[str, Any] = orjson.loads((folder / CUT).read_bytes())
    return counts


def is_unread(folder: Path) -> bool:
    """Whether the embedder knows too little of either side for its vectors to say anything."""
    counts = cut_counts(folder)
    return max(float(counts[side]["unknown"]) for side in ("data", "references")) > UNKNOWN


def sample_extras(context: Context) -> Extras:
    """What the flaws of a comparing step are given, with what models have read of the sample."""
    read: dict[str, Any] = {}
    if "embeddings" in context.inputs and not is_unread(context.inputs["embeddings"]):
        with np.load(context.inputs["embeddings"] / "embeddings.npz", allow_pickle=False) as file:
            read |= {"embeddings": file["answers"], "prompt_embeddings": file["prompts"]}
            read["sides"] = file["asked"], file["answered"]
    if "surprises" in context.inputs:
        with np.load(context.inputs["surprises"] / "surprises.npz", allow_pickle=False) as file:
            read["nll"] = {name: file[name] for name in file.files}
    return extras_of(context.config, context.inputs, **read)


TOTALS = StepType("audit.whole", 2, totals_step, plain=True)
SAMPLE = StepType("audit.sample", 1, sample_step, plain=True)
