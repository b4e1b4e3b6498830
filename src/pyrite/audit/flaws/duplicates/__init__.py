"""Duplicates: rows that say what another row says."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.duplicates.evidence import evidence
from pyrite.audit.flaws.duplicates.statistics import (
    STATISTICS,
    alone,
    alone_from_totals,
    differences,
    flag_scores,
    lacking_embeddings,
)
from pyrite.audit.flaws.duplicates.stream import Stream, merge, notes

FLAW = Flaw(
    "duplicates",
    STATISTICS,
    evidence,
    differences=differences,
    alone=alone,
    alone_from_totals=alone_from_totals,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    notes=notes,
    needs=("embeddings",),
    prior_options=(),
    lacking=lacking_embeddings,
)
