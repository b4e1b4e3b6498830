"""Grammars that write rows with labels that hold by construction: pairs of the blind spots, general NLI, and reviews."""

from pyrite.tasks.grammar.general import generate_general
from pyrite.tasks.grammar.heuristics import as_three_way, generate_pairs
from pyrite.tasks.grammar.reviews import generate_reviews
from pyrite.tasks.grammar.templates import SUBCASES

__all__ = ["SUBCASES", "as_three_way", "generate_general", "generate_pairs", "generate_reviews"]
