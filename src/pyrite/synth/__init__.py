"""Synthetic rows: a generator trained or asked, its texts parsed, and rows selected."""

from pyrite.verbs import callable_package

callable_package(__name__)
