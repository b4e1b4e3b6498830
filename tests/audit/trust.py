"""How often does an audit cry wolf, and how small a flaw does it find? Run by hand; figures go to docs/experiment-log.md.

python -m tests.audit.trust alarms --data DATA --source NAME --splits 200     whole audits with any warning, of halves of one source
python -m tests.audit.trust power  --data DATA --seeds 5                      share of seeds in which a planted flaw is found
python -m tests.audit.trust sources --data SOURCES --work WORK --audits 40    whole audits of human sources that fail, and of planted ones

`power` measures the planted flaw's own family only and calls it found where its p-value times the number of all measures is at most 5 %
(Bonferroni: a little stricter than the audit's Holm); unplanted twins are audited with every model-free family.

`alarms` halves one human source at random, audits one half against the other with every family, and counts the audits
with a warning or worse. Model readings of the rows are taken once. `power` plants flaws of growing strength in 1,000
rows and compares them with 1,000 others of the same source, without the families that need a model. `sources` audits one
human source against 2, 3, 5 or 8 others (SOURCES and WORK as `tools/human_sources.py` has them): as it is, which no audit
should call a failure, and with flaws planted into a share of its rows (the shipped table holds these sources, too; `tools/human_sources.py table`
prints the rates with genres held out).
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pyrite.audit.baselines import DrawSettings
from pyrite.audit.compare import evidence_json, measure_flaw, measurement_json
from pyrite.audit.decide import Finding, Human, decide
from pyrite.audit.extras import evaluation_texts, tokenizer_of
from pyrite.audit.flaw import Extras, Population
from pyrite.audit.flaws.registry import FLAWS
from pyrite.audit.gather import Sampled
from pyrite.audit.rows import Row, as_rows
from pyrite.io import open_records
from pyrite.models import embed, load
from pyrite.models.hardware import choose
from pyrite.stats.intervals import wilson

sys.path.insert(0, str(Path(__file__).parent))
import planted

SOURCES = {
    "user": "instruct/human_user_oriented.jsonl",
    "seed": "instruct/human_seed_tasks.jsonl",
    "c4": "text/c4_demo.jsonl",
    "gsm8k": "gsm8k/train_part.jsonl",
    "wikitext": "text/wikitext2_valid.txt",
    "mnli": "nli/mnli_dev_matched_part.jsonl",
}
MODEL_FREE = ("format", "tokens", "duplicates", "diversity", "artifacts", "contamination")
EVERY_MEASURE = sum(len(flaw.statistics) for flaw in FLAWS.values())
EVERY = (*MODEL_FREE[:2], "perplexity", "embedding", *MODEL_FREE[2:])


def rows_of(data: Path, name: str) -> list[Row]:
    """All rows of a source; headings and blank lines of Wikipedia's text are no rows."""
    rows = list(as_rows(open_records(data / SOURCES[name]), name))
    if name == "wikitext":
        rows = [row for row in rows if len(row.answer.split()) >= 20]
    return [replace(row, number=at) for at, row in enumerate(rows)]


def tokenizer() -> Any:
    """The packaged chat model's."""
    return tokenizer_of(load.resolve("packaged:smollm2-135m-instruct").folder)


def audited(
    data: Sequence[Row], human: Mapping[str, Sequence[Row]], given: Extras, flaws: Sequence[str], draws: DrawSettings
) -> list[Finding]:
    """A whole audit of rows at hand."""
    sampled = Sampled.of(data, human)
    told = []
    for flaw in flaws:
        found, _ = measure_flaw(FLAWS[flaw], sampled, Population(list(data), {}), given, draws)
        told += [{**measurement_json(one), "evidence": {"rule": None}} for one in found]
    return decide(told, alpha=0.05, thresholds={}, human=Human(len(human), EVERY))


def alarms(data: Path, name: str, splits: int, permutations: int, first: int) -> dict[str, Any]:
    """Audits of random halves of one source against the other half."""
    from pyrite.audit.reading import answer_nll

    rows = rows_of(data, name)[:400]
    compute = choose()
    quiet = lambda done, total, unit: None  # noqa: E731
    texts = [row.text for row in rows]
    base = load.resolve("packaged:minilm-l6").folder
    vectors = embed.sentence_embeddings(base, texts, compute=compute, report_progress=quiet)
    model = load.resolve("packaged:smollm2-135m-instruct").folder
    surprises = answer_nll(model, rows, compute=compute, max_tokens=256, report_progress=quiet)
    tokenize = tokenizer()
    against = {"ifeval": evaluation_texts("ifeval", data / "ifeval/input_data.jsonl")}
    warned, by = 0, Counter[str]()
    began = time.monotonic()
    for seed in range(first, first + splits):
        order = np.random.default_rng([seed, 77]).permutation(len(rows))
        half = len(rows) // 2
        given = Extras(
            embeddings=vectors[order],
            nll={key: values[order] for key, values in surprises.items()},
            tokenize=tokenize,
            against=against,
            seed=seed,
        )
        data_rows, others = [rows[at] for at in order[:half]], [rows[at] for at in order[half:]]
        draws = DrawSettings(permutations=permutations, halves=4, subsamples=2, seed=seed)
        found = [one for one in audited(data_rows, {name: others}, given, EVERY, draws) if one.severity != "ok"]
        warned += bool(found)
        by.update(one.full_name for one in found)
        print(f"{name} {seed}: {[one.full_name for one in found]} {time.monotonic() - began:.0f} s", file=sys.stderr)
    share = wilson(warned, splits)
    return {
        "source": name, "rows": len(rows), "audits": splits, "warned": warned,
        "share": warned / splits, "low": share.low, "high": share.high, "by": dict(by),
    }  # fmt: skip


Plant = Callable[[Sequence[Row], float, int], tuple[list[Row], set[int]]]


def power(data: Path, seeds: int, n: int, permutations: int, only: str | None) -> dict[str, Any]:
    """For each flaw and strength: the share of seeds in which its measure warns, and how well the marks find the rows."""
    tokenize = tokenizer()
    leaks = [
        " ".join(planted.sentence(np.random.default_rng([5, at]), 18, 24).split()) for at in range(40)
    ]  # stand nowhere in the source
    plants: dict[str, tuple[str, str, Plant]] = {
        "one opening": ("gsm8k", "format.opening_concentration", planted.with_opening),
        "near-duplicates": ("gsm8k", "duplicates.near", planted.with_near_duplicates),
        "topic words": ("wikitext", "tokens.overuse", planted.with_topic),
        "less spread": ("wikitext", "format.length_spread", planted.with_less_spread),
        "contaminated": ("wikitext", "contamination.ngram_13", lambda r, s, k: planted.with_leak(r, s, k, leaks)),
        "label follows overlap": ("mnli", "artifacts.overlap_label", planted.with_overlap_label),
    }
    plants = {name: plant for name, plant in plants.items() if only in (None, name)}
    made: dict[str, Any] = {}
    pools = {name: rows_of(data, name) for name in {name for name, _, _ in plants.values()}}
    for what, (source, measure, plant) in plants.items():
        for share in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
            told = Counter[str]()
            precision, recall = [], []
            for seed in range(seeds):
                order = np.random.default_rng([seed, 78]).permutation(len(pools[source]))
                size = min(n, len(order) // 2)
                rows = [replace(pools[source][at], number=place) for place, at in enumerate(order[:size])]
                human = [replace(pools[source][at], number=place) for place, at in enumerate(order[size : 2 * size])]
                rows, where = plant(rows, share, seed) if share else (rows, set())
                given = Extras(tokenize=tokenize, against={"set": leaks}, seed=seed)
                draws = DrawSettings(permutations=permutations, halves=4, subsamples=2, seed=seed)
                flaws = (measure.partition(".")[0],) if share else MODEL_FREE
                for one in audited(rows, {source: human}, given, flaws, draws):
                    null = one.record["null"]
                    sure = one.severity != "ok" if null is None or not share else null["p"] * EVERY_MEASURE <= 0.05
                    told.update([one.full_name] if sure else [])
                if where:
                    one, other = marked(measure, rows, human, where, given)
                    precision.append(one)
                    recall.append(other)
            line = {
                "found": told[measure] / seeds,
                "others": {name: count / seeds for name, count in told.items() if name != measure},
                "precision": mean_of(precision),
                "recall": mean_of(recall),
            }
            made[f"{what} {share:g}"] = line
            print(what, share, json.dumps(line), file=sys.stderr)
    return made


SHARES = (0.2, 0.4, 0.6, 0.8)
PLANTS: dict[str, tuple[str, Plant]] = {
    "one opening": ("format.opening_concentration", planted.with_opening),
    "near-duplicates": ("duplicates.near", planted.with_near_duplicates),
    "topic words": ("tokens.overuse", planted.with_topic),
}


def sources(
    folder: Path, work: Path, audits: int, permutations: int, counts: Sequence[int], flaws: Sequence[str]
) -> dict[str, Any]:
    """By number of references, of one genre or of several: the share of audits with a failure and with a warning, of a
    human source as it is (these families), and with each flaw planted (its own family)."""
    import random

    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
    import human_sources as made_by

    names = made_by.names_in(folder)
    tokenize = tokenizer()
    made: dict[str, Any] = {}
    for mode in ("same", "mixed"):
        for count in counts:
            rng = random.Random(f"{mode} {count}")
            told: dict[str, list[tuple[bool, bool]]] = {}
            while len(told.get("as it is", [])) < audits:
                data = rng.choice(names)
                pool = [one for one in names if one != data]
                if mode == "same":
                    pool = [one for one in pool if made_by.genre(one) == made_by.genre(data)]
                if len(pool) < count:
                    continue
                refs = rng.sample(pool, count)
                parts = [made_by.source(folder, work, one) for one in (data, *refs)]
                seed = len(told.get("as it is", []))
                given = made_by.extras_of_parts(parts, tokenize, seed)
                human = dict(zip(refs, [part.rows for part in parts[1:]], strict=True))
                draws = DrawSettings(permutations=permutations, subsamples=5, halves=40, seed=seed)
                found = audited(parts[0].rows, human, given, flaws, draws)
                told.setdefault("as it is", []).append(worst_of(found))
                if len(told["as it is"]) > audits // 2:
                    continue
                light = Extras(tokenize=tokenize, seed=seed)
                for what, (measure, plant) in PLANTS.items():
                    for share in SHARES:
                        if what == "near-duplicates" and max(len(row.answer.split()) for row in parts[0].rows) < 30:
                            continue  # copies are made of longer answers
                        rows, _ = plant(parts[0].rows, share, seed)
                        some = audited(rows, human, light, (measure.partition(".")[0],), draws)
                        own = [one for one in some if one.full_name == measure]
                        told.setdefault(f"{what} {share:g}", []).append(worst_of(own))
            made[f"{mode} {count}"] = {
                name: {"fail": float(np.mean([one[0] for one in some])), "warn": float(np.mean([one[1] for one in some])), "audits": len(some)}
                for name, some in told.items()
            }  # fmt: skip
            print(mode, count, json.dumps(made[f"{mode} {count}"]), file=sys.stderr, flush=True)
    return made


def worst_of(findings: Sequence[Finding]) -> tuple[bool, bool]:
    """Is any finding a failure, and is any a warning or worse?"""
    severities = {one.severity for one in findings}
    return "fail" in severities, bool(severities - {"ok"})


def mean_of(values: Sequence[float]) -> float | None:
    """The mean of what there is."""
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else None


def marked(
    measure: str, rows: Sequence[Row], human: Sequence[Row], where: set[int], given: Extras
) -> tuple[float, float]:
    """Precision and recall of the rows that the measure's rule marks; nan where it has no rule."""
    flaw, _, name = measure.partition(".")
    family = FLAWS[flaw]
    folder = None
    if flaw == "duplicates":
        import tempfile

        base = Path(tempfile.mkdtemp())
        (base / "part").mkdir()
        (base / "out").mkdir()
        stream = family.stream(base / "part", given)
        stream.add(rows)
        stream.close()
        family.merge([base / "part"], base / "out", given)
        folder = base / "out"
    shown = family.evidence(name, Population(list(rows), {}), {"human": Population(list(human), {})}, given)
    rule = evidence_json(shown, Population(list(rows), {}))["rule"]
    if rule is None or family.flag_scores is None:
        return float("nan"), float("nan")
    strength = family.flag_scores(list(rows), {name: rule}, given, folder)[name]
    hit = {row.number for row, value in zip(rows, strength, strict=True) if value >= 0.5}
    return len(hit & where) / max(1, len(hit)), len(hit & where) / len(where)


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["alarms", "power", "sources"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--source", default="user", choices=sorted(SOURCES))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plant", help="this flaw only, such as 'one opening'")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--permutations", type=int, default=1999)
    parser.add_argument("--work", type=Path, help="sources: what models say of the sources")
    parser.add_argument("--audits", type=int, default=40)
    parser.add_argument("--families", nargs="+", default=list(EVERY[:-2]), help="sources: what is looked for")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 3, 5, 8])
    given = parser.parse_args()
    if given.what == "alarms":
        made = alarms(given.data, given.source, given.splits, given.permutations, given.first)
    elif given.what == "sources":
        made = sources(given.data, given.work, given.audits, given.permutations, given.counts, given.families)
    else:
        made = power(given.data, given.seeds, given.rows, given.permutations, given.plant)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
