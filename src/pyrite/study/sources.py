"""What both planners of studies share: data files as inputs, and a note of what a plan names and this machine lacks."""

from pathlib import Path

from pyrite.errors import UserError
from pyrite.steps import Source, Step
from pyrite.study.spec import data_path


class Sources:
    """Files below a folder as inputs of steps. `lenient`: a plan only, made also where files are absent (see `absent`)."""

    def __init__(self, folder: Path | None, absent: list[str], *, lenient: bool) -> None:
        self.folder, self.absent, self.lenient = folder, absent, lenient
        self.made: dict[str, Step] = {}

    def miss(self, what: str) -> None:
        """Note something that a plan names and this machine does not have."""
        if what not in self.absent:
            self.absent.append(what)

    def keep(self, step: Step) -> Step:
        """Steps with the same key are the same object."""
        return self.made.setdefault(step.key, step)

    def file(self, name: str) -> Source:
        """A data file as an input.

        Raises:
            UserError: it is not there, and this is not only a plan.
        """
        from pyrite.io import file_hash
        from pyrite.io.hub import cached_commit

        path = data_path(name, self.folder)
        try:
            found = cached_commit(path) if self.lenient and path.startswith("hf://") else file_hash(path)
        except UserError:
            if not self.lenient:
                raise
            found = None
        if found is None:
            self.miss(f"data {path}")
        return Source(path, found or f"absent:{name}")
