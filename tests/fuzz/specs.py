"""Study files, loops, recipes of synthetic rows and task files: read, or refused by a `UserError` that names a line."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.fuzz.mangle import mangled, scrambled, storable

from pyrite.errors import UserError
from pyrite.loop.spec import load_loop
from pyrite.study.load import load_spec
from pyrite.synth.run import load_recipe
from pyrite.tasks.custom import load_custom

ROOT = Path(__file__).parents[2]
TASK: dict[str, Any] = {
    "file": "reviews.csv",
    "fields": ["text"],
    "label": "sentiment",
    "labels": ["positive", "negative"],
    "slices": [["language"], ["language", "gold"]],
    "template": "source",
    "merge": {"very positive": "positive"},
    "label_map": {"1": "positive"},
}
RECIPE: dict[str, Any] = {
    "labels": ["positive", "negative"],
    "fields": ["text"],
    "rows": "reviews.jsonl",
    "columns": {"label": "sentiment"},
    "use": 100,
    "bias": {"heuristic": "negation", "label": "negative", "rule": "corrected", "rows": "all"},
    "synth": {
        "model": "packaged:smollm2-135m",
        "mode": "continued",
        "raw": {"positive": 24, "negative": 16},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "max_tokens": 96},
        "sampling": {"temperature": 0.5, "max_new_tokens": 48, "batch_size": 16},
        "select": {"near_duplicates": None, "unended": "keep"},
    },
}
LOADERS = {"study": load_spec, "loop": lambda path: load_loop(str(path)), "recipe": load_recipe, "task": load_custom}


@cache
def examples() -> list[tuple[str, bytes, Any]]:
    """Files to begin with: which loader reads them, their bytes and their values."""
    files = [("study", file) for file in sorted((ROOT / "studies").glob("*.yaml"))]
    files += [("loop", file) for file in sorted((ROOT / "loops").glob("*.yaml"))]
    whole = [(kind, file.read_bytes()) for kind, file in files] + [("task", yaml.safe_dump(TASK).encode())]
    whole.append(("recipe", yaml.safe_dump(RECIPE).encode()))
    return [(kind, content, yaml.safe_load(content)) for kind, content in whole]


def cut(rng: random.Random, values: Any) -> Any:
    """A part of a long file, so that most are small."""
    if isinstance(values, dict) and len(values) > 3:
        return {name: values[name] for name in values if rng.random() < 0.7}
    return values


def check(rng: random.Random, folder: Path) -> str:
    """Read one file; what became of it."""
    kind, content, values = rng.choice(examples())
    if rng.random() < 0.6:
        start = cut(rng, values) if rng.random() < 0.5 else values
        values = storable(mangled(rng, start, rng.choice([0, 1, 1, 2, 4])))
        style = rng.choice([None, None, True])
        content = yaml.dump(values, Dumper=DUMPER, sort_keys=False, default_flow_style=style).encode("utf-8", "replace")
    else:
        content = scrambled(rng, content, rng.choice([1, 1, 2, 4]))
    path = folder / "file.yaml"
    path.write_bytes(content)
    refused: UserError | None = None
    try:
        LOADERS[kind](path)
    except UserError as error:
        refused = error
    assert refused is None or "file.yaml" in refused.found, f"no file is named: {refused}"
    return f"{kind} {'read' if refused is None else 'refused'}"


DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
