"""IFEval: does an answer follow instructions that a program can check? 541 prompts, 25 types of instruction.

Zhou et al., "Instruction-Following Evaluation for Large Language Models", arXiv 2311.07911. The checkers are those of
lm-evaluation-harness (`lm_eval.tasks.ifeval`), called and never copied. A verdict is strict (the answer as it is) or
loose (any of eight versions of it passes: without its first line, its last line, asterisks).

Where a verdict would hang on chance we fix the chance. The language detector draws: its seed is 0, where the harness
leaves it open. A checker whose argument does not fit draws one: in the published file this concerns the letters "#" and
"!" of the prompts 1122 and 1129, for which the harness counts a random letter; ours is the first draw after seed 0.
"""

import contextlib
import functools
import importlib.metadata
import logging
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.io.files import find_file
from pyrite.io.formats import raw_rows
from pyrite.io.raw_row import BadRow, short_value
from pyrite.io.read import Counts
from pyrite.io.read_errors import SKIP
from pyrite.records import Chat, Message
from pyrite.tasks import punkt
from pyrite.tasks.generative import GenerativeTask
from pyrite.tasks.scoring import ItemScore, Metric

STANDARD_NEW_TOKENS = 1280
"""How long an answer may be: the harness's `max_gen_toks`."""

METRICS: tuple[Metric, ...] = (
    Metric("prompt_strict", says="all instructions of the prompt are followed"),
    Metric("instruction_strict", says="the instruction is followed"),
    Metric("prompt_loose", says="all instructions of the prompt are followed, lines and asterisks forgiven"),
    Metric("instruction_loose", says="the instruction is followed, lines and asterisks forgiven"),
)
SLICES: tuple[tuple[str, ...], ...] = ((), ("kind",), ("instruction",))
"""Cuts of the instruction metrics: all, the group of a type (`length_constraints`), the type itself."""

SEED = 0
DETECTED = "lm_eval.tasks.ifeval.instructions"
"""The harness's logger: it speaks, with the whole answer, only where no language can be told."""


class _Bad(Exception):
    """A row that is no IFEval prompt: reason, what was found."""


def read(path: Path, on_bad_row: Literal["stop", "skip"] = "stop") -> list[Chat]:
    """The prompts of a file in the published layout (`input_data.jsonl`); see `read_counted`. Warns of rows left out."""
    items, counts = read_counted(path, on_bad_row)
    if counts.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
        warnings.warn(
            f"{path}: {sum(counts.dropped.values())} of {counts.read} rows left out ({reasons})", stacklevel=2
        )
    return items


def read_counted(path: Path, on_bad_row: Literal["stop", "skip"] = "stop") -> tuple[list[Chat], Counts]:
    """The prompts of a file (key, prompt, instruction_id_list, kwargs; also packed), and its rows by their fate.

    A prompt's id is its key; `meta` holds instruction_id_list and kwargs as the file has them. Every checker is built
    and tried once, so that what it cannot work with is found here.

    Raises:
        UserError: there is no such file or no row in it, the extra `eval` is absent, or, unless told to skip, a row
            is bad: a field missing or of a wrong type, an unknown instruction, lists of different length, an
            argument missing or unfit, a key that an earlier row has.
    """
    file = find_file(Path(path))
    items: list[Chat] = []
    dropped, places = Counter[str](), dict[str, str]()
    first_bad: UserError | None = None
    with steady():
        for number, raw in raw_rows(file):
            location = file.location(number)
            try:
                if isinstance(raw, BadRow):
                    raise _Bad(raw.reason, raw.detail)
                item = _chat(raw)
                if item.id in places:
                    raise _Bad("key seen before", f"key {short_value(item.id)} is also at {places[item.id]}")
            except _Bad as bad:
                reason, detail = bad.args
                error = UserError(f"bad row: {reason}", f"{location}: {detail}", f"mend the row, {SKIP}")
                first_bad = first_bad or error
                dropped[reason] += 1
            else:
                places[item.id] = location
                items.append(item)
            if first_bad and items and on_bad_row == "stop":  # so that what it says of leaving rows out is true
                raise first_bad
    if not items:
        example = f"; the first is {first_bad.found}" if first_bad else ""
        detail = f"{path}: {dict(dropped) or 'the file is empty'}{example}"
        raise UserError("no row could be read", detail, "give a file of IFEval's layout")
    return items, Counts(len(items) + dropped.total(), len(items), dict(sorted(dropped.items())))


def measure(items: Sequence[Chat], answers: Mapping[str, str | None]) -> list[ItemScore]:
    """What did the answers follow? Four metrics, 1 or 0, in the order of the items; `group` is the prompt's key.

    Prompt metrics are named by the key, instruction metrics by `key#index` with the slices `kind` and `instruction`.
    A prompt without an answer gives None throughout; an empty answer follows nothing, as in the harness. Where a
    checker gives up (JSON nested too deep, a time limit inside NLTK; the harness stops there) its verdict is None,
    and so is the prompt's unless another instruction fails anyway. Where no language can be told (digits, emojis)
    the harness counts the instruction as followed, and so do we. Both are warned of. The same items and answers give
    the same values; random state, detector seed and logging are left as they were found.

    Raises:
        UserError: the extra `eval` is absent, or a checker fails for another reason.
    """
    utils, _ = checkers()
    measured: list[ItemScore] = []
    gave_up: list[str] = []
    with steady() as unknown_language:
        for item in items:
            answer = answers.get(item.id)
            for level, check in (
                ("strict", utils.test_instruction_following_strict),
                ("loose", utils.test_instruction_following_loose),
            ):
                unknown_language.item = item.id
                names = item.meta["instruction_id_list"]
                verdicts = [None if answer is None else _verdict(check, item, at, answer) for at in range(len(names))]
                if answer is not None and None in verdicts:
                    gave_up.append(item.id)
                measured.append(ItemScore(item.id, f"prompt_{level}", _value(_all(verdicts)), item.id))
                for at, (name, verdict) in enumerate(zip(names, verdicts, strict=True)):
                    slices = {"kind": name.partition(":")[0], "instruction": name}
                    value = _value(verdict)
                    measured.append(ItemScore(f"{item.id}#{at}", f"instruction_{level}", value, item.id, slices))
    _warn("a checker gave up, the verdict is missing", gave_up)
    _warn("no language could be told, which counts as followed", unknown_language.items)
    return measured


def identity() -> str:
    """What do verdicts hang on beside the answers? Versions of the packages, and the sentence data's hash."""
    punkt.need("lm_eval")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("lm-eval", "nltk", "langdetect")]
    return ", ".join([*versions, f"punkt sha256:{punkt.SHA256}"])


@functools.cache
def checkers() -> tuple[Any, Mapping[str, Any]]:
    """The harness's module that checks answers, and its registry: instruction type -> checker.

    NLTK's data are provided first, so that the import looks for nothing on the network; what it prints goes to stderr.
    """
    with contextlib.redirect_stdout(sys.stderr):
        punkt.provide()
        utils = punkt.need("lm_eval.tasks.ifeval.utils")
        registry = punkt.need("lm_eval.tasks.ifeval.instructions_registry")
    return utils, registry.INSTRUCTION_DICT


class UnknownLanguage(logging.Filter):
    """Takes the harness's log lines in, and remembers which items they were about."""

    item = ""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.items.append(self.item)
        return False


@contextlib.contextmanager
def steady() -> Iterator[UnknownLanguage]:
    """A stretch in which checkers draw from fixed seeds and print nothing; afterwards all is as it was."""
    checkers()
    factory = punkt.need("langdetect").DetectorFactory
    noted, logger = UnknownLanguage(), logging.getLogger(DETECTED)
    state, seed = random.getstate(), factory.seed
    factory.seed = SEED
    logger.addFilter(noted)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield noted
    finally:
        logger.removeFilter(noted)
        factory.seed = seed
        random.setstate(state)


def _chat(row: Mapping[str, Any]) -> Chat:
    for name in ("key", "prompt", "instruction_id_list", "kwargs"):
        if row.get(name) is None:
            raise _Bad("missing field", f"no {name} among {short_value(list(row))}")
    key, prompt, names, arguments = (row[name] for name in ("key", "prompt", "instruction_id_list", "kwargs"))
    if isinstance(key, bool) or not isinstance(key, int | str) or not isinstance(prompt, str):
        raise _Bad("wrong type", f"key {short_value(key)} is a number or text, prompt {short_value(prompt)} is text")
    if not (str(key).strip() and prompt.strip()):
        raise _Bad("empty text", "key and prompt hold something")
    if not isinstance(names, list) or not isinstance(arguments, list):
        raise _Bad("wrong type", "instruction_id_list and kwargs are lists")
    if len(names) != len(arguments) or not names:
        raise _Bad("lists of different length", f"{len(names)} instructions, {len(arguments)} kwargs; each needs one")
    for name, kwargs in zip(names, arguments, strict=True):
        _try(name, kwargs)
    return Chat((Message("user", prompt),), str(key), {"instruction_id_list": names, "kwargs": arguments})


def _try(name: object, kwargs: object) -> None:
    """Build one checker as the harness does and let it check a word; nothing may be left for it to make up."""
    registry = checkers()[1]
    if not isinstance(name, str) or name not in registry:
        raise _Bad("unknown instruction", f"{short_value(name)}; there are: {', '.join(registry)}")
    if not isinstance(kwargs, dict):
        raise _Bad("wrong type", f"the kwargs of {name} are {short_value(kwargs)}, not an object")
    checker = registry[name](name)
    random.seed(SEED)
    before = random.getstate()
    try:
        checker.build_description(**{key: value for key, value in kwargs.items() if value})
        needed = checker.get_instruction_args() or {}
        if lacking := [key for key in needed if not kwargs.get(key)]:
            raise _Bad("missing argument", f"{name} needs {', '.join(lacking)}; got {short_value(kwargs)}")
        if random.getstate() != before and name != "keywords:letter_frequency":
            raise _Bad("unfit argument", f"{name} cannot use all of {short_value(kwargs)}")
        checker.check_following("word")
    except (TypeError, ValueError, LookupError, AttributeError, re.error) as error:
        raise _Bad("unfit argument", f"{name} with {short_value(kwargs)}: {type(error).__name__}: {error}") from error


def _verdict(check: Callable[..., Any], item: Chat, at: int, answer: str) -> bool | None:
    name, kwargs = item.meta["instruction_id_list"][at], item.meta["kwargs"][at]
    example = checkers()[0].InputExample(item.id, [name], item.messages[-1].content, [kwargs])
    random.seed(SEED)
    try:
        return bool(check(example, answer).follow_instruction_list[0])
    except (RecursionError, TimeoutError):
        return None
    except Exception as error:
        detail = f"prompt {item.id}, {name} with {short_value(kwargs)}: {type(error).__name__}: {error}"
        raise UserError("A checker of IFEval failed.", detail, "mend this prompt's kwargs, or leave it out") from error


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    """All true? One false settles it; else one unknown leaves it open."""
    return False if False in verdicts else None if None in verdicts else True


def _value(verdict: bool | None) -> float | None:
    return None if verdict is None else float(verdict)


def _warn(problem: str, ids: Sequence[str]) -> None:
    if distinct := list(dict.fromkeys(ids)):
        listed = ", ".join(distinct[:5]) + (", …" if len(distinct) > 5 else "")
        warnings.warn(f"IFEval: {problem}, in {len(distinct)} answers (prompts {listed})", stacklevel=3)


TASK = GenerativeTask(
    "ifeval", read_counted, STANDARD_NEW_TOKENS, METRICS, usual=(541, STANDARD_NEW_TOKENS), cluster="prompts",
    cuts=dict.fromkeys(("instruction_strict", "instruction_loose"), SLICES), by_rule=measure, checkers=identity,
)  # fmt: skip
