"""Duplicates: rows that say what another row says."""
