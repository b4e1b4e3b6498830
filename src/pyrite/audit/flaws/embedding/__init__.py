"""Embedding: meanings that lie where those of human data do not."""
