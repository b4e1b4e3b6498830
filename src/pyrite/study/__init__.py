"""Studies: does training on this data make the model less robust?"""

from pyrite.verbs import callable_package

callable_package(__name__)
