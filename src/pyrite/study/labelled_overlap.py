"""Which rows, and which texts of rows, do two sets of a study share? What models are asked should not be what they saw."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyrite.data.keys import same_fields, same_text
from pyrite.records import Labelled
from pyrite.study.labelled_steps import overlap
from pyrite.study.spec import StudySpec

LABEL_WORDS = 3
"""A field of fewer words than this on average, whose values come back, is a choice among a few, as a label is."""
LABEL_TIMES = 10
"""How often such a value comes back, on average."""


def overlap_table(sets: Mapping[str, Sequence[Labelled]]) -> list[dict[str, Any]]:
    """How many rows, and how many texts of rows, do two sets share? One line for every pair of sets `a` and `b`.

    `shared` counts distinct whole texts; `shared_a` the rows of a whose whole text b has, `shared_b` those of b; of
    rows with several fields, `shared_FIELD_a` and `shared_FIELD_b` the rows whose text in this field the other set has,
    whatever stands beside it. Case, white space and Unicode's compatibility forms do not matter. Fields that choose among a few short values do not count.
    """
    table = overlap(sets)
    add_sides(table, "shared", {name: Counter(map(same_fields, rows)) for name, rows in sets.items()})
    for field in text_fields(sets):
        texts = {name: [row.fields[field] for row in rows if field in row.fields] for name, rows in sets.items()}
        add_sides(
            table,
            f"shared_{field}",
            {name: Counter(map(same_text, field_texts)) for name, field_texts in texts.items()},
        )
    return table


def add_sides(table: Sequence[dict[str, Any]], column: str, counts: Mapping[str, Counter[Any]]) -> None:
    """Add to each line `COLUMN_a` and `COLUMN_b`: the rows of a set whose text the other has; `counts` are by set and text."""
    for line in table:
        a, b = counts[line["a"]], counts[line["b"]]
        both = a.keys() & b.keys()
        line[f"{column}_a"], line[f"{column}_b"] = sum(a[text] for text in both), sum(b[text] for text in both)


def text_fields(sets: Mapping[str, Sequence[Labelled]]) -> list[str]:
    """The fields whose texts are worth comparing on their own: of rows with several, those that are no choice of labels."""
    texts: dict[str, Counter[str]] = {}
    for rows in sets.values():
        for row in rows:
            for field, text in row.fields.items():
                texts.setdefault(field, Counter())[same_text(text)] += 1
    return [field for field, counts in texts.items() if not is_label(counts)] if len(texts) > 1 else []


def is_label(counts: Counter[str]) -> bool:
    """Are these (value: how often) a few short values that come back, as labels are?"""
    words = sum(len(text.split()) for text in counts) / max(1, len(counts))
    return words < LABEL_WORDS and counts.total() >= LABEL_TIMES * len(counts)


def leaks(spec: StudySpec, table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which probes hold rows that models, or their generators, were trained on, or texts of such rows?

    A note for each set of rows that shares whole rows with a probe; beside these one note for each probe: which text of
    how many other rows was trained on at most.
    """
    notes = []
    most: dict[str, tuple[float, str]] = {}
    for rows, probe, side, line in seen_in_training(spec, table):
        of = line[f"rows_{side}"]
        if line["shared"]:
            notes.append(f"{line['shared']} texts of {probe} ({of} rows) are also in {rows}: what is asked was seen")
        for field in spec.fields:
            count = line.get(f"shared_{field}_{side}", 0) - line.get(f"shared_{side}", 0)
            if count > 0 and count / of > most.get(probe, (0.0, ""))[0]:
                share_text = (
                    f"{percent(count / of)} of the rows of {probe} ({count} of {of}) share their {field} with {rows}"
                )
                most[probe] = count / of, f"{share_text}, the rest of the row apart: part of what is asked was seen"
    return [*notes, *(note for _, note in most.values())]


def seen_in_training(
    spec: StudySpec, table: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """The lines of the table on a probe and rows that models, or their generators, were trained on: these rows' name,
    the probe, its side (a or b), the line."""
    learned = {source.train_on for source in spec.data.values() if source.synth}
    learned |= {rows for repair in spec.repairs.values() for rows in repair.pools().values()}
    for line in table:
        for rows, probe, side in ((line["a"], line["b"], "b"), (line["b"], line["a"], "a")):
            if probe.startswith("probe ") and (rows.startswith(("start ", "arm ")) or rows in learned):
                yield rows, probe, side, line


def percent(share: float) -> str:
    """A share above 0 in whole percent.

    >>> percent(0.92), percent(0.001)
    ('92 %', 'under 1 %')
    """
    return f"{share * 100:.0f} %" if share >= 0.005 else "under 1 %"
