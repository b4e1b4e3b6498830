"""How far do human sources lie apart? Makes `src/pyrite/audit/human_sources.json`, the table that audits use as their prior.

    python tools/human_sources.py features SOURCES --work WORK     what models say of every source (embeddings, perplexity)
    python tools/human_sources.py audits SOURCES --work WORK --rows 100 --count 1000      audits of one source against others
    python tools/human_sources.py table SOURCES --work WORK        the table, and how often it cries wolf (genres held out)

SOURCES holds GENRE/SOURCE.jsonl, one human source a file, each line {"answer": …} with "prompt" where there is one. Those
that the shipped table was made of are listed in it by name and genre; docs/experiment-log.md says where they come from.
Only numbers leave this script. Every audit draws a source as the data, and 1, 2, 3, 5 or 8 others as the references: of
the same genre, of one other genre, or of any.
"""

import argparse
import itertools
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.baselines import SIZES, evaluate
from pyrite.audit.embedded_texts import Cutter, own_sides, without_shared_lead
from pyrite.audit.extras import tokenizer_of
from pyrite.audit.flaw import Difference, Extras, SideEmbeddings
from pyrite.audit.flaws.registry import FLAWS as ENTRIES
from pyrite.audit.next_source import TABLE, Prior, another_task, posterior
from pyrite.audit.rows import Row
from pyrite.models import embed, load
from pyrite.models.hardware import choose

ROWS = 160
"""Rows of each source; of these the model reads the first `READ`."""
READ = 60
TOGETHER = 8
"""Sources that the model reads together."""
COUNTS = (1, 2, 3, 5, 8)
FEW_AUDITS = 40
"""Of fewer audits no quantile is taken."""
DRAWS = 3
QUIETLY = 0.025
"""The share of audits of a human source that may show any failure by the limit alone: half of what is promised, since the
sources of the table are not all there are, and measures that it does not hold take the other half."""
FLAWS = ("format", "tokens", "diversity", "duplicates", "embedding", "perplexity")
AUC = "embedding.classifier_auc"
PROMPTS = "prompt:"
EMBEDDED = "embedded"
"""Which features a file holds: those of whole prompts, of earlier tables, had another name."""

Audit = Mapping[str, Any]
"""One audit: `data` and `refs` (GENRE/SOURCE), `mode`, `K`, and `v`: measure@rows -> the data's distance, then each
reference's from the others."""


@dataclass(frozen=True)
class Source:
    """A human source's rows and what models say of them."""

    rows: list[Row]
    answers: np.ndarray[Any, Any]
    prompts: np.ndarray[Any, Any]
    """Empty where not every row has one."""
    sides: SideEmbeddings
    nats: Mapping[str, np.ndarray[Any, Any]]


def main() -> None:
    """Parse, and do as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["features", "audits", "table"])
    parser.add_argument("sources", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100, choices=SIZES)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "features":
        features(given.sources, given.work)
    elif given.what == "audits":
        audits(given.sources, given.work, given.rows, given.count, given.seed)
    else:
        make_table(given.sources, given.work, given.out)


def names_in(folder: Path) -> list[str]:
    """Every source as GENRE/SOURCE."""
    return sorted(f"{file.parent.name}/{file.stem}" for file in folder.glob("*/*.jsonl"))


def genre(name: str) -> str:
    """A source's genre."""
    return name.partition("/")[0]


def rows_of(folder: Path, name: str) -> list[Row]:
    """The first rows of a source."""
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
        made = [json.loads(line) for line, _ in zip(lines, range(ROWS), strict=False)]
    return [
        Row(at, f"{name}-{at}", one.get("prompt") or "", (one["answer"],), source=name) for at, one in enumerate(made)
    ]


def embedded(
    rows: Sequence[Row], cutter: Cutter, vectors: Callable[[Sequence[str]], np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """What an audit embeds of a source's rows (`pyrite.audit.reading.embed_step`): `answers`, `prompts`, `asked`, `answered`."""
    prompts = [cutter.both_ends(row.prompt) for row in rows]
    own = own_sides(rows)
    bare = np.array([not asked.strip() for asked, _ in own])
    asked = vectors([cutter.both_ends(asked) for asked, _ in own])
    asked[bare] = 0
    return {
        "answers": vectors(without_shared_lead(rows, cutter.is_cut)),
        "prompts": vectors(prompts) if all(prompts) else np.zeros((0, 0), np.float32),
        "asked": asked,
        "answered": vectors([answered for _, answered in own]),
    }


def feature_file(work: Path, name: str, what: str) -> Path:
    """Where the features of a source are kept."""
    return work / f"{name.replace('/', '__')}.{what}.npz"


def features(folder: Path, work: Path) -> None:
    """Embeddings of answers and prompts, and nats per token, of every source that has none yet."""
    from pyrite.audit.reading import MAX_TOKENS, answer_nll

    load.quiet_libraries()
    compute = choose()
    embedder = load.resolve("packaged:minilm-l6").folder
    model = load.resolve("packaged:smollm2-135m-instruct").folder

    cutter = Cutter.of_sentences(embedder, MAX_TOKENS)

    def vectors(texts: Sequence[str]) -> np.ndarray[Any, Any]:
        read = embed.sentence_embeddings(
            embedder, texts, compute=compute, max_tokens=MAX_TOKENS, report_progress=lambda *_: None
        )
        return read.astype(np.float32)

    names = names_in(folder)
    for name in names:
        rows = rows_of(folder, name)
        file = feature_file(work, name, EMBEDDED)
        if not file.exists():
            np.savez(file, **embedded(rows, cutter, vectors))
            print(name, len(rows), file=sys.stderr, flush=True)
    unread = [name for name in names if not feature_file(work, name, "ppl").exists()]
    for at in range(0, len(unread), TOGETHER):
        some = unread[at : at + TOGETHER]
        rows = [row for name in some for row in rows_of(folder, name)[:READ]]
        nats = answer_nll(model, rows, compute=compute, max_tokens=MAX_TOKENS, report_progress=lambda *_: None)
        for name in some:
            own = [place for place, row in enumerate(rows) if row.source == name]
            np.savez(feature_file(work, name, "ppl"), **{kind: values[own] for kind, values in nats.items()})
        print(*some, file=sys.stderr, flush=True)


@cache
def source(folder: Path, work: Path, name: str) -> Source:
    """A source with its features."""
    rows = rows_of(folder, name)
    with np.load(feature_file(work, name, EMBEDDED), allow_pickle=False) as file:
        answers, prompts, sides = file["answers"], file["prompts"], (file["asked"], file["answered"])
    nats = {}
    with np.load(feature_file(work, name, "ppl"), allow_pickle=False) as file:
        for kind in file.files:
            nats[kind] = np.concatenate([file[kind], np.full(len(rows) - len(file[kind]), np.nan)])
    return Source(rows, answers, prompts, sides, nats)


def audits(folder: Path, work: Path, rows: int, count: int, seed: int) -> None:
    """So many audits at so many rows on each side, appended to WORK/audits-ROWS-SEED.jsonl."""
    tokenize = tokenizer_of(load.resolve("packaged:smollm2-135m-instruct").folder)
    rng = random.Random(f"{seed} {rows}")
    names = names_in(folder)
    with (work / f"audits-{rows}-{seed}.jsonl").open("w", encoding="utf-8") as out:
        for number in range(count):
            mode, data, refs = drawn(names, rng)
            if not refs:
                continue
            parts = [source(folder, work, name) for name in (data, *refs)]
            values = distances(parts, rows, tokenize, number)
            out.write(json.dumps({"mode": mode, "K": len(refs), "data": data, "refs": refs, "v": values}) + "\n")
            out.flush()


def drawn(names: Sequence[str], rng: random.Random) -> tuple[str, str, list[str]]:
    """A source as the data, and others as references."""
    count, mode, data = rng.choice(COUNTS), rng.choice(["mixed", "same", "other"]), rng.choice(names)
    by_genre: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_genre[genre(name)].append(name)
    pool = [name for name in names if name != data]
    if mode == "same":
        pool = [name for name in by_genre[genre(data)] if name != data]
    elif mode == "other":
        pool = by_genre[rng.choice(sorted(by_genre.keys() - {genre(data)}))]
    return mode, data, rng.sample(pool, min(count, len(pool)))


def extras_of_parts(parts: Sequence[Source], tokenize: Any, seed: int) -> Extras:
    """What the flaws of an audit of these sources are given."""
    nats = {kind: np.concatenate([part.nats[kind] for part in parts]) for kind in parts[0].nats}
    asked, answered = (np.concatenate([part.sides[at] for part in parts]) for at in (0, 1))
    answers = np.concatenate([part.answers for part in parts])
    return Extras(answers, sides=(asked, answered), nll=nats, tokenize=tokenize, seed=seed)


def distances(parts: Sequence[Source], n: int, tokenize: Any, seed: int) -> dict[str, list[float]]:
    """measure@n -> the first source's distance from all others, then each other's from the rest of them."""
    rows = [row for part in parts for row in part.rows]
    ends = np.cumsum([0, *(len(part.rows) for part in parts)])
    groups = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    given = extras_of_parts(parts, tokenize, seed)
    found: dict[str, list[float]] = {}
    for flaw in FLAWS:
        for difference in ENTRIES[flaw].differences(rows, given):
            found |= measured(difference, groups, len(rows), n, seed)
    if all(part.prompts.size for part in parts):
        prompts = Extras(np.concatenate([part.prompts for part in parts]), seed=seed)
        for difference in ENTRIES["embedding"].differences(rows, prompts)[:1]:
            found |= measured(difference, groups, len(rows), n, seed, PROMPTS)
    return found


def measured(
    difference: Difference, groups: Sequence[Any], size: int, n: int, seed: int, prefix: str = ""
) -> dict[str, list[float]]:
    """One measure of `distances`; nothing where a source has fewer than n rows of it."""
    if difference.rows is not None:
        known = np.isin(np.arange(size), difference.rows)
        groups = [some[known[some]] for some in groups]
    if min(map(len, groups)) < n:
        return {}
    rng = np.random.default_rng([seed, n])

    def distance(data: int, others: Sequence[int]) -> float:
        rest = np.concatenate([groups[at] for at in others])
        pairs = [(rng.choice(groups[data], n, replace=False), rng.choice(rest, n, replace=False)) for _ in range(DRAWS)]
        return float(evaluate(difference, pairs, size).mean())

    numbers = range(1, len(groups))
    values = [distance(0, numbers)]
    if len(groups) > 2:
        values += [distance(at, [other for other in numbers if other != at]) for at in numbers]
    return {f"{prefix}{difference.measure.full_name}@{n}": values}


def read_audits(work: Path) -> list[Audit]:
    """Every audit that was made."""
    return [json.loads(line) for file in sorted(work.glob("audits-*.jsonl")) for line in file.open(encoding="utf-8")]


def priors(made: Sequence[Audit], without: frozenset[str] = frozenset()) -> dict[str, Prior]:
    """measure@rows -> mean and spread of the data's distances, audits with a source of some genres left out."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in made:
        if without.isdisjoint({genre(one["data"]), *map(genre, one["refs"])}):
            for name, found in one["v"].items():
                values[name].append(found[0])
    return {
        name: Prior(float(np.mean(some)), float(np.std(some, ddof=1)))
        for name, some in values.items()
        if len(some) > 30
    }


def is_other_task(one: Audit, n: int) -> bool:
    """Would the audit say that the data is of another task?"""
    sides = []
    for name in (f"{PROMPTS}{AUC}@{n}", f"{AUC}@{n}"):
        found = one["v"].get(name)
        if not found:
            return False
        sides.append({"value_of_data": found[0], "distances": dict(enumerate(found[1:]))})
    return bool(another_task(*sides))


def largest(one: Audit, known: Mapping[str, Prior]) -> tuple[float, str]:
    """By how many spreads does the data lie above the predicted centre, in the measure where it is most?"""
    found = [(-np.inf, "")]
    for name, values in one["v"].items():
        if name in known and not name.startswith(PROMPTS):
            n = int(name.partition("@")[2])
            centre, spread = posterior(np.array(values[1:]), known[name], n)
            found.append(((values[0] - centre) / spread, name))
    return max(found)


def held_out(made: Sequence[Audit]) -> Iterator[tuple[Audit, float, str]]:
    """Every audit that could show a failure, by priors without its data's genre: largest excess in spreads, and where."""
    by_genre = {one: priors(made, frozenset({one})) for one in {genre(one["data"]) for one in made}}
    for one in made:
        n = next((int(name.partition("@")[2]) for name in one["v"] if AUC in name), 0)
        if not n or is_other_task(one, n):
            continue
        value, name = largest(one, by_genre[genre(one["data"])])
        yield one, value, name


def make_table(folder: Path, work: Path, out: Path) -> None:
    """The table as JSON: mean and spread of every measure, the limits, the sources."""
    made = read_audits(work)
    measures: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, prior in sorted(priors(made).items()):
        if not name.startswith(PROMPTS):
            measure, _, n = name.partition("@")
            measures[measure][n] = {"mean": round(prior.mean, 5), "spread": round(prior.spread, 5)}
    judged = list(held_out(made))
    limits = {str(count): round(limit, 2) for count, limit in limits_of(judged).items()}
    names = sorted({name for one in made for name in (one["data"], *one["refs"])})
    definitions = {
        statistic.full_name: statistic.definition for flaw in FLAWS for statistic in ENTRIES[flaw].statistics
    }
    told = {
        "says": "how far public human sources lie from others (tools/human_sources.py)",
        "audits": len(made),
        "models": {"embedder": "packaged:minilm-l6", "model": "packaged:smollm2-135m-instruct"},
        "sources": [{"name": name, "rows": min(ROWS, len(rows_of(folder, name)))} for name in names],
        "limits": limits,
        "definitions": {name: definitions[name] for name in measures},
        "measures": measures,
    }
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print_alarms(judged, made)


def limits_of(judged: Sequence[tuple[Audit, float, str]]) -> dict[int, float]:
    """The limit beside so many references: what all audits of a human source but `QUIETLY` stay below, whatever the
    references; halfway to what those beside so many or more show, of one genre or of several, where that is more."""
    found: dict[int, float] = {}
    for count in COUNTS:
        by_mode: dict[str, list[float]] = defaultdict(list)
        for one, value, _ in judged:
            if one["K"] == count:
                by_mode["one genre" if one["mode"] == "same" else "others"].append(value)
        own = [float(np.quantile(some, 1 - QUIETLY)) for some in by_mode.values() if len(some) >= FEW_AUDITS]
        found[count] = max(own, default=0.0)
    pooled = float(np.quantile([value for _, value, _ in judged], 1 - QUIETLY))
    halfway = {count: max(pooled, (found[count] + pooled) / 2) for count in COUNTS}
    return {count: max(halfway[other] for other in COUNTS if other >= count) for count in COUNTS}


def print_alarms(judged: Sequence[tuple[Audit, float, str]], made: Sequence[Audit]) -> None:
    """Of audits of a human source, the share with any failure, by references and genre: limits from half of the genres,
    asked of the other half, and the reverse."""
    genres = sorted({genre(one["data"]) for one, _, _ in judged})
    halves = set(genres[::2]), set(genres[1::2])
    said: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for asked, other in (halves, halves[::-1]):
        limits = limits_of([one for one in judged if genre(one[0]["data"]) in other])
        for one, value, _ in judged:
            if one["K"] in limits and genre(one["data"]) in asked:
                said[one["mode"], one["K"]].append(value > limits[one["K"]])
    print(f"{len(made)} audits, {len(judged)} of the references' task; share with any failure")
    for mode in ("same", "mixed", "other"):
        cells = [f"{np.mean(some):.3f} ({len(some)})" if (some := said[mode, count]) else "-" for count in COUNTS]
        print(mode, *cells, sep="\t")
    everything = [value for some in said.values() for value in some]
    print("all", f"{np.mean(everything):.3f} ({len(everything)})", sep="\t")


if __name__ == "__main__":
    main()
