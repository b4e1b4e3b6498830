"""The study statistics: arrays in, numbers with their doubt out. No files, no logging, no global random state."""

from pyrite.stats.bootstrap import MIN_TEMPLATES, cluster_bootstrap, crossed_bootstrap
from pyrite.stats.decision import Verdict
from pyrite.stats.edges import no_room
from pyrite.stats.equivalence import tost
from pyrite.stats.gap import gap
from pyrite.stats.intervals import t_interval, wilson
from pyrite.stats.missing import MAX_MISSING, Answered, answered_by_both
from pyrite.stats.multiplicity import holm
from pyrite.stats.paired import McNemar, mcnemar, paired_t, paired_t_pvalue, wilson_difference
from pyrite.stats.power import PilotSd, SeedsNeeded, sd_from_pilot, seeds_needed
from pyrite.stats.ratio import ShareOfChange, share_over_answers, share_over_items, share_over_seeds
from pyrite.stats.verdict import MAX_PRIMARY, ContrastCell, Judgement, Share, judge, judge_family

__all__ = [
    "MAX_MISSING",
    "MAX_PRIMARY",
    "MIN_TEMPLATES",
    "Answered",
    "ContrastCell",
    "Judgement",
    "McNemar",
    "PilotSd",
    "SeedsNeeded",
    "Share",
    "ShareOfChange",
    "Verdict",
    "answered_by_both",
    "cluster_bootstrap",
    "crossed_bootstrap",
    "gap",
    "holm",
    "judge",
    "judge_family",
    "mcnemar",
    "no_room",
    "paired_t",
    "paired_t_pvalue",
    "sd_from_pilot",
    "seeds_needed",
    "share_over_answers",
    "share_over_items",
    "share_over_seeds",
    "t_interval",
    "tost",
    "wilson",
    "wilson_difference",
]
