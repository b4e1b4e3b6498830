"""Contamination: rows that hold evaluation texts."""
