"""The tasks that models are probed with: items, and how an answer is scored. No model in sight."""

from pyrite.tasks.nli import LABELS, TWO_WAY
from pyrite.tasks.score import Task

NLI = Task("nli", LABELS, slices=(("gold",),), also_merged=("accuracy_2way", TWO_WAY))
HANS = Task(
    "hans",
    ("entailment", "non-entailment"),
    merge=TWO_WAY,
    slices=(("heuristic",), ("gold",), ("heuristic", "gold"), ("subcase", "gold"), ("template", "gold")),
    template="template",
    headline={"gold": "non-entailment"},  # a model that says "entailment" to everything stands at one half overall
    headline_by="heuristic",
)
TASKS = {"nli": NLI, "hans": HANS}
