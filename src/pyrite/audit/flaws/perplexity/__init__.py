"""Perplexity: answers that are easier for a model than human ones, and less varied in it."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.perplexity.evidence import evidence
from pyrite.audit.flaws.perplexity.figure import FIGURE
from pyrite.audit.flaws.perplexity.statistics import STATISTICS, differences, flag_scores, lacking_prompts

FLAW = Flaw(
    "perplexity",
    STATISTICS,
    evidence,
    differences=differences,
    flag_scores=flag_scores,
    figure=FIGURE,
    needs=("nll",),
    prior_options=("model",),
    skips_unanswered=True,
    lacking=lacking_prompts,
)
