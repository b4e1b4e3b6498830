"""Contamination: rows that hold evaluation texts."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.contamination.evidence import evidence
from pyrite.audit.flaws.contamination.statistics import STATISTICS, alone, alone_from_totals, contrasts, flag_scores
from pyrite.audit.flaws.contamination.stream import Stream, merge

FLAW = Flaw(
    "contamination",
    STATISTICS,
    evidence,
    contrasts=contrasts,
    alone=alone,
    alone_from_totals=alone_from_totals,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    needs=("evaluation_sets",),
)
