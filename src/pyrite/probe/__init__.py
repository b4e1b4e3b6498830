"""Probes: what a model answers on a general task and in its blind spots."""
