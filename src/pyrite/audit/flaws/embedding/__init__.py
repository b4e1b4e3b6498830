"""Embedding: meanings that lie where those of human data do not."""

from pyrite.audit.flaw import Flaw
from pyrite.audit.flaws.embedding.evidence import drawn_values, evidence
from pyrite.audit.flaws.embedding.figure import FIGURE
from pyrite.audit.flaws.embedding.statistics import CLASSIFIER, STATISTICS, differences, lacking_meanings

FLAW = Flaw(
    "embedding",
    STATISTICS,
    evidence,
    differences=differences,
    drawn_values=drawn_values,
    figure=FIGURE,
    needs=("embeddings",),
    tells_sources_apart={"mmd": True},
    tells_tasks_apart=CLASSIFIER.name,
    prior_options=("embedder",),
    skips_unanswered=True,
    lacking=lacking_meanings,
)
