"""The examples in docstrings run, and say what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import pyrite

ROOT = Path(pyrite.__file__).parent
EXTRAS = {"bitsandbytes", "immutabledict", "langdetect", "lm_eval", "nltk", "openai", "tenacity", "trackio"}
"""Libraries of the optional extras."""
WITH_EXAMPLES = [
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(ROOT.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRAS:
            raise
        pytest.skip(f"{name} needs {error.name}, which an extra installs")
    results = doctest.testmod(module)
    assert results.attempted
    assert results.failed == 0
