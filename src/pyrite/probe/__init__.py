"""Probes: what a model answers on a general task and in its blind spots."""

from pyrite.verbs import callable_package

callable_package(__name__)
