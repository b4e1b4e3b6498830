"""The processes that train together: how many they are, which one this is, and what they say to each other.

In a process alone all of this does nothing.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import distributed


def world_size() -> int:
    """How many processes train together? 1: this one alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among those that train together."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Is this the process that writes?"""
    return rank() == 0


def wait_for_all() -> None:
    """Barrier: waits for all processes."""
    if world_size() > 1:
        distributed.barrier()


def draw_apart(seed: int) -> None:
    """From here on this process draws (dropout) other numbers than those that train with it: they read different rows. Alone, it
    draws on."""
    if world_size() > 1:
        from transformers import set_seed

        set_seed(int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0]))


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """Context manager: the first process runs the block before the others, which find its results."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def agreed(value: Any) -> Any:
    """The first process's value of something, in all of them."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: Any) -> list[Any]:
    """Every process's value of something, in all of them, by rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values
