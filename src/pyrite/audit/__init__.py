"""`pyrite audit`: what is wrong with a data set, before anyone trains on it. One folder for each flaw, a null and a
baseline of human sources for each of its statistics."""

from pyrite.verbs import callable_package

callable_package(__name__)
