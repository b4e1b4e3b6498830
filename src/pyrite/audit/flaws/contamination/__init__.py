"""Contamination: rows that hold evaluation texts."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.contamination.evidence import evidence
from pyrite.audit.flaws.contamination.statistics import STATISTICS, alone, alone_from_totals, differences, flag_scores
from pyrite.audit.flaws.contamination.stream import Stream, merge

FLAW = Flaw(
    "contamination",
    STATISTICS,
    evidence,
    differences=differences,
    alone=alone,
    alone_from_totals=alone_from_totals,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    needs=("evaluation_sets",),
    reads_prompts=True,
)
