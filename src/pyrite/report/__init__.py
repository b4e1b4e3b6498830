"""Show my team: run folders as one self-contained HTML page. Reads what was stored, draws it, computes nothing."""

from pyrite.verbs import callable_package

callable_package(__name__)
