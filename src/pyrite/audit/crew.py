"""Who takes the batches of a file that is read: the streams of all flaws, in this process or in several.

A large file that cannot be read in spans is divided among `PARTS` parts, whatever the number of processes, so that what they
gather does not depend on it. Each process has some of the parts.
"""

import os
import queue
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.audit.extras import extras_of
from pyrite.audit.flaw import Stream
from pyrite.audit.flaws.registry import flaw_of
from pyrite.audit.rows import Row, lacks_part
from pyrite.errors import UserError
from pyrite.steps.processes import interrupts_held

PARTS = 8
"""Parts that the batches of a large file go to in turn, where it cannot be read in spans."""


class Part:
    """The streams of all flaws over some of the batches, and the row-level table."""

    def __init__(self, folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
        extras = extras_of(config, inputs)
        folder.mkdir(parents=True)
        self.folder = folder
        self.part = config.get("part", "answer")
        self.streams: dict[str, Stream] = {}
        self.reads_prompts = {name for name in config["flaws"] if flaw_of(name, config).reads_prompts}
        self.writer: Any = None
        for name in config["flaws"]:
            (folder / name).mkdir()
            stream = flaw_of(name, config).stream
            assert stream is not None, name
            self.streams[name] = stream(folder / name, extras)

    def add(self, rows: Sequence[Row]) -> None:
        """Show the batch to every flaw's stream; rows without the part that is measured only to those that read prompts, too.
        Such rows have no values in the columns of the others."""
        import pyarrow
        from pyarrow import parquet

        columns: dict[str, Any] = {"number": [row.number for row in rows], "id": [row.id for row in rows]}
        places = [at for at, row in enumerate(rows) if not lacks_part(row, self.part)]
        measured = [rows[at] for at in places]
        for name, stream in self.streams.items():
            if name in self.reads_prompts or len(measured) == len(rows):
                columns |= stream.add(rows)
            else:
                columns |= {key: placed(values, places, len(rows)) for key, values in stream.add(measured).items()}
        table = pyarrow.table(columns)
        if self.writer is None:
            self.writer = parquet.ParquetWriter(self.folder / "rows.parquet", table.schema, compression="zstd")
        self.writer.write_table(table)

    def close(self) -> None:
        """Write what was gathered."""
        for stream in self.streams.values():
            stream.close()
        if self.writer is not None:
            self.writer.close()


def placed(values: Any, places: Sequence[int], count: int) -> Any:
    """A column of so many rows that has values at some places, and none elsewhere."""
    import pyarrow

    number_at = {place: number for number, place in enumerate(places)}
    return pyarrow.array(values).take(pyarrow.array([number_at.get(at) for at in range(count)], pyarrow.int64()))


class PartsInTurn:
    """Several parts in this process, as `Crew` has them in several."""

    def __init__(self, folders: Sequence[Path], config: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
        self.parts = [Part(folder, config, inputs) for folder in folders]
        self.turn = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Hand a batch to the part whose turn it is."""
        self.parts[self.turn].add(rows)
        self.turn = (self.turn + 1) % len(self.parts)

    def close(self) -> None:
        """Write what was gathered."""
        for part in self.parts:
            part.close()


def work(
    folders: Sequence[Path], config: Mapping[str, Any], inputs: Mapping[str, Path], inbox: Any, outbox: Any
) -> None:
    """Some parts in a process of their own: batches from the inbox until None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
    try:
        parts = PartsInTurn(folders, config, inputs)
        while (batch := next_batch(inbox)) is not None:
            parts.add(batch)
        parts.close()
        outbox.put(None)
    except BaseException as error:
        import traceback

        outbox.put(error.args if isinstance(error, UserError) else traceback.format_exc())


def failure(answer: str | tuple[str, str, str]) -> Exception:
    """What went wrong in a part: what the user can mend in its three pieces, or a traceback of ours."""
    return RuntimeError(f"a part of the audit failed: {answer}") if isinstance(answer, str) else UserError(*answer)


def next_batch(inbox: Any) -> list[Row] | None:
    """The next batch from the inbox; ends this process where the reader has died, since nobody would ever send one."""
    import multiprocessing

    while True:
        try:
            batch: list[Row] | None = inbox.get(timeout=5)
        except queue.Empty:
            reader = multiprocessing.parent_process()
            if reader is None or not reader.is_alive():
                os._exit(1)
        else:
            return batch


class Crew:
    """Several parts in `count` processes; batches go to them in turn."""

    def __init__(
        self, folders: Sequence[Path], count: int, config: Mapping[str, Any], inputs: Mapping[str, Path]
    ) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.outbox = context.Queue()
        self.inboxes = [context.Queue(maxsize=3) for _ in range(count)]
        self.parts, self.turn = len(folders), 0
        self.processes = [
            context.Process(
                target=work, args=(folders[at::count], dict(config), dict(inputs), inbox, self.outbox), daemon=True
            )
            for at, inbox in enumerate(self.inboxes)
        ]
        with interrupts_held():
            for process in self.processes:
                process.start()

    def add(self, rows: Sequence[Row]) -> None:
        """Hand a batch to the part whose turn it is; waits while it is busy."""
        self.put(self.turn % len(self.inboxes), list(rows))
        self.turn = (self.turn + 1) % self.parts

    def put(self, at: int, batch: list[Row] | None) -> None:
        """Into one inbox, unless its process has died."""
        while True:
            try:
                self.inboxes[at].put(batch, timeout=1)
                return
            except queue.Full:
                if not self.processes[at].is_alive():
                    self.fail()

    def close(self) -> None:
        """Let every part finish; raises what went wrong in one."""
        for at in range(len(self.inboxes)):
            self.put(at, None)
        for _ in self.processes:
            while True:
                try:
                    answer = self.outbox.get(timeout=1)
                    break
                except queue.Empty:
                    if not any(process.is_alive() for process in self.processes):
                        self.fail()
            if answer is not None:
                raise failure(answer)
        for process in self.processes:
            process.join()

    def fail(self) -> None:
        """A part is gone: say why, if it could tell."""
        try:
            answer = self.outbox.get(timeout=1)
        except queue.Empty:
            answer = None
        if answer is not None:
            raise failure(answer)
        raise UserError("A process of the audit was killed.", "it may have run out of memory", "use --workers 1")

    def stop(self) -> None:
        """End whatever still runs."""
        for process in self.processes:
            if process.is_alive():
                process.terminate()
