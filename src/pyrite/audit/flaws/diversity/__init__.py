"""Diversity: answers that say less that is different."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.diversity.evidence import evidence
from pyrite.audit.flaws.diversity.statistics import STATISTICS, differences, flag_scores, lacking_words
from pyrite.audit.flaws.diversity.stream import Stream, merge

FLAW = Flaw(
    "diversity",
    STATISTICS,
    evidence,
    differences=differences,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    prior_options=(),
    skips_unanswered=True,
    lacking=lacking_words,
)
