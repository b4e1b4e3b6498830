"""Tell my CI: does a finished run meet these conditions? Reads what was stored; asks no model."""

from pyrite.verbs import callable_package

callable_package(__name__)
