"""Gates on the terminal: one line each, the outcome first."""

from rich.console import Console
from rich.text import Text

from pyrite.audit.show import clean
from pyrite.gate.run import Gated

STYLES = {"passed": "bold green", "failed": "bold red", "undecided": "bold yellow"}


def gates(made: Gated) -> None:
    """Print how every gate came out and why. Its text is hostile: no control characters, no markup."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for one in made.outcomes:
        line = Text(f"{one.outcome:<{max(map(len, STYLES))}}", style=STYLES[one.outcome])
        about = f"{one.part}: {one.gate}" if one.part else one.gate
        console.print(line + Text(f"  {clean(about)}: {clean(one.why)}", style=""))
    counts = {name: sum(gate.outcome == name for gate in made.outcomes) for name in STYLES}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    console.print(Text(clean(f"{made.run}: {said}; exit code {made.exit_code}")))
