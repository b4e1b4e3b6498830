"""The demo: a bundled loop, or the same with every draw of it made anew."""

from pathlib import Path
from typing import Any

from pyrite.loop.inputs import write_yaml
from pyrite.loop.spec import bundled as loops
from pyrite.loop.spec import load_loop
from pyrite.study.load import bundled as studies
from pyrite.study.load import load_spec

NAME = "demo"
APART = 1000
"""How far the seeds of one demo lie from those of the next."""


def demo_file(seed: int, out: Path) -> Path:
    """The demo's loop file. With a seed other than 0: one written below `out`, together with its study, in which data,
    generated texts, trainings and items are all drawn by other seeds."""
    if not seed:
        return loops()[NAME]
    folder = out / f"{NAME}-{seed}-files"
    study = load_spec(studies()[NAME])[0].model_dump(mode="json", exclude_unset=True)
    study["seeds"] = [training_seed + APART * seed for training_seed in study["seeds"]]
    for source in study["data"].values():
        drawn = source.get("grammar") or source["synth"]
        drawn["seed"] = drawn.get("seed", 0) + APART * seed
    file = write_yaml(study, folder / f"{NAME}.yaml")
    loop: dict[str, Any] = load_loop(NAME).model_dump(mode="json", exclude_unset=True)
    loop |= {"loop": f"{NAME}-{seed}", "study": str(file.resolve())}
    for grammar in loop["grammars"].values():
        grammar["seed"] += APART * seed
    loop["repair"]["seed"] = seed
    return write_yaml(loop, folder / "loop.yaml")
