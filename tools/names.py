"""Do the names of the code say what things are? Counts those that do not, and fails above the limits.

    python tools/names.py            the figures; exit code 1 above a limit
    python tools/names.py --all      with every place

Two figures, each a share:

- pro-words among bound names (arguments and assigned names): words such as `made` or `found`, which stand for whatever the
  reader still has to look up.
- module-level functions whose name another file gives to a function, too. The same hook in several folders of
  `audit/flaws` is one name: its twins mean the same thing.
"""

import argparse
import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "pyrite"
PRO_WORDS = frozenset(
    [
        "told",
        "made",
        "found",
        "one",
        "asked",
        "given",
        "said",
        "some",
        "own",
        "other",
        "others",
        "whole",
        "there",
        "known",
        "wanted",
        "kept",
        "here",
        "taken",
        "want",
        "ask",
        "tell",
        "make",
        "find",
        "everything",
        "something",
        "seen",
        "shown",
    ]
)
PRO_WORDS_LIMIT = 0.005
SHARED_LIMIT = 0.10


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every argument and assigned name, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def main() -> int:
    """Count, print, and say by the exit code whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="name every place")
    every = parser.parse_args().all
    names = 0
    pro_words: Counter[str] = Counter()
    places: list[str] = []
    files: dict[str, set[str]] = defaultdict(set)
    functions = 0
    for path in sorted(ROOT.rglob("*.py")):
        tree, where = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix()
        for name, line in bound_names(tree):
            names += 1
            if name in PRO_WORDS:
                pro_words[name] += 1
                places.append(f"{where}:{line}: {name}")
        hook = re.sub(r"audit/flaws/\w+/", "audit/flaws/*/", where)
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        functions += sum(hook not in files[name] for name in defined)
        for name in defined:
            files[name].add(hook)
    shared = {name: where for name, where in files.items() if len(where) > 1}
    count = sum(map(len, shared.values()))
    shares = (sum(pro_words.values()) / names, count / functions)
    print(f"pro-words: {sum(pro_words.values())} of {names} bound names ({shares[0]:.2%}; limit {PRO_WORDS_LIMIT:.1%})")
    print(f"functions that share a name: {count} of {functions} ({shares[1]:.1%}; limit {SHARED_LIMIT:.0%})")
    if every:
        print(*places, *(f"{name}: {', '.join(sorted(where))}" for name, where in sorted(shared.items())), sep="\n")
    return int(shares[0] > PRO_WORDS_LIMIT or shares[1] > SHARED_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
