"""What shows that evaluation texts stand in the data: which sets, how many items, and the words that are shared."""

from collections.abc import Mapping

import numpy as np

from pyrite.audit import word_hashes
from pyrite.audit.flaw import Evidence, Extras, Population
from pyrite.audit.flaws.contamination.index import BOILERPLATE, Index, index_of, matches, runs_by_row
from pyrite.audit.rows import Row
from pyrite.audit.wording import truncate


def evidence(measure: str, data: Population, references: Mapping[str, Population], extras: Extras) -> Evidence:
    """Rows by set, of the whole data set where it was read, and the longest shared runs of the sample with the items
    they stand in. `Evidence.rows` are `Row.number`s."""
    index, rule = index_of(extras.against), {"measure": measure}
    if not index.names or not data.rows:
        return Evidence(rule=rule)
    counts = runs_by_row(data.rows, index)[measure]
    worst = sorted(np.flatnonzero(counts).tolist(), key=lambda at: (-counts[at], at))[:20]
    sets = {
        name: counts_of_set[measure] | {"items": counts_of_set["items"]}
        for name, counts_of_set in data.totals.get("sets", {}).items()
    }
    examples = [
        {"id": data.rows[at].id, "words": words, "item": item}
        for at in worst
        for words, item in _runs_of(data.rows[at], index, measure)[:1]
    ]
    lines = [_share_line(measure, data, references, index, int(np.count_nonzero(counts)))]
    for name, counts_of_set in sorted(sets.items(), key=lambda item: -item[1]["rows"]):
        if counts_of_set["rows"]:
            touched, items = counts_of_set["items_touched"], counts_of_set["items"]
            lines.append(f"{name}: {counts_of_set['rows']:,} rows touch {touched:,} of {items:,} texts")
    lines += [f"“{match['words']}” ({match['id']}) is in {match['item']}" for match in examples[:5]]
    if measure == "ngram_8" and index.boilerplate:
        lines.append(f"left out: {index.boilerplate:,} 8-grams that stand in {BOILERPLATE} or more evaluation texts")
    values = {"sample_rows": int(np.count_nonzero(counts)), "matches": examples, "sets": sets}
    return Evidence(tuple(lines), tuple(data.rows[at].number for at in worst), values, rule)


def _share_line(
    measure: str, data: Population, references: Mapping[str, Population], index: Index, sampled: int
) -> str:
    rows, total = sampled, len(data.rows)
    if measure in data.totals:
        rows, total = data.totals[measure]["rows"], data.totals["rows"]
    size = measure.removeprefix("ngram_")
    line = f"{rows / total:.2%} of rows ({rows:,} of {total:,}) hold {size} words in a row of an evaluation text"
    theirs = [row for population in references.values() for row in population.rows]
    if theirs:
        line += f" (references {np.count_nonzero(runs_by_row(theirs, index)[measure]) / len(theirs):.2%})"
    return line


def _runs_of(row: Row, index: Index, measure: str) -> list[tuple[str, str]]:
    """The row's shared runs, longest first, as words (about 80 characters), and the first item that each stands in."""
    its_words = word_hashes.words(row.whole_text)[: word_hashes.WORDS]
    spans: list[tuple[int, int, int]] = []
    for match in matches(word_hashes.text_hashes([its_words]), index, measure):
        first = match.runs.items[match.runs.bounds[match.grams]]
        spans += zip(match.words.tolist(), (match.words + match.size).tolist(), first.tolist(), strict=True)
    joined: list[list[int]] = []
    for start, end, item in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end, item])
    joined.sort(key=lambda span: (span[0] - span[1], span[0]))
    texts = [(b" ".join(its_words[start:end]).decode("utf-8", "replace"), item) for start, end, item in joined]
    return [(truncate(text), index.named(item)) for text, item in texts]
