"""Rows as sets: what makes two rows the same."""
