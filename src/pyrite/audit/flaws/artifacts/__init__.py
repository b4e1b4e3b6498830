"""Artifacts: labels that can be told without reading for meaning."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.artifacts.evidence import evidence
from pyrite.audit.flaws.artifacts.statistics import STATISTICS, alone, differences, flag_scores, lacking_labels

FLAW = Flaw(
    "artifacts",
    STATISTICS,
    evidence,
    differences=differences,
    alone=alone,
    flag_scores=flag_scores,
    where_labels_differ=(
        "data and references do not have the same labels: label artifacts were measured on the data alone"
    ),
    lacking=lacking_labels,
)
