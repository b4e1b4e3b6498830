"""Locks by lease, where a file system or a server has none: who holds one says so again and again, and who stops loses it.

A lease is an object with its owner and a count that every renewal raises. Clocks of machines are never compared: whoever waits
takes a lease over once *it has seen* the same content for as long as the lease is good for, by its own clock.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from pyrite.errors import PyriteError
from pyrite.io.urls import seconds_named
from pyrite.steps.objects import Register, Tag

SECONDS = 60.0
"""How long a lease is good for that nobody renews; `$PYRITE_LEASE_SECONDS` is another number."""
RENEWALS = 4
"""A lease is renewed so often in that time."""
FIRST_LOOK, LONGEST_LOOK = 0.1, 2.0
"""Seconds between two looks of who waits."""
RELEASE_WITHIN = 10.0
"""Seconds that letting go of a lease may take; a server that stays away lets it run out."""
GAP = 5.0
"""Seconds between two looks after which what was seen before does not count: in a time without a server no lease could be renewed."""


class LeaseLost(PyriteError):
    """Somebody else holds the lease by now; what was made under it is not published."""


def lease_seconds() -> float:
    """How long a lease is good for."""
    return seconds_named("PYRITE_LEASE_SECONDS", SECONDS) or SECONDS


class Lease:
    """The right to work on something, under a name."""

    def __init__(self, register: Register, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.register, self.name, self.clock = register, name, clock
        self.owner, self.seconds = uuid.uuid4().hex, lease_seconds()
        self.tag: Tag | None = None
        self.count = 0
        self.lost = False
        self.guard = threading.Lock()
        self.ended = threading.Event()
        self.watch = Watch(clock)

    def content(self, *, held: bool = True) -> bytes:
        """What the lease says now."""
        self.count += 1
        says: dict[str, Any] = {"owner": self.owner if held else None, "seconds": self.seconds, "count": self.count}
        return orjson.dumps(says | {"holder": f"{socket.gethostname()}:{os.getpid()}", "last": self.owner})

    def acquire(self) -> None:
        """Wait for the lease, and begin to renew it."""
        pause = FIRST_LOOK
        while not self.try_once():
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK, self.seconds / 10)
        threading.Thread(target=self._renew_on, daemon=True).start()

    def try_once(self) -> bool:
        """Take the lease if it is free, or if nobody has renewed it for its time while we looked."""
        present = self.register.read(self.name)
        if present is None:
            self.tag = self.register.create(self.name, self.content())
        elif is_free(present[0]) or self.watch.is_over(present[0]):
            self.tag = self.register.replace(self.name, self.content(), present[1])
        return self.tag is not None

    def verify(self) -> None:
        """Make sure that the lease is held at this moment, by renewing it.

        Raises:
            LeaseLost: another has taken it over.
        """
        with self.guard:
            if not self.lost:
                assert self.tag is not None
                tag = self.register.replace(self.name, self.content(), self.tag)
                self.lost, self.tag = tag is None, tag
            if self.lost:
                raise LeaseLost(f"the lease {self.name} was taken over; this process was too long away")

    def release(self) -> None:
        """Let go of the lease, if it is still ours."""
        self.ended.set()
        letting_go = threading.Thread(target=self._let_go, daemon=True)
        letting_go.start()
        letting_go.join(RELEASE_WITHIN)

    def _let_go(self) -> None:
        with self.guard, contextlib.suppress(Exception):
            if not self.lost and self.tag is not None:
                self.register.replace(self.name, self.content(held=False), self.tag)

    def _renew_on(self) -> None:
        while not self.ended.wait(self.seconds / RENEWALS):
            with self.guard:
                if self.ended.is_set():
                    return
            try:
                self.verify()
            except LeaseLost:
                return
            except Exception:  # the server does not answer: nobody else can take the lease there meanwhile, either
                continue


def taken(keys: Iterable[str], lease_of: Callable[[str], Lease]) -> Iterator[tuple[str, Lease]]:
    """Those of the keys whose leases can be had, with them: at once, or once they were seen to have run out. They are not renewed."""
    waiting = {key: lease_of(key) for key in keys}
    ends = time.monotonic() + 1.25 * lease_seconds()
    while waiting:
        for key, lease in list(waiting.items()):
            if lease.try_once():
                del waiting[key]
                yield key, lease
        if time.monotonic() > ends:
            return
        time.sleep(min(LONGEST_LOOK, lease_seconds() / 10) if waiting else 0)


class Watch:
    """Follows a lease that another holds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.content: bytes | None = None
        self.since = self.looked = 0.0

    def is_over(self, content: bytes) -> bool:
        """Was this content seen for as long as it is good for?"""
        now = self.clock()
        seconds = seconds_of(content)
        if content != self.content or now - self.looked > max(GAP, seconds / RENEWALS):
            self.content, self.since = content, now
        self.looked = now
        return now - self.since >= seconds


def is_free(content: bytes) -> bool:
    """Was this lease let go of?"""
    return read_lease(content).get("owner", "") is None


def is_held(stored: tuple[bytes, Tag] | None) -> bool | None:
    """Has this lease an owner? None where there is no lease."""
    return None if stored is None else not is_free(stored[0])


def seconds_of(content: bytes) -> float:
    """How long a lease is good for."""
    seconds = read_lease(content).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else lease_seconds()


def read_lease(content: bytes) -> dict[str, Any]:
    """What a lease says; nothing where it is none."""
    with contextlib.suppress(orjson.JSONDecodeError):
        says = orjson.loads(content)
        if isinstance(says, dict):
            return says
    return {}
