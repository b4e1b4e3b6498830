"""Natural language inference: does the hypothesis follow from the premise? Labels, cleaning, two-way view."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pyrite.data.keys import as_written
from pyrite.records import Labelled

LABELS = ("entailment", "neutral", "contradiction")
TWO_WAY = {"entailment": "entailment", "neutral": "non-entailment", "contradiction": "non-entailment"}
TWO_LABELS = ("entailment", "non-entailment")
"""The labels of the two-way view, as the tasks spell them (`data.keys.label_key`)."""
HEURISTICS = ("lexical_overlap", "subsequence", "constituent")
NO_LABEL = "-"
"""What MultiNLI and SNLI write where the annotators did not agree."""

Duplicates = Literal["drop_all", "drop_repeats", "keep"]


def clean_labelled(rows: Iterable[Labelled], dropped: Counter[str], *, duplicates: Duplicates) -> list[Labelled]:
    """Which rows can be trained and scored on? Rows without a gold label go, and duplicates as asked; all are counted.

    `drop_all` drops every copy of a row whose text occurs twice, as arXiv 2502.07164 does; `drop_repeats` keeps the
    first. Text is compared as it is written (`data.keys.as_written`).
    """
    labelled = []
    for row in rows:
        if row.label is None or row.label == NO_LABEL:
            dropped["no gold label"] += 1
        else:
            labelled.append(row)
    if duplicates == "keep":
        return labelled
    times = Counter(map(as_written, labelled))
    rows_kept, fields_so_far = [], set()
    for row in labelled:
        key = as_written(row)
        if times[key] > 1 and (duplicates == "drop_all" or key in fields_so_far):
            dropped["duplicate"] += 1
        else:
            rows_kept.append(row)
        fields_so_far.add(key)
    return rows_kept
