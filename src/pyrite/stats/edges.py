"""Is there room for the answer? Shares end at 0 and 1, where a difference cannot show.

A comparison of two shares is *not testable*

- where both sides lie near the same edge (two models that get nothing right are not equally good, and two that get
  everything right are not shown to be), or do so on every gold label (two models that answer "entailment" to
  everything stand at one half, and neither has been asked anything);
- where no difference is clear and the comparison lies so near the edge that a harm as large as the margin has no room.

A difference that is clear is an answer wherever its sides lie: from 60 % to 1 % is the largest harm there is.
"""

from collections.abc import Mapping

from pyrite.records import Direction

SLACK = 1e-12
"""Rounding that counts as nothing."""


def edge_of(share: float, margin: float) -> int | None:
    """The edge, 0 or 1, within `margin` of which a share lies; None in between (both only where the margin is 0.5 or
    more, and then the nearer one)."""
    nearest = 0 if share <= 0.5 else 1
    return nearest if abs(share - nearest) <= margin + SLACK else None


def no_room(
    arm: float,
    comparison: float,
    margin: float,
    *,
    clear: bool,
    direction: Direction = "higher",
    names: tuple[str, str] = ("the arm", "the comparison"),
    by_gold: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Why can this comparison of two shares not be answered? Empty where it can.

    `arm` and `comparison` are mean shares; `clear` says that their difference is beyond chance; `direction` which way is
    better (harm goes the other way). `by_gold` holds both sides' shares on each gold label, where there are several.

    >>> no_room(0.01, 0.60, 0.03, clear=True)
    ''
    >>> no_room(0.01, 0.004, 0.03, clear=True)
    'both sides lie within the margin of 0.03 of 0 (the arm 0.010, the comparison 0.004)'
    """
    edge = edge_of(arm, margin)
    if edge is not None and edge == edge_of(comparison, margin):
        values = f"({names[0]} {arm:.3f}, {names[1]} {comparison:.3f})"
        return f"both sides lie within the margin of {margin:g} of {edge} {values}"
    if by_gold and len(by_gold) > 1 and all(_together(*sides, margin) for sides in by_gold.values()):
        shares = ", ".join(f"{gold} {a:.3f} and {b:.3f}" for gold, (a, b) in by_gold.items())
        return f"both sides lie within the margin of {margin:g} of the same edge on every gold label ({shares})"
    room = comparison if direction == "higher" else 1 - comparison
    if not clear and room <= margin + SLACK:
        way = "fall" if direction == "higher" else "rise"
        return (
            f"no difference is clear, and {names[1]} at {comparison:.3f} leaves no room for a {way} of the margin of "
            f"{margin:g}"
        )
    return ""


def _together(arm: float, comparison: float, margin: float) -> bool:
    edge = edge_of(arm, margin)
    return edge is not None and edge == edge_of(comparison, margin)
