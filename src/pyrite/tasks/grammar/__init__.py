"""Grammars that write pairs of sentences with labels that hold by construction: the blind spots, and general NLI."""

from pyrite.tasks.grammar.general import generate_general
from pyrite.tasks.grammar.heuristics import as_three_way, generate_pairs
from pyrite.tasks.grammar.templates import SUBCASES

__all__ = ["SUBCASES", "as_three_way", "generate_general", "generate_pairs"]
