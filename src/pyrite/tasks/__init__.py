"""The tasks that models are probed with: items, and how an answer is scored. No model in sight."""

from pyrite.tasks.nli import LABELS, TWO_LABELS, TWO_WAY
from pyrite.tasks.scoring import Task

NLI = Task("nli", LABELS, slices=(("gold",),), also_merged=("accuracy_2way", TWO_WAY))
NLI_TWO_WAY = Task("nli", TWO_LABELS, merge=TWO_WAY, slices=(("gold",),))
"""The same where the labels that models learn are two."""
HANS = Task(
    "hans",
    TWO_LABELS,
    merge=TWO_WAY,
    slices=(("heuristic",), ("gold",), ("heuristic", "gold"), ("subcase", "gold"), ("template", "gold")),
    template="template",
    headline={"gold": "non-entailment"},  # a model that says "entailment" to everything stands at one half overall
    headline_by="heuristic",
)
REVIEWS = Task("reviews", ("positive", "negative"), slices=(("negated",), ("gold",), ("negated", "gold")))
NEGATION = Task(
    "negation",
    ("positive", "negative"),
    slices=(("gold",), ("template",)),
    template="template",
    headline={"gold": "positive"},  # "not" read as "negative" leaves the negative half right
    headline_by="gold",
)
TASKS = {"nli": NLI, "hans": HANS}
"""Tasks that are asked on a file: `--task NAME=FILE`."""
WRITTEN_BY_GRAMMAR = {"heuristics": HANS, "negation": NEGATION, "reviews": REVIEWS}
"""Tasks that a grammar of ours writes fresh items for: `--task NAME=ROWS`."""
