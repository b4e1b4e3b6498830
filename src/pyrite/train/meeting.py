"""Where the processes of a launch meet: orders of the first one, and news of the others, as JSON in PyTorch's key-value store.

    pulse/RANK       a number that grows while the process lives
    order/N          the N-th training, or that the command is over
    done/N/RANK      a process has done its part of it
    failed/N/RANK    what made it fail; failures/N counts them
    over/N           the first process listens no more
    stop             somebody asked one of the processes to stop
    left/RANK        a process is gone, in order

Nothing here is pickled. Whoever reaches the port can write to the store, as with every run of torchrun: it belongs on a
network of your own.
"""

import datetime
import platform
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from torch import distributed

from pyrite.errors import OutOfTime, UserError
from pyrite.steps.launch import Launch

PULSE = 5.0
"""Seconds between two signs of life."""
LOST = 120.0
"""Seconds without one after which a process is taken to be gone."""
CONNECT = datetime.timedelta(seconds=120)


@dataclass(frozen=True)
class FilePlace:
    """A store in a file, for processes of one machine."""

    file: str
    size: int

    def open(self) -> Any:
        """The store."""
        return distributed.FileStore(self.file, self.size)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StorePlace:
    """Where a store is, for a process that is yet to open it; `prefix` sets its keys apart."""

    address: str
    port: int
    prefix: str

    def open(self, *, hosted: bool = False) -> Any:
        """The store."""
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            self.address, self.port, is_master=hosted, wait_for_workers=False, timeout=CONNECT
        )  # fmt: skip
        return distributed.PrefixStore(self.prefix, store)  # type: ignore[attr-defined]


def place_of(launch: Launch) -> StorePlace:
    """Where the processes of a launch meet."""
    return StorePlace(launch.address, launch.port, f"pyrite/{launch.name}")


def open_meeting(launch: Launch) -> Any:
    """The store of a launch, which the first process keeps where torchrun does not.

    Raises:
        UserError: it cannot be reached.
    """
    try:
        return place_of(launch).open(hosted=launch.rank == 0 and not launch.agent_store)
    except (RuntimeError, ValueError) as error:  # DistNetworkError and DistStoreError are RuntimeErrors
        detail = f"process {launch.rank} on {platform.node()}: {launch.address}:{launch.port}: {first_line(error)}"
        fix = "give MASTER_ADDR and MASTER_PORT (torchrun --rdzv-endpoint HOST:PORT) that every machine can reach"
        raise UserError("The processes of the launch cannot meet.", detail, fix) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@dataclass
class Pulses:
    """Signs of life of other processes, and when each was last new."""

    store: Any
    ranks: Iterable[int]
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    looked: float = 0.0

    def lost(self) -> list[int]:
        """The processes that gave no sign for too long. The first look counts as a sign."""
        now = time.monotonic()
        if now - self.looked < PULSE:
            return []
        self.looked = now
        for rank in self.ranks:
            value = int(self.store.add(f"pulse/{rank}", 0))
            if rank not in self.seen or self.seen[rank][0] != value:
                self.seen[rank] = (value, now)
        return [rank for rank, (_, when) in self.seen.items() if now - when > LOST]


class Heart:
    """Gives signs of life from a thread with a connection of its own: the main thread may compute for hours."""

    def __init__(self, place: StorePlace, rank: int) -> None:
        self.store, self.rank = place.open(), rank
        self.stopped = threading.Event()
        threading.Thread(target=self.beat, daemon=True).start()

    def beat(self) -> None:
        """Until it is stopped, or the store is gone."""
        while not self.stopped.wait(PULSE):
            try:
                self.store.add(f"pulse/{self.rank}", 1)
            except RuntimeError:
                return

    def stop(self) -> None:
        """No further sign."""
        self.stopped.set()


def as_failure(error: BaseException, rank: int) -> bytes:
    """An error as it travels to the first process."""
    if isinstance(error, UserError):
        record = {"kind": "user", "what": error.what, "found": error.found, "fix": error.fix}
    elif isinstance(error, OutOfTime):
        record = {"kind": "time", "says": str(error)}
    else:
        record = {"kind": "error", "says": str(error)}
    return orjson.dumps({**record, "rank": rank, "machine": platform.node(), "when": time.time()})


def from_failure(stored: bytes) -> tuple[float, BaseException]:
    """The error that another process sent, and when."""
    record = orjson.loads(stored)
    if record["kind"] == "user":
        return record["when"], UserError(record["what"], record["found"], record["fix"])
    if record["kind"] == "time":
        return record["when"], OutOfTime(record["says"])
    return record["when"], RuntimeError(f"on {record['machine']}: {record['says']}")
