"""Names as they may stand in files that leave this machine."""

import re
from pathlib import Path


def shown_model(name: str) -> str:
    """A model or data file without the folders of any machine; a name on the hub, or of a package, stays.

    >>> shown_model("/home/me/models/mine"), shown_model("org/name@main"), shown_model("packaged:minilm-l6")
    ('mine', 'org/name@main', 'packaged:minilm-l6')
    """
    if name.startswith((".", "/", "~")) or (name.count("/") > 1 and "://" not in name):
        return Path(name).name or name
    return name


def stem_of(name: str) -> str:
    """A name as a folder, as lm-evaluation-harness makes it: no character that a path gives a meaning to.

    >>> stem_of("org/name@main"), stem_of("../x"), stem_of("..")
    ('org__name@main', '__x', '_')
    """
    made = re.sub(r"[\"<>:/|\\?*\[\]\x00-\x1f\x7f]+", "__", name)[:120].lstrip(".").rstrip(". ")
    return made or "_"
