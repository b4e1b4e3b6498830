"""What went wrong, in words that a user can act on.

`UserError` is for everything that the user can mend: the command line prints it without a traceback and exits with 2.
Anything else that escapes is our own mistake: it keeps its traceback and exits with 4.
"""


class PyriteError(Exception):
    """Base of the errors that Pyrite raises on purpose."""


class UserError(PyriteError):
    """What is wrong, what was found and where (file:line, row id, flag), and one thing to do about it."""

    def __init__(self, what: str, found: str, fix: str) -> None:
        super().__init__(what, found, fix)
        self.what = what
        self.found = found
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  found: {self.found}\n  fix:   {self.fix}"


class OutOfTime(PyriteError):
    """`--max-time` was reached: what is finished is stored, the same command goes on from here."""
