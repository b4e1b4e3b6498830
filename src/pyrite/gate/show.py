"""Gates on the terminal: one line each, the outcome first."""

from rich.console import Console
from rich.text import Text

from pyrite.audit.show import clean
from pyrite.gate.run import Gated

STYLES = {"passed": "bold green", "failed": "bold red", "undecided": "bold yellow"}


def gates(gated: Gated) -> None:
    """Print how every gate came out and why. Its text is hostile: no control characters, no markup."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for gate in gated.outcomes:
        line = Text(f"{gate.outcome:<{max(map(len, STYLES))}}", style=STYLES[gate.outcome])
        about = f"{gate.part}: {gate.gate}" if gate.part else gate.gate
        console.print(line + Text(f"  {clean(about)}: {clean(gate.why)}", style=""))
    for gate in gated.outcomes:
        if gate.hint:
            console.print(Text(clean(f"hint: {gate.hint_line}")))
    counts = {name: sum(gate.outcome == name for gate in gated.outcomes) for name in STYLES}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    console.print(Text(clean(f"{gated.run}: {summary}; exit code {gated.exit_code}")))
