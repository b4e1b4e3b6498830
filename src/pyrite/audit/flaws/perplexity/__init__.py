"""Perplexity: answers that are easier for a model than human ones, and less varied in it."""
