"""Steps that make the rows of a study: read and clean, divide into pools, write by grammar, draw an arm, judge labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import orjson

from pyrite.data.keys import same_fields
from pyrite.errors import UserError
from pyrite.records import Labelled, Record
from pyrite.steps import Context, StepType
from pyrite.study.labelled_uses import HELD_OUT
from pyrite.synth.select import draw_rows
from pyrite.synth.settings import BiasSettings
from pyrite.tasks import nli
from pyrite.tasks.grammar import as_three_way, generate_general, generate_pairs, generate_reviews
from pyrite.tasks.groups import balanced_groups, group_of, grouped, whole_groups
from pyrite.tasks.rows import as_labelled, by_label, read_rows, write_counts, write_rows


def grammar_step(context: Context) -> None:
    """Step: a grammar's rows."""
    rows = rows_of_grammar(context.config["grammar"], context.config["fields"])
    write_rows(rows, context.out / "rows.jsonl")
    write_counts(context.out, len(rows), rows, Counter(), sorted({str(row.label) for row in rows}))


def rows_of_grammar(config: Mapping[str, Any], fields: Sequence[str]) -> list[Labelled]:
    """The rows that a grammar writes (`GrammarSpec.as_config`)."""
    written: Sequence[Record]
    if config["name"] == "reviews":
        written = generate_reviews(
            config["rows"], seed=config["seed"], negated=config["negated"], style=config["style"]
        )
    elif config["name"] == "general":
        written = generate_general(
            config["rows"],
            seed=config["seed"],
            overlap_entailment=config["overlap_entailment"],
            overlap_other=config["overlap_other"],
        )
    else:
        written = pairs = generate_pairs(
            config["rows"],
            seed=config["seed"],
            subcases=config["subcases"],
            leave_out_heuristics=[name for name in config["leave_out"] if name in nli.HEURISTICS],
            leave_out_subcases=[name for name in config["leave_out"] if name not in nli.HEURISTICS],
        )
        if config["three_way"]:
            written = as_three_way(pairs)
    return [as_labelled(record, fields) for record in written]


def pools_step(context: Context) -> None:
    """Step: one source divided into named pools, each a file, with `overlap.json`: rows that two pools share.

    With a `division` (a seed of the study), only the pools that are `kept` hold the rows that they hold without; the
    other rows are divided anew.
    """
    config = context.config
    rows = read_rows(context.inputs["rows"] / "rows.jsonl")
    pools = divide(rows, config, np.random.default_rng(config["seed"]))
    if "division" in config:
        fixed_pools = {name: pools[name] for name in config["kept"]}
        pools = divide(rows, config, np.random.default_rng([config["seed"], config["division"]]), fixed_pools)
    for name, pool_rows in pools.items():
        write_rows(pool_rows, context.out / f"{name}.jsonl")
    (context.out / "overlap.json").write_bytes(orjson.dumps(overlap(pools), option=orjson.OPT_INDENT_2))


def divide(
    rows: Sequence[Labelled],
    config: Mapping[str, Any],
    rng: np.random.Generator,
    fixed_pools: Mapping[str, list[Labelled]] | None = None,
) -> dict[str, list[Labelled]]:
    """Rows → pools, in the order of the file, by a step's configuration; `fixed_pools` are filled already.

    Disjoint pools are filled by name, the rest last. A pool that is not disjoint draws from every row but those of the
    disjoint pools that are held out, unless it shares with them by name. A pool may take rows with some values only
    (`where`). With a `group`, what is drawn are whole groups,
    and the rows that a balance leaves over of a group are in no pool.
    """
    pool_configs: Mapping[str, Mapping[str, Any]] = config["pools"]
    labels: list[str] = config["labels"]
    units = drawing_order(rows, config.get("group"), rng)
    unit_of = {row.id: number for number, unit in enumerate(units) for row in unit}
    pools: dict[str, list[Labelled]] = dict(fixed_pools or {})
    disjoint = {name for name, pool in pool_configs.items() if pool["disjoint"] and pool["rows"] != "all"}
    units_taken = {name: {unit_of[row.id] for row in pools[name]} for name in pools if name in disjoint}

    def fill(name: str, shut: set[int]) -> None:
        where = pool_configs[name].get("where", {})
        free = [
            unit for number, unit in enumerate(units) if number not in shut and all(has(row, where) for row in unit)
        ]
        pools[name] = pool_of(free, pool_configs[name], labels, name)

    # by name: the same whatever the order in the file
    for name in sorted(disjoint - pools.keys(), key=lambda name: (pool_configs[name]["rows"] == "rest", name)):
        fill(name, set().union(*units_taken.values()))
        units_taken[name] = {unit_of[row.id] for row in pools[name]}
    held_out = units_taken.keys() & set(config.get("held_out", HELD_OUT))
    for name in [name for name in pool_configs if name not in pools]:
        fill(
            name,
            set().union(
                *(
                    units_taken[pool_name]
                    for pool_name in held_out
                    if pool_name not in pool_configs[name].get("shares_with", ())
                )
            ),
        )
    if config.get("group"):
        at = {row.id: number for number, row in enumerate(rows)}
        order = rng.permutation(len(rows))  # a pool's first rows are a fair draw, not the first groups
        pools = {
            name: pool_rows
            if fixed_pools and name in fixed_pools
            else sorted(pool_rows, key=lambda row: order[at[row.id]])
            for name, pool_rows in pools.items()
        }
    return {name: pools[name] for name in pool_configs}


def has(row: Labelled, where: Mapping[str, str]) -> bool:
    """Does a row have these values in its columns (`label` is its label)?"""
    return all(str(row.label if name == "label" else row.meta.get(name, "")) == value for name, value in where.items())


def drawing_order(rows: Sequence[Labelled], group: str | None, rng: np.random.Generator) -> list[list[Labelled]]:
    """What is drawn one after the other: rows, or with a `group` the rows of one group together."""
    if group is None:
        return [[rows[at]] for at in rng.permutation(len(rows))]
    groups = grouped(rows, lambda row: group_of(row, group), f"group: {group}")
    return [groups[at] for at in rng.permutation(len(groups))]


def pool_of(
    units: Sequence[Sequence[Labelled]], pool: Mapping[str, Any], labels: Sequence[str], name: str
) -> list[Labelled]:
    """The rows of one pool: so many, or as many as there are (balanced: as many of each label as of the rarest)."""
    rows = [row for unit in units for row in unit]
    count = pool["rows"]
    if not pool["balance"]:
        count = len(rows) if count in ("rest", "all") else count
        chosen = [row for at in whole_groups([len(unit) for unit in units], count) for row in units[at]]
        return take(chosen, max(count, len(chosen)), None, f"pool {name}")
    rows_of_label = by_label(rows, labels)
    share = min(map(len, rows_of_label.values())) if count in ("rest", "all") else count // len(labels)
    tables = [Counter(str(row.label) for row in unit) for unit in units]
    chosen = [row for at in balanced_groups(tables, dict.fromkeys(labels, share)) for row in units[at]]
    return take(chosen, share * len(labels), labels, f"pool {name}")


def take(rows: Sequence[Labelled], count: int, labels: Sequence[str] | None, where: str) -> list[Labelled]:
    """The first `count` rows (the first of each label, where balanced), or a `UserError` that counts what is there."""
    if labels is None:
        chosen = list(rows[:count])
    else:
        share = count // len(labels)
        chosen = [row for group in by_label(rows, labels).values() for row in group[:share]]
        count = share * len(labels)
    if len(chosen) < count:
        raise UserError(
            "There are too few rows.", f"{where}: {len(chosen)} of {count}", "ask for fewer rows or provide more"
        )
    return chosen


def overlap(sets: Mapping[str, Sequence[Labelled]]) -> list[dict[str, Any]]:
    """How many rows of one set have the same text as a row of another? Every pair of sets (`data.keys.same_fields`)."""
    keys = {name: set(map(same_fields, rows)) for name, rows in sets.items()}
    return [
        {"a": a, "b": b, "rows_a": len(sets[a]), "rows_b": len(sets[b]), "shared": len(keys[a] & keys[b])}
        for a, b in combinations(keys, 2)
    ]


def arm_step(context: Context) -> None:
    """Step: the rows of one arm (or start): drawn from each data of the mix, biased and noised where asked."""
    config = context.config
    labels: list[str] = config["labels"]
    rng = np.random.default_rng(config["seed"])
    drawn: list[Labelled] = []
    dropped: Counter[str] = Counter()
    read = 0
    for number, part in enumerate(config["parts"]):
        pool = read_rows(context.inputs[f"part{number}"] / part["file"])
        read += len(pool)
        count = len(pool) if part["rows"] == "all" else part["rows"]
        bias = BiasSettings.model_validate(part["bias"]) if part["bias"] else None
        if part["rows"] == "all" or not config["balance"]:
            picked = draw_rows(pool, count, labels=labels, bias=bias, rng=rng, source=part["name"], balance="none")
        else:
            picked = draw_rows(pool, count, labels=labels, bias=bias, rng=rng, source=part["name"])
        dropped["not drawn"] += len(pool) - len(picked)
        drawn += [Labelled(row.fields, row.label, f"{part['name']}/{row.id}", {"from": part["name"]}) for row in picked]
    rate = config["noise"]
    if "quality" in context.inputs:
        rate = orjson.loads((context.inputs["quality"] / "quality.json").read_bytes())["error_rate"]
    flipped = 0
    if rate:
        for at in np.flatnonzero(rng.random(len(drawn)) < rate):
            row = drawn[at]
            other_labels = [label for label in labels if label != row.label]
            drawn[at] = Labelled(
                row.fields, other_labels[rng.integers(len(other_labels))], row.id, {**row.meta, "label_was": row.label}
            )
            flipped += 1
    drawn = [drawn[at] for at in rng.permutation(len(drawn))]
    write_rows(drawn, context.out / "rows.jsonl")
    write_counts(context.out, read, drawn, dropped, labels)
    (context.out / "noise.json").write_bytes(orjson.dumps({"rate": rate or 0.0, "flipped": flipped}))


def quality_step(context: Context) -> None:
    """Step: how often a judge trained on human rows agrees with the labels of synthetic rows, and 100 rows to read.

    `error_rate` is what `human_noised` arms flip: the judge's disagreement on the synthetic rows less its
    disagreement on held-out human rows, over what is left of those: (d_s - d_h) / (1 - d_h · k/(k-1)), at least 0. It
    takes the judge's own mistakes to be independent of the generator's and spread evenly over the k labels. All of
    these are means over labels of the share within each label, for arms are balanced by label and raw texts are not.
    """
    from pyrite.probe.predict import predict_with

    labels: list[str] = context.config["labels"]
    synthetic = read_rows(context.inputs["rows"] / "rows.jsonl")
    human = read_rows(context.inputs["human"] / context.config["human_file"])
    predicted = predict_with(context, [*synthetic, *human])
    wrong = [row.label != label for row, label in zip(synthetic, predicted, strict=False)]
    wrong_human = [row.label != label for row, label in zip(human, predicted[len(synthetic) :], strict=True)]
    k = len(labels)
    d_s, d_h = by_label_mean(synthetic, wrong, labels), by_label_mean(human, wrong_human, labels)
    rate = max(0.0, (d_s - d_h) / max(1e-9, 1 - d_h * k / (k - 1)))
    by = {
        label: {"n": len(group), "agreement": float(np.mean([not wrong[at] for at in group])) if group else None}
        for label in labels
        for group in [[at for at, row in enumerate(synthetic) if row.label == label]]
    }
    record = {
        "agreement": 1 - d_s,
        "n": len(synthetic),
        "judge_accuracy_on_human": 1 - d_h,
        "n_human": len(human),
        "error_rate": min(rate, 1 - 1 / k),
        "by_label": by,
    }
    (context.out / "quality.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(synthetic))[:100]
    read_me = [
        Labelled(synthetic[at].fields, synthetic[at].label, synthetic[at].id, {"judge": predicted[at]}) for at in sample
    ]
    write_rows(read_me, context.out / "to_read.jsonl")


def by_label_mean(rows: Sequence[Labelled], wrong: Sequence[bool], labels: Sequence[str]) -> float:
    """The share that is wrong within each label, averaged over the labels that occur."""
    shares = [np.mean([w for row, w in zip(rows, wrong, strict=True) if row.label == label]) for label in labels
              if any(row.label == label for row in rows)]  # fmt: skip
    return float(np.mean(shares))


GRAMMAR = StepType("data.grammar", 1, grammar_step)
POOLS = StepType("data.pools", 2, pools_step)
ARM = StepType("data.arm", 2, arm_step)
QUALITY = StepType("synth.quality", 4, quality_step)
