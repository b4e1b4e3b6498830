"""Tokens: words and stock phrases at other rates than people use them."""
