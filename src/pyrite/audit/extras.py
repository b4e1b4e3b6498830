"""What flaws are given beside the rows: the tokenizer, evaluation sets, and what models have read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrite.audit.evaluation_sets import evaluation_texts
from pyrite.audit.flaw import Extras
from pyrite.errors import UserError


def tokenizer_of(folder: Path) -> Any:
    """Texts to token ids by the folder's `tokenizer.json`, no special tokens added.

    Raises:
        UserError: the folder has no such file.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("The tokenizer cannot be read.", f"no tokenizer.json in {folder}", "name another --tokenizer")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    tokenize.decode = tokenizer.decode  # type: ignore[attr-defined]
    return tokenize


def extras_of(config: Mapping[str, Any], inputs: Mapping[str, Path], **read: Any) -> Extras:
    """What the flaws of a step are given: the tokenizer and the evaluation sets among the step's inputs, and what
    models have `read`."""
    tokenize = tokenizer_of(inputs["tokenizer"]) if "tokenizer" in inputs else None
    sets = {name: evaluation_texts(name, inputs[f"against {name}"]) for name in config.get("against", ())}
    draws = int(config.get("permutations", Extras.permutations))
    return Extras(tokenize=tokenize, against=sets, seed=int(config.get("seed", 0)), permutations=draws, **read)
