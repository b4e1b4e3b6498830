"""Diversity: answers that say less that is different."""
