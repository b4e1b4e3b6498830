"""YAML out of files that anybody may have written: its values with their lines, or what is wrong with it."""

from typing import Any

from pyrite.errors import UserError

MOST_VALUES = 1_000_000
"""Values that a file may hold, those of an anchor counted wherever it is named: nine lines of them could fill the memory."""


def load_yaml(text: str, where: str, what: str, *, lines: bool = True) -> Any:
    """The document in a YAML text, as the library holds it: with `lines` mappings and lists know theirs, and tags of other
    programs are left out; without, values are plain, and such tags are refused.

    `where` (a path) and `what` (a noun) name it in messages.

    Raises:
        UserError: not YAML, a value that is not what its tag or its form says, nested too deeply.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.parser import Parser
    from ruamel.yaml.scanner import Scanner

    reader = YAML(typ="rt" if lines else "safe", pure=True)
    reader.Scanner, reader.Parser = Scanner, Parser  # which know no comments: the library stumbles over some
    at, problem, fix = where, "", "mend this line"
    cause: Exception
    try:
        return reader.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        at, problem, cause = f"{where}:{line}", str(error.problem), error
    except YAMLError as error:  # a character that YAML does not have, such as a control character
        at = f"{where}:{text.count(chr(10), 0, getattr(error, 'position', 0)) + 1}"
        character = getattr(error, "character", "")  # its code, or itself
        shown = f"U+{character:04X}" if isinstance(character, int) else ascii(character)
        problem, cause = f"{getattr(error, 'reason', error)}: {shown}", error
    except RecursionError as error:
        problem, fix, cause = "nested too deeply", "write it flatter", error
    except Exception as error:  # each type of value has its own: a date that is none, !!int x, !!bool x
        problem, fix, cause = f"{type(error).__name__}: {error}", "mend the value", error
    raise UserError(f"The {what} is not valid YAML.", f"{at}: {problem}", fix) from cause


def plain_values(value: Any, where: str, what: str) -> Any:
    """The YAML library's containers as plain ones; keys become text, values stay as they are.

    Raises:
        UserError: more than `MOST_VALUES`.
    """
    count = 0

    def plain(value: Any) -> Any:
        nonlocal count
        count += 1
        if count > MOST_VALUES:
            detail = f"{where}: more than {MOST_VALUES:,} values, those of an anchor counted wherever it is named"
            raise UserError(f"The {what} is too large.", detail, "name fewer anchors within anchors")
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return plain(value)
