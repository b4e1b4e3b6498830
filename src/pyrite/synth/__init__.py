"""Synthetic rows: a generator trained or asked, its texts parsed, and rows selected."""
