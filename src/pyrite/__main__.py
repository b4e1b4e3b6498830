"""The entry point: `pyrite`, and `python -m pyrite`. An interrupt leaves with 130 also while the command is still imported."""

import os
import sys


def main() -> None:
    """Run the command line."""
    try:
        from pyrite.cli import main as run_command_line
    except KeyboardInterrupt:
        print("\npyrite: interrupted before it began.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
