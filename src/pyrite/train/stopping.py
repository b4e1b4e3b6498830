"""Ctrl-C and SIGTERM during a training: it stops after its step, with a checkpoint; the second time at once."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAYS = "pyrite: stopping after this step, with a checkpoint; once more stops at once"


class StopRequest:
    """Whether somebody asked the training to stop."""

    def __init__(self) -> None:
        self.requested = False

    def ask(self, *, quiet: bool = False) -> None:
        """Ask it to stop.

        Raises:
            KeyboardInterrupt: this was asked before.
        """
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if not quiet:
            print(f"\n{SAYS}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def noted_signals() -> Iterator[StopRequest]:
    """Context manager: signals that would end this process are noted once, and then end it.

    Those that it ignores (a worker whose parent handles them) stay ignored; outside of the main thread, where Python sets no handlers,
    nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.ask()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
