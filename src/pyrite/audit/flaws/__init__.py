"""The flaws that an audit looks for: one folder each, and here the order in which they are reported. Loads nothing
heavy."""

BUILT_IN = ("format", "tokens", "perplexity", "embedding", "duplicates", "diversity", "artifacts", "contamination")
"""Folders here; each holds a `FLAW`."""
