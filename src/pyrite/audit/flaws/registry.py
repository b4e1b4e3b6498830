"""The flaw families by name, and what they are given."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pyrite.audit.flaw import Evidence, Extras, Flaw, Measure, Population
from pyrite.errors import UserError

STREAMED: tuple[Flaw, ...] = ("format", "tokens", "duplicates", "diversity", "contamination")
"""Families that read every row; the others look at the sample."""


def module(flaw: str) -> Any:
    """The family's module, with the functions that `pyrite.audit.flaw` lists."""
    return import_module(f"pyrite.audit.flaws.{flaw}.statistics")


def evidence_of(flaw: str) -> Callable[[str, Population, Mapping[str, Population], Extras], Evidence]:
    """What shows a finding of the family: `evidence` of the module of its name in `pyrite.audit.evidence`."""
    made: Callable[..., Evidence] = import_module(f"pyrite.audit.flaws.{flaw}.evidence").evidence
    return made


def measures(flaw: str) -> tuple[Measure, ...]:
    """What a family measures."""
    made: tuple[Measure, ...] = module(flaw).MEASURES
    return made


def tokenizer_of(folder: Path) -> Any:
    """Texts to token ids by the folder's `tokenizer.json`, no special tokens added.

    Raises:
        UserError: the folder has no such file.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("The tokenizer cannot be read.", f"no tokenizer.json in {folder}", "name another --tokenizer")
    loaded = Tokenizer.from_file(str(file))
    loaded.no_truncation()
    loaded.no_padding()

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in loaded.encode_batch(list(texts), add_special_tokens=False)]

    tokenize.decode = loaded.decode  # type: ignore[attr-defined]
    return tokenize


def extras(config: Mapping[str, Any], inputs: Mapping[str, Path], **more: Any) -> Extras:
    """What the families of a step are given: the tokenizer and the evaluation sets among the step's inputs."""
    tokenize = tokenizer_of(inputs["tokenizer"]) if "tokenizer" in inputs else None
    sets: dict[str, Sequence[str]] = {}
    for name in config.get("against", ()):
        sets[name] = module("contamination").known_task_texts(name, inputs[f"against {name}"])
    draws = int(config.get("permutations", Extras.permutations))
    return Extras(tokenize=tokenize, against=sets, seed=int(config.get("seed", 0)), permutations=draws, **more)
