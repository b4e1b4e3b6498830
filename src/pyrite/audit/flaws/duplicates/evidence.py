"""What shows that rows are copies: the largest groups, or the reference rows that they are copied from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyrite.audit import copy_clusters
from pyrite.audit.flaw import Evidence, Extras, Population, SideEmbeddings
from pyrite.audit.flaws.duplicates.statistics import (
    AGAINST,
    CLOSE,
    EXACT,
    NEARLY,
    SEMANTIC,
    SamplePairs,
    find_pairs,
    first_rows,
)
from pyrite.audit.minhash import NEAR
from pyrite.audit.rows import Row
from pyrite.audit.wording import truncate

SAID = {
    "exact": "repeat another row word for word",
    "near": f"share {NEAR:.0%} or more of their word trigrams with another row, in prompt and answer alike",
    "semantic": f"ask and say the same as another row of the sample (cosines of {CLOSE} or more)",
}


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The largest groups of copies in the sample, with shares of the whole data set where it was read. `Evidence.rows`
    are `Row.number`s."""
    if measure == AGAINST.name:
        return _copied(data, references)
    embeddings = first_rows(extras.side_embeddings, len(data.rows))
    pairs = find_pairs(data.rows, embeddings)
    groups = _copy_groups(measure, pairs)
    rows, total = _share(measure, data, embeddings)
    share = f"{rows / total:.1%} of rows ({rows:,} of {total:,}) {SAID[measure]}"
    values: dict[str, Any] = {"rows": rows, "share": rows / total}
    if references:
        theirs, start = [], len(data.rows)
        for population in references.values():
            theirs.append(_share(measure, population, first_rows(extras.side_embeddings, len(population.rows), start)))
            start += len(population.rows)
        values["reference_share"] = sum(copied for copied, _ in theirs) / sum(of for _, of in theirs)
        share += f" (references {values['reference_share']:.1%})"
    lines = [
        f"{len(group)} rows of the sample: “{_excerpt(data.rows[group[0]])}” (ids {_ids(data.rows, group)})"
        for group in groups[:5]
    ]
    values["groups"] = [[data.rows[at].id for at in group[:10]] for group in groups[:10]]
    later = sorted(data.rows[at].number for group in groups for at in group[1:])
    row_numbers = tuple(data.rows[at].number for group in groups for at in group[:4])[:20]
    rule = {"measure": measure} | ({"numbers": later} if measure == SEMANTIC.name else {})
    return Evidence((share, *lines), row_numbers, values, rule)


def _copy_groups(measure: str, pairs: SamplePairs) -> list[list[int]]:
    """Places of rows that are each other's copies, largest group first."""
    root = pairs.text_of if measure == EXACT.name else pairs.cluster_of[pairs.text_of]
    if measure == SEMANTIC.name:
        root = np.arange(len(pairs.text_of))
        if pairs.semantic is not None and len(pairs.semantic[0]):
            copy_clusters.unite(root, pairs.semantic[0], pairs.semantic[1])
    by: dict[int, list[int]] = {}
    for place, at in enumerate(root.tolist()):
        by.setdefault(at, []).append(place)
    several = [group for group in by.values() if len(group) > 1]
    if measure == NEARLY.name:
        several = [group for group in several if len(set(pairs.text_of[group].tolist())) > 1]
    return sorted(several, key=lambda group: (-len(group), group))


def _share(measure: str, population: Population, embeddings: SideEmbeddings | None) -> tuple[int, int]:
    """Rows with a partner, and all rows: of the whole where it is known, else of the sample."""
    if measure in population.totals:
        return population.totals[measure]["rows"], population.totals["rows"]
    pairs = find_pairs(population.rows, embeddings)
    if measure == SEMANTIC.name:
        return 0 if pairs.semantic is None else len(np.unique(pairs.semantic[0])), max(1, len(population.rows))
    return sum(map(len, _copy_groups(measure, pairs))), max(1, len(population.rows))


def _copied(data: Population, references: Mapping[str, Population]) -> Evidence:
    """Copies of reference rows: how many in the whole data, and those whose original is in the sample too."""
    counts = data.totals.get(AGAINST.name)
    theirs = [row for population in references.values() for row in population.rows]
    duplicates, size = find_pairs([*data.rows, *theirs], None), len(data.rows)
    groups = [*_copy_groups(NEARLY.name, duplicates), *_copy_groups(EXACT.name, duplicates)]
    pairs = {at: group[-1] - size for group in groups if group[-1] >= size for at in group if at < size}
    lines = []
    if counts:
        lines.append(f"{counts['share']:.1%} of rows ({counts['rows']:,}) are copies, or nearly, of reference rows")
    for at, original in list(pairs.items())[:5]:
        row = theirs[original]
        lines.append(f"“{_excerpt(data.rows[at])}” (id {data.rows[at].id}) is {row.source or 'reference'} row {row.id}")
    numbers = [data.rows[at].number for at in pairs] or (counts["numbers"] if counts else [])
    values = {} if not counts else {"rows": counts["rows"], "share": counts["share"]}
    return Evidence(tuple(lines), tuple(numbers[:20]), values, {"measure": AGAINST.name})


def _excerpt(row: Row) -> str:
    return truncate(" ".join(row.text[:400].split()))


def _ids(rows: Sequence[Row], places: Sequence[int]) -> str:
    return ", ".join(rows[at].id for at in places[:3]) + (", …" if len(places) > 3 else "")
