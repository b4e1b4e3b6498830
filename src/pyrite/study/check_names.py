"""What may the parts of a study be called? Every mistake with its place in the file and what to write."""

import re
from collections.abc import Iterable, Iterator

from pyrite.config_base import Mistake, Place, not_there
from pyrite.study.check_cells import step_tables
from pyrite.study.other_steps import OTHER_STEPS
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, TRAINED

NAME = re.compile(r"\w([^\x00-\x1f/\\\[\]\"<>|?*:]*[^\s\x00-\x1f/\\\[\]\"<>|?*:])?")
"""What anything in a study file may be called: such a name can stand in a table, a gate and a file's name."""
LONGEST = 80
"""Bytes of a name at most: files are called by several."""
RESERVED = ("primary", "verdict")
"""What gates of a study call its first question and its answer."""


def written_names(spec: StudySpec) -> Iterator[Mistake]:
    """Names begin with a letter, digit or _, fit into a file's name, and hold no character that a path or a gate gives a
    meaning to; those of data, pools and probes no dot."""
    named: list[tuple[Place, str]] = [(("cells", number), cell.name) for number, cell in enumerate(spec.cells)]
    tables: dict[str, Iterable[str]] = {
        "data": spec.data,
        "starts": spec.starts,
        "arms": spec.arms,
        "probes": spec.probes,
    }
    named += [((where, name), name) for where, table in tables.items() for name in table]
    named += [((*where, name), name) for where, steps in step_tables(spec) for name in steps]
    named += [(("data", name, "pools", pool), pool) for name, source in spec.data.items() for pool in source.pools]
    for place, name in named:
        if not NAME.fullmatch(name):
            yield (
                place,
                f'a name begins with a letter, digit or _ and has none of / \\ [ ] " < > | ? * : in it, not {name!r}',
            )
        elif len(name.encode()) > LONGEST:
            yield place, f"a name is at most {LONGEST} bytes long, as files are called by it, not {name[:20]!r}…"
        elif place[0] == "probes" and (re.search(r"[\s=!]", name) or name in RESERVED):
            yield (
                place,
                f"a probe's name has no blank, = or ! in it and is none of {', '.join(RESERVED)}: gates name it",
            )
        elif "." in name and (place[0] in ("data", "probes")):
            yield place, f"a name here has no dot, which divides DATA.POOL and PROBE.METRIC, not {name!r}"


def names(spec: StudySpec) -> Iterator[Mistake]:
    """Words that stand for something are nobody's name; no two steps share one; seeds are 0 or more, sizes 1 or more."""
    for where, named in (("data", spec.data), ("arms", spec.arms)):
        if START_ROWS in named:
            yield (where, START_ROWS), f"the name '{START_ROWS}' stands for the start; choose another"
    for word, stands_for in (
        (DAMAGE, "the rows of the chosen damage"),
        (TRAINED, "the rows of a cell's last training"),
    ):
        if word in spec.data:
            yield ("data", word), f"the name '{word}' stands for {stands_for}"
    names_so_far = set(spec.all_arms())
    for where_, steps in step_tables(spec):
        for name in steps:
            if name in names_so_far or name == DAMAGE:
                yield (*where_, name), f"the name '{name}' is taken"
            names_so_far.add(name)
    for name, step in spec.steps.items():
        if step.type not in OTHER_STEPS:
            yield ("steps", name, "type"), not_there(step.type, list(OTHER_STEPS))
    for name in spec.axis_arms():
        if name in spec.arms:
            yield ("arms", name), "synthetic_share makes an arm of that name"
    if spec.damage is not None and spec.damage not in spec.all_trainings():
        yield ("damage",), not_there(spec.damage, list(spec.all_trainings()))
    if min(spec.seeds) < 0:
        yield ("seeds",), "each is 0 or more"
    if min(spec.sizes, default=1) < 1:
        yield ("sizes",), "each is 1 or more"
    if not spec.has_grid:
        return
    if spec.human_arm not in spec.all_arms():
        yield ("human_arm",), not_there(spec.human_arm, list(spec.all_arms()))
    if "general" not in spec.probes:
        yield ("probes",), "one of them must be called 'general', the general task"
