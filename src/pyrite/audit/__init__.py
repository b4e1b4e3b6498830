"""What is wrong with this data set, before anyone trains on it? One file per flaw family, two yardsticks for each."""

from pyrite.verbs import callable_package

callable_package(__name__)
