"""How evidence words shares and the texts that it quotes."""

from collections.abc import Mapping
from typing import Any

NEEDS_REFERENCE = "needs a reference"
"""What the reason begins with where references, or more of them, would let a statistic be taken."""

UNKNOWN_WORDS = "the embedder does not know the words of these texts (--embedder names another)"


def percent(share: float, *, fine: bool = False) -> str:
    """A share in percent, with a decimal below 10 and two figures below 0.05; `fine`: with two figures throughout.

    >>> percent(0.314), percent(0.0123), percent(0.0004), percent(0)
    ('31 %', '1.2 %', '0.04 %', '0 %')
    >>> percent(0.314, fine=True), percent(0.05, fine=True), percent(0.0004, fine=True)
    ('31 %', '5 %', '0.04 %')
    """
    if share >= 0.1 or share == 0:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2g} %" if fine or share < 0.0005 else f"{100 * share:.1f} %"


def truncate(text: str, length: int = 80) -> str:
    """A text of at most so many characters, with dots where more follows.

    >>> truncate("to be or not to be", 9)
    'to be or…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def excerpt(text: str, length: int = 80) -> str:
    """The beginning of a text, on one line and safe to print.

    >>> excerpt("one\\x00two\\n three", 9)
    'one two …'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 40 * length])
    return truncate(" ".join(plain.split()), length)


def rows_left_out(rows: Mapping[str, Any]) -> str:
    """What must be known first where rows were left out: of how much of the data the verdict is.

    >>> rows_left_out({"read": 10, "kept": 5}), rows_left_out({"read": 10, "kept": 10})
    ('verdict on 5 of 10 rows (50 %), the others could not be read', '')
    """
    if rows["kept"] == rows["read"]:
        return ""
    share = 100 * rows["kept"] // rows["read"]
    return f"verdict on {rows['kept']:,} of {rows['read']:,} rows ({share} %), the others could not be read"
