"""What lm-eval asks of a model: log-probabilities of continuations, and answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Scorer(Protocol):
    """How probable is each continuation after its context?

    Takes pairs of token ids, neither ever empty; returns for each, in order, the continuation's summed log-probability
    in nats and whether each of its tokens is the most probable one.
    """

    def __call__(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], /) -> list[tuple[float, bool]]: ...


class Writer(Protocol):
    """What does the model write after each prompt?

    Takes prompts as token ids (never empty) and one mapping for each: `until` (strings that end the answer; it may be
    returned with or without them), `max_gen_toks`, `temperature` (0: the most probable token each time), where the
    task asks for it `top_p`, and `attempt` (0, 1, ...: the same prompt asked again, to be drawn anew). The end marker
    ends every answer and is not part of the text.
    """

    def __call__(self, prompts: Sequence[Sequence[int]], settings: Sequence[Mapping[str, Any]], /) -> list[str]: ...
