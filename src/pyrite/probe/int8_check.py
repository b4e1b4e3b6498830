"""How many answers does int8 change? A sample of what a probe asks is asked in fp32, too, and the two are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

CHECKED_ANSWERS = 16
"""Of written answers the first so many are written in fp32, too."""
CHECKED_ROWS = 32
"""Of rows whose perplexity is measured the first so many are read in fp32, too."""
UNCHECKED = "read and written in int8, and not compared with fp32 here: ask a task of labels or answers for that"


def same_texts(sure: Sequence[str], fast: Sequence[str]) -> dict[str, int]:
    """How many answers are the same texts?

    >>> same_texts(["yes", "no"], ["yes", "maybe"])
    {'checked': 2, 'same': 1}
    """
    pairs = zip(sure, fast, strict=True)
    return {"checked": len(sure), "same": sum(first == second for first, second in pairs)}


def changed_note(record: Mapping[str, Any]) -> list[str]:
    """What is said of a record with an `int8_check` (nothing of one without).

    >>> changed_note({"int8_check": {"checked": 64, "same": 60}})
    ['int8 changed 4 of 64 answers that were also asked for in fp32 (6.2 %)']
    """
    check = record.get("int8_check")
    if not check:
        return []
    if "nats_per_token" in check:
        fp32, int8 = check["nats_per_token"]["fp32"], check["nats_per_token"]["int8"]
        return [f"int8 gives the first {check['checked']} rows {int8:.4f} nats per token, fp32 {fp32:.4f}"]
    changed, checked = check["checked"] - check["same"], check["checked"]
    share = f" ({100 * changed / checked:.1f} %)" if checked else ""
    return [f"int8 changed {changed} of {checked} answers that were also asked for in fp32{share}"]
