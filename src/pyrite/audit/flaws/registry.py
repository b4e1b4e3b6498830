"""All flaws by name: those that come with Pyrite, then those that were registered."""

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from pyrite.audit.flaw import Flaw, Statistic
from pyrite.audit.flaws import BUILT_IN
from pyrite.errors import UserError


def built_in(name: str) -> Flaw:
    """The entry in the folder of this name."""
    flaw: Flaw = import_module(f"pyrite.audit.flaws.{name}").FLAW
    return flaw


FLAWS: dict[str, Flaw] = {name: built_in(name) for name in BUILT_IN}
"""Every flaw by name, in the order of the report."""


def register_flaw(flaw: Flaw) -> None:
    """Add a flaw that does not come with Pyrite, or put a newer entry of it in its place.

    Call it where a module is imported: the processes of an audit import that module, too.

    Raises:
        UserError: no name of lower-case letters, the name of a built-in flaw, or statistics of another flaw.
    """
    if not re.fullmatch("[a-z]+", flaw.name) or flaw.name in BUILT_IN:
        raise UserError("A flaw cannot have that name.", flaw.name, "a new name of lower-case letters")
    if not flaw.statistics or any(statistic.flaw != flaw.name for statistic in flaw.statistics):
        names = ", ".join(statistic.full_name for statistic in flaw.statistics)
        raise UserError("A flaw has statistics of its own.", f"{flaw.name}: {names or 'none'}", "name it in each")
    FLAWS[flaw.name] = flaw


def plugins(names: Iterable[str]) -> dict[str, list[Any]]:
    """Of these flaws, those that do not come with Pyrite, with their module and version: for the configuration of a
    step, whose process may have to import them, and whose results depend on the version."""
    return {name: [FLAWS[name].evidence.__module__, FLAWS[name].version] for name in names if name not in BUILT_IN}


def plugin_settings(names: Iterable[str]) -> dict[str, Any]:
    """The same as an entry of a step's configuration; nothing where all flaws come with Pyrite."""
    registered = plugins(names)
    return {"plugins": registered} if registered else {}


def flaw_of(name: str, config: Mapping[str, Any]) -> Flaw:
    """A flaw of a running step: its plug-in is imported where this process has not done so."""
    if name not in FLAWS:
        import_module(config["plugins"][name][0])
    return FLAWS[name]


def statistic_of(full_name: str) -> Statistic | None:
    """The statistic of a full name, such as a stored finding has; None where its flaw is not registered."""
    flaw = FLAWS.get(full_name.partition(".")[0])
    matching = (statistic for statistic in (flaw.statistics if flaw else ()) if statistic.full_name == full_name)
    return next(matching, None)


def full_names(names: Iterable[str]) -> list[str]:
    """The full names of all statistics of these flaws."""
    return [statistic.full_name for name in names for statistic in FLAWS[name].statistics]
