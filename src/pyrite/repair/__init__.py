"""Unlearn a pattern that synthetic data taught a model, and keep what the model gained."""

from pyrite.verbs import callable_package

callable_package(__name__)
