"""Format: answers that share one shape."""

from pyrite.audit.flaw import Flaw, without_answers
from pyrite.audit.flaws.format.evidence import evidence
from pyrite.audit.flaws.format.figure import FIGURE
from pyrite.audit.flaws.format.statistics import STATISTICS, differences, flag_scores
from pyrite.audit.flaws.format.stream import Stream, merge

FLAW = Flaw(
    "format",
    STATISTICS,
    evidence,
    differences=differences,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    figure=FIGURE,
    tells_sources_apart={"shape_distance": True, "opening_concentration": False, "length_spread": False},
    prior_options=(),
    skips_unanswered=True,
    lacking=without_answers(STATISTICS),
)
