"""What every verb that writes a run folder needs: may it be written there, and which command makes it again?"""

import os
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from pydantic import BaseModel

from pyrite.errors import UserError
from pyrite.runs import read_run


def check_folder(folder: Path, verb: str) -> None:
    """Refuse, before anything runs, a folder that holds something else than a run of this verb, or cannot be written.

    Raises:
        UserError: the folder is a file, holds other files or the run of another verb, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError("The run folder is a file.", str(folder), "name a folder with --out")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if there:
        found = f"{folder} holds {', '.join(there[:3])}" + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        try:
            held = read_run(folder).verb
        except UserError:
            held = ""
        if held != verb:
            found = f"{folder} holds a run of pyrite {held}" if held else found
            raise UserError("The run folder is in use.", found, "name another with --out, or move it away")
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError("The run folder cannot be written.", str(folder), "name another with --out")


def command_line(
    words: Sequence[str],
    config: BaseModel,
    options: type[BaseModel],
    *,
    unsaid: Collection[str],
    plain: Callable[[str, str], str],
) -> str:
    """The command that makes a run again: `words`, then every flag of `options` that is not at its default.

    `unsaid` names flags that change nothing in the result; `plain(name, text)` is a flag's value as it may be shown,
    such as without the folders of this machine.
    """
    line = list(words)
    for name, field in options.model_fields.items():
        value = getattr(config, name)
        if name in unsaid or (not field.is_required() and value == field.get_default(call_default_factory=True)):
            continue
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            line += [flag] if one is True else [flag, plain(name, str(one))]
    return shlex.join(line)
