"""Tokens: words and stock phrases at other rates than people use them."""

from pyrite.audit.flaw import Flaw, without_answers
from pyrite.audit.flaws.tokens.evidence import drawn_values, evidence
from pyrite.audit.flaws.tokens.figure import FIGURE
from pyrite.audit.flaws.tokens.statistics import STATISTICS, differences, flag_scores
from pyrite.audit.flaws.tokens.stream import Stream, merge

FLAW = Flaw(
    "tokens",
    STATISTICS,
    evidence,
    differences=differences,
    stream=Stream,
    merge=merge,
    flag_scores=flag_scores,
    drawn_values=drawn_values,
    figure=FIGURE,
    needs=("tokenizer",),
    tells_sources_apart={"distance": True},
    prior_options=("model", "tokenizer"),
    skips_unanswered=True,
    lacking=without_answers(STATISTICS),
)
