"""The study statistics: arrays in, numbers with their doubt out. No files, no logging, no global random state."""

from pyrite.stats.bootstrap import MIN_TEMPLATES, cluster_bootstrap, crossed_bootstrap
from pyrite.stats.equivalence import tost
from pyrite.stats.gap import gap
from pyrite.stats.intervals import t_interval, wilson
from pyrite.stats.multiplicity import holm
from pyrite.stats.paired import McNemar, mcnemar, paired_t, paired_t_pvalue, wilson_difference
from pyrite.stats.power import PilotSd, SeedsNeeded, sd_from_pilot, seeds_needed
from pyrite.stats.verdict import MAX_PRIMARY, Judgement, Verdict, judge, judge_family

__all__ = [
    "MAX_PRIMARY",
    "MIN_TEMPLATES",
    "Judgement",
    "McNemar",
    "PilotSd",
    "SeedsNeeded",
    "Verdict",
    "cluster_bootstrap",
    "crossed_bootstrap",
    "gap",
    "holm",
    "judge",
    "judge_family",
    "mcnemar",
    "paired_t",
    "paired_t_pvalue",
    "sd_from_pilot",
    "seeds_needed",
    "t_interval",
    "tost",
    "wilson",
    "wilson_difference",
]
