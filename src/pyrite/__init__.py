"""Pyrite: find out what synthetic training data does to a language model, and repair the model where it did harm."""

__version__ = "0.1.0"
