"""Artifacts: labels that can be told without reading for meaning."""
