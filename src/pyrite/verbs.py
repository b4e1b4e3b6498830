"""Makes a verb's package callable, so that `pyrite.study(config)` is the verb and `pyrite.study` its folder.

Importing a folder sets it as an attribute of `pyrite`, over any function of that name; so the folder itself is called.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from pyrite.errors import UserError


class Verb(ModuleType):
    """A package that is called like the function of the same name in its module `run`."""

    def __call__(self, config: Any) -> Any:
        """Run the verb: the same call as the command.

        Raises:
            UserError: it is called with something else than its configuration, and all that the verb can raise.
        """
        name = self.__name__.rpartition(".")[2]
        class_name = f"{name.capitalize()}Config"
        if not isinstance(config, getattr(import_module(f"{self.__name__}.config"), class_name)):
            fix = f"pyrite.{name}(pyrite.{class_name}(…))"
            raise UserError(f"pyrite.{name} is called with a {class_name}.", f"a {type(config).__name__}", fix)
        return getattr(import_module(f"{self.__name__}.run"), name)(config)


def callable_package(name: str) -> None:
    """Make the package of this name callable."""
    sys.modules[name].__class__ = Verb
