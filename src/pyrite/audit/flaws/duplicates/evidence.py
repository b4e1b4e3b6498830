"""What shows that rows are copies: the largest groups, or the reference rows that they are copied from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyrite.audit import minhash
from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.duplicates.statistics import AGAINST, CLOSE, EXACT, NEARLY, SEMANTIC, Found, find
from pyrite.audit.minhash import NEAR, Array
from pyrite.audit.rows import Row
from pyrite.audit.wording import cut

SAID = {
    "exact": "repeat another row word for word",
    "near": f"share {NEAR:.0%} or more of their word trigrams with another row",
    "semantic": f"say the same as another row of the sample (cosine {CLOSE} or more)",
}


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """The largest groups of copies in the sample, with shares of the whole data set where it was read. `Evidence.rows`
    are `Row.number`s."""
    if measure == AGAINST.name:
        return _copied(data, references)
    found = find(data.rows, extras.row_embeddings)
    groups = _copy_groups(measure, found)
    rows, total = _share(measure, data, extras.row_embeddings)
    share = f"{rows / total:.1%} of rows ({rows:,} of {total:,}) {SAID[measure]}"
    values: dict[str, Any] = {"rows": rows, "share": rows / total}
    if references:
        theirs, start = [], len(data.rows)
        for one in references.values():
            theirs.append(
                _share(measure, one, None if extras.row_embeddings is None else extras.row_embeddings[start:])
            )
            start += len(one.rows)
        values["reference_share"] = sum(some for some, _ in theirs) / sum(of for _, of in theirs)
        share += f" (references {values['reference_share']:.1%})"
    lines = [
        f"{len(some)} rows of the sample: “{_excerpt(data.rows[some[0]])}” (ids {_ids(data.rows, some)})"
        for some in groups[:5]
    ]
    values["groups"] = [[data.rows[at].id for at in some[:10]] for some in groups[:10]]
    later = sorted(data.rows[at].number for some in groups for at in some[1:])
    shown = tuple(data.rows[at].number for some in groups for at in some[:4])[:20]
    rule = {"measure": measure} | ({"numbers": later} if measure == SEMANTIC.name else {})
    return Evidence((share, *lines), shown, values, rule)


def _copy_groups(measure: str, found: Found) -> list[list[int]]:
    """Places of rows that are each other's copies, largest group first."""
    root = found.text_of if measure == EXACT.name else found.cluster_of[found.text_of]
    if measure == SEMANTIC.name:
        root = np.arange(len(found.text_of))
        if found.semantic is not None and len(found.semantic[0]):
            minhash.unite(root, found.semantic[0], found.semantic[1])
    by: dict[int, list[int]] = {}
    for place, at in enumerate(root.tolist()):
        by.setdefault(at, []).append(place)
    several = [some for some in by.values() if len(some) > 1]
    if measure == NEARLY.name:
        several = [some for some in several if len(set(found.text_of[some].tolist())) > 1]
    return sorted(several, key=lambda some: (-len(some), some))


def _share(measure: str, population: Population, embeddings: Array | None) -> tuple[int, int]:
    """Rows with a partner, and all rows: of the whole where it is known, else of the sample."""
    if measure in population.totals:
        return population.totals[measure]["rows"], population.totals["rows"]
    found = find(population.rows, embeddings)
    if measure == SEMANTIC.name:
        return 0 if found.semantic is None else len(np.unique(found.semantic[0])), max(1, len(population.rows))
    return sum(map(len, _copy_groups(measure, found))), max(1, len(population.rows))


def _copied(data: Population, references: Mapping[str, Population]) -> Evidence:
    """Copies of reference rows: how many in the whole data, and those whose original is in the sample too."""
    told = data.totals.get(AGAINST.name)
    theirs = [row for one in references.values() for row in one.rows]
    found, size = find([*data.rows, *theirs], None), len(data.rows)
    groups = [*_copy_groups(NEARLY.name, found), *_copy_groups(EXACT.name, found)]
    pairs = {at: some[-1] - size for some in groups if some[-1] >= size for at in some if at < size}
    lines = []
    if told:
        lines.append(f"{told['share']:.1%} of rows ({told['rows']:,}) are copies, or nearly, of reference rows")
    for at, other in list(pairs.items())[:5]:
        row = theirs[other]
        lines.append(f"“{_excerpt(data.rows[at])}” (id {data.rows[at].id}) is {row.source or 'reference'} row {row.id}")
    numbers = [data.rows[at].number for at in pairs] or (told["numbers"] if told else [])
    values = {} if not told else {"rows": told["rows"], "share": told["share"]}
    return Evidence(tuple(lines), tuple(numbers[:20]), values, {"measure": AGAINST.name})


def _excerpt(row: Row) -> str:
    return cut(" ".join(row.text[:400].split()))


def _ids(rows: Sequence[Row], places: Sequence[int]) -> str:
    return ", ".join(rows[at].id for at in places[:3]) + (", …" if len(places) > 3 else "")
