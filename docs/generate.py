"""Write the reference pages from the code: the commands' help, every key of YAML files, the methods, the notebook's page.

python docs/generate.py            writes cli.md, study.md, methods.md, notebook.md, and the tables in repair.md and loop.md
python docs/generate.py --check    fails if they differ from the code, or if a bundled study does not load
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pyrite.loop.spec import LoopSpec
from pyrite.study.load import bundled, load_spec
from pyrite.study.spec import StudySpec
from pyrite.synth.run import Recipe
from pyrite.tasks.custom import CustomTask

HERE = Path(__file__).parent
VERBS = [
    "audit",
    "study",
    "probe",
    "repair",
    "synth",
    "run",
    "report",
    "gate",
    "init",
    "demo",
    "models fetch",
    "models ls",
    "store ls",
    "store rm",
    "store gc",
]


STUDY_START = """\
*Does training on this data make my model less robust?* A study trains the same model on several choices of data (*arms*),
several times (*seeds*), asks each model about its general task and its *blind spots*, and says what the data did, or that it
cannot tell yet. It is one YAML file. [The tutorial](tutorial.md) writes one from nothing; to begin with yours:

1. Copy the file of the tutorial (labels) or a bundled one, and name your files under `data`. A mistake is named with its line.
2. `pyrite study FILE --plan` says what would run and how long it takes, and runs nothing.
3. `pyrite study FILE --data FOLDER` runs it. Interrupted, the same command goes on; finished steps are never run again.
4. Where the answer is *cannot tell yet*: `--power` says how many seeds would settle it, `--seeds +3` adds three.
5. `pyrite report runs/NAME` makes a page of it, `pyrite gate runs/NAME` an exit code. [How a verdict is reached](statistics.md).

```bash
pyrite study demo --plan
pyrite study demo --power   # hours
```
""".splitlines()
STUDIES = """\
A study is *cells*: ordered steps from a model, with any probe after any of them, for several seeds.

| written as | cells | compared by |
|---|---|---|
| `starts`, `arms`, `sizes` (and `synthetic_share`) | every start, and every arm of every size after it | start and human arm of the same size; `contrasts: {arm, against}` |
| `cells: {NAME: [steps]}` | a path of steps from the model as given | the cells of `compare_with`; `contrasts: {cell, against}` |
| `cells: {NAME: {start, steps, size}}`, beside starts | a path of steps after a start, such as an arm and then a repair | as arms are |

Steps are arms, and whatever stands under `trainings`, `repairs`, `quantise` and `merge`. With `labels`, starts and arms
train a classifier on labelled rows, and repairs and merges of a cell with a start work on that classifier
(`studies/repair_blind_spot.yaml`: does unlearning close the blind spot that a biased arm opened?). Without, they train a language model on chats. What
cannot work is refused with its line: a probe that asks a classifier for text, a chat training of a classifier.

## Rows that are kept apart

What a probe asks should not be what the model was trained on. Before anything runs, a study is refused, with the
line, where a start, an arm or a generator is trained on

- the rows that a probe reads, its whole source, or a pool of it;
- a pool that may hold rows of a pool that a probe reads, as pools with `disjoint: false` may. Disjoint pools never share a
  row, and a pool with `disjoint: false` leaves alone every disjoint pool that a probe, judge or guard reads (or that is called
  test or validation), so the remedy is most often to leave out `disjoint: false` of the pool that is read. To share on purpose,
  say so by name in the pool that is trained on: `arm: {rows: all, disjoint: false, shares_with: [asked]}`. A note of the run
  then tells how many of the probe's rows were trained on;
- the file that a probe reads, or a source that reads the same file.

A judge's held-out rows are protected in the same way from the start that judges.

Rows that differ can still share a text: MultiNLI has three hypotheses for each premise, a passage has many questions.
`group: premise` keeps all rows of one premise in one pool; `group` takes a field of the study (case and blanks do not
matter) or a column of the file, such as `page`. Pools take whole groups at random while these fit. Where no group fits what
is still missing, the smallest that is left is taken too, so that a pool has its number of rows or more by less than that
group. A balanced pool has exactly its rows of each label: what the balance leaves over of its groups is in no pool. Rows
with nothing in the column are refused, since what belongs to them cannot be known. Of chats, `group` is a
column or `prompt`, what stands before the first answer of a chat.

`results/overlap.csv` (`overlap` in `run.json`) compares every two sets of labelled rows `a` and `b`, without
regard to case and blanks: starts and arms of the first seed, pools, probes. `shared` counts the distinct whole texts in both, `shared_a`
and `shared_b` the rows of a and of b that have them; of rows with several fields, `shared_premise_a` counts the rows of a
whose premise is in b, whatever stands beside it, and so for each field, but for those that choose among a few short values,
as a label does. Whole rows of a probe that were trained on are a note of the run; so is, once for each probe, the text that
most of its other rows share with something trained on.

## What the seeds draw anew

A verdict speaks of whatever its seeds drew anew, and of nothing else. A note of the run says what was drawn once.

| of starts, arms and labels | each seed draws its own | option |
|---|---|---|
| order of rows, dropout, new heads in training | yes | |
| rows of an arm, out of its pools | yes | `arm_rows_vary: false` draws them once |
| division of the sources into pools, rows of a start | no | `pools_vary: true`: all pools but those that a probe or judge reads, and, unless texts vary, those that a generator learns from |
| raw texts of a generator | no | `texts_vary: true` |
| training of a generator, rows that it is shown | no | with `texts_vary` and `pools_vary`: it learns from each seed's own pool, by the same training seed |
| items of a probe, held-out rows of a judge | no | never: answers are compared item by item |
| judge of the labels | no | never: the first seed's model; with `texts_vary` it judges each seed's texts that a noised arm needs |

With either option, seed 0 has the rows that all seeds have without it, so that what is stored of it stays of use. In cells
of a language model the seeds draw the order of rows and what a repair draws; pools, mixes and items are drawn once.

## Cells of a language model

A *cell* is a path of named steps from the model as given: trainings, repairs, roundings (`quantise`), merges with the model before (`merge`); `[]` is the model
itself. Cells share their common beginnings, so `[damage, full]` and `[damage, replay]` train the damage once for each
seed. Rows are named `DATA.POOL`; pools of one data share no row. What is trained on, what a guard watches and what a
probe asks are three different things:

- a pool that is used for two of them is refused, with the line; so are two data that name the same file, and a probe that
  asks a file of the data (`./a.jsonl` and `a.jsonl` are one file, as are a link and a copy once the files are at hand);
- before anything is trained, the rows of all data are compared with one another. `results/overlap.csv` (`overlap` in
  `run.json`) counts, for each probe and guard, the rows that are also trained on or watched: `shared` the same row (up to
  case and blanks, without the system's turn), `shared_prompts` the same prompt with another answer. A prompt without an
  answer is shared where its prompt is. Notes say what is shared: whole rows pool by pool, of prompts the pool that has the
  most; where all rows are trained on, the study is refused.
  Chats are compared with chats, plain text with plain text; harness tasks, whose items come with them, are not compared.

`damage` is one training, named by the key `damage`. In a cell it is a step, elsewhere the rows that it was trained on, and
`damage.POOL` is a pool of the same data, so that repairs and probes follow the choice. The rows are the whole pool, so a
damage whose rows are named cannot say `first`. A *pilot* makes that choice:

```bash
pyrite study unlearning_small --plan
pyrite study unlearning_small --data FOLDER --pilot --out runs   # hours
pyrite study unlearning_small --data FOLDER --out runs           # hours
```

`--pilot` trains every damage of the grid with a seed of its own (`pilot: seed`) and asks the pilot's items, which are the
first of the seeded order. It names the damage whose paired 95 % interval over items lies wholly on the bad side of 0 and ends
farthest from it (of equals, the one that read fewer tokens), writes `pilot.json`, and stops; where there is none it says so.
You write the name into the file. The study's own probe of that task must say `skip:` with the number of the pilot's items,
and the study trains the damage anew, with its own seeds: a model that was picked for its result would make the damage look
worse than it is. Older pilots trained with the study's first seed; the verdicts of a study that finds such a `pilot.json` leave
that seed out, and say so (`--seeds +1` trains another).

What it tells:

- *Primary contrasts* (three at most): cell minus cell within each seed, t over seeds, Holm over the contrasts, and the
  verdict of [statistics.md](statistics.md). Each has a margin in units of its metric; of losses, lower is better. Beside it, for each
  seed and for all, stands the paired interval over items: it speaks of these very models on other items, and is no verdict
  on the recipe. With three seeds the first is wide.
- *The frontier* (`frontier:`): for each cell, which share of what the harm took it brings back, and which share of what the harm
  brought it keeps, over seeds and over the items of these models ([repair.md](repair.md), [statistics.md](statistics.md#shares-of-a-change)). `choose` takes one of several
  cells by other items than those that judge it; the file is refused where they may be the same. `results/frontier.csv`, `frontier.svg`.
- *Every other value* is exploratory: the mean over seeds with a t interval, and the difference to each cell of
  `compare_with` within seeds, with both intervals.
- *Cost*: processed tokens, FLOPs, seconds, peak memory; of a repair also as a share of the damage that it undoes. FLOPs of
  trainings and repairs are counted by one rule ([repair.md](repair.md)); a stored training that counted none takes those of the
  same training of another seed. What nobody counted is empty.

A model that a step destroyed has losses that are no numbers. Such items are missing, and a mean over the others would
flatter the model: a note names the cell, the metric and how many items are missing, and a primary contrast of a
perplexity probe whose items are missing on one side only is *not testable here*. It still counts among the contrasts
that Holm's rule looks at. A repair that ends in an error (a loss that is not finite, as unguarded ascent may have) ends
the study: the message names the cells that need it. Take them out of `cells`, or give the repair a guard; what is
finished is stored, and the next call goes on from there.

The run folder holds `run.json`, `pilot.json`, and `results/`: `results` (each model, probe, metric), `summary` (over seeds),
`contrasts`, `items` (each answer), `costs`, `overlap`. `looks` in `run.json` says when the verdicts were looked at, with which
seeds, and which keys of the file were changed since the look before ([statistics.md](statistics.md#primary-and-exploratory)).""".splitlines()


def cli_page() -> str:
    """Every command's help, as the command prints it."""
    parts = [
        "# Commands",
        "",
        "Written from the code by `make docs`. Every verb takes `--json` where it has results.",
        "",
    ]
    parts += [
        "Exit codes: 0 done, 1 a gate failed, 2 user error, 3 gate undecided, 4 a mistake of Pyrite's, 130 interrupted."
    ]
    for verb in VERBS:
        command = [sys.executable, "-m", "pyrite.cli", *verb.split(), "--help"]
        source = str(HERE.parent / "src")  # of this checkout, whichever one is installed
        environment = {"COLUMNS": "100", "PATH": "", "PYTHONPATH": source}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
        parts += ["", f"## pyrite {verb}", "", "```text", *lines, "```"]
    return "\n".join(parts) + "\n"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration classes that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def type_name(annotation: Any) -> str:
    """A field's type in words a reader of YAML knows."""
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    for module in (
        "typing.",
        "pyrite.study.spec.",
        "pyrite.study.spec_data.",
        "pyrite.study.spec_steps.",
        "pyrite.study.spec_probes.",
        "pyrite.repair.settings.",
        "pyrite.synth.settings.",
        "pyrite.train.settings.",
        "pyrite.loop.spec.",
    ):
        text = text.replace(module, "")
    return text.replace("|", "\\|").replace("NoneType", "null").replace("None", "null")


def default_of(field: FieldInfo) -> str:
    """A field's default as YAML would show it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    return {None: "", (): "none", "": "see text"}.get(value if not isinstance(value, dict) else (), f"`{value}`")


def tables(model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    """A table for a configuration class, then those of the classes in it."""
    seen.add(model)
    lines = ["", f"## {model.__name__}", "", (model.__doc__ or "").strip().splitlines()[0], "", *keys(model)]
    for other in [one for field in model.model_fields.values() for one in models_in(field.annotation)]:
        if other not in seen:
            lines += tables(other, seen)
    return lines


def keys(model: type[BaseModel]) -> list[str]:
    """The table of a configuration class."""
    lines = ["| key | type | default | what it is |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        told = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {type_name(field.annotation)} | {default_of(field)} | {told} |")
    return lines


def study_page() -> str:
    """Every key of every YAML file that Pyrite reads."""
    lines = ["# `pyrite study`: study files, recipes and tasks", "", *STUDY_START]
    lines += [
        "",
        "Every key is listed below, as the code has it (`make docs`).",
        "",
        "Bundled studies (`pyrite study NAME`):",
        "",
    ]
    for name in bundled():
        says = load_spec(name)[0].says
        lines.append(f"- `{name}`: {says}")
    lines += ["", *STUDIES]
    seen: set[type[BaseModel]] = set()
    for model in (StudySpec, Recipe, CustomTask):
        lines += tables(model, seen)
    return "\n".join(lines) + "\n"


def repair_page() -> str:
    """docs/repair.md with its table of methods as the code has them."""
    from pyrite.repair.methods import METHODS

    lines = [
        "| method | what it does | weights | options | asks the model as given | from | defaults |",
        "|" + "---|" * 7,
    ]
    for method in METHODS.values():
        weights = " / ".join(f"{weight:g}" for weight in method.weights)
        options = ", ".join(f"{name} = {value:g}" for name, value in method.options.items())
        asks = "yes" if method.reference or method.weights.kl else ""
        cells = (f"`{method.name}`", method.says, weights, options, asks, method.paper, method.source)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return filled("repair.md", "methods", lines)


READ = {
    "engine": "**Row by row**, by Pyrite's engine: no padding, common beginnings are computed once.",
    "library": "**By the library's own pass**, in batches of one length or padded where padding changes nothing; language models "
    "write by its `generate`, one prompt at a time.",
    "refused": "**Refused**: encoders, and models with an encoder, which are no decoders as they are saved by default. One that "
    "was saved as a decoder (`is_decoder`, or a causal class) is read.",
    "not tried": "**Not tried**: no tiny one can be built, or read as plain text. Such a model goes through the same check when "
    "it is loaded (row by row where the engine says what the library says, else by the library), but no test covers it.",
}
"""What an entry of models.json begins with, and what that means."""


def models_page() -> str:
    """docs/models.md with its lists of architectures as `tests/models/test_architectures.py` measured them."""
    table = json.loads((HERE / "models.json").read_text())
    lines = []
    for kind, title in (
        ("language model", "Language models"),
        ("classifier", "Classifiers (a sequence-classification head)"),
    ):
        entries = table[kind]
        lines += [f"### {title}", ""]
        for how, meaning in READ.items():
            why: dict[str, list[str]] = {}
            for name, text in entries.items():
                if text.partition(":")[0] == how:
                    why.setdefault(text.partition(": ")[2] if how == "not tried" else "", []).append(f"`{name}`")
            if why:
                lines += [f"{meaning} {sum(map(len, why.values()))}:", ""]
            for reason in sorted(why):
                lines += [f"- {f'{reason}: ' * bool(reason)}{', '.join(why[reason])}"]
            lines += [""] * bool(why)
    return filled("models.md", "architectures", lines[:-1])


def loop_page() -> str:
    """docs/loop.md with its table of keys as the code has them."""
    return filled("loop.md", "keys", keys(LoopSpec))


def filled(name: str, what: str, lines: list[str]) -> str:
    """A page with what stands between its marks written anew."""
    before, start, rest = (HERE / name).read_text().partition(f"<!-- {what}: written by docs/generate.py -->\n")
    _, end, after = rest.partition(f"<!-- end of {what} -->\n")
    return f"{before}{start}\n" + "\n".join(lines) + f"\n\n{end}{after}"


def notebook_page() -> str:
    """The worked notebook as a page: its text and code, no outputs."""
    lines = ["<!-- Written by `make docs` from notebook.ipynb, which tests/test_notebook.py runs. -->"]
    for cell in json.loads((HERE / "notebook.ipynb").read_text())["cells"]:
        text = "".join(cell["source"])
        lines += ["", text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"]
    return "\n".join(lines[2:3] + lines[:1] + lines[3:]) + "\n"


def main() -> int:
    """Write the pages, or compare them."""
    from method_index import methods_page

    pages = {"cli.md": cli_page(), "study.md": study_page(), "repair.md": repair_page(), "loop.md": loop_page()}
    pages["models.md"] = models_page()
    pages |= {"methods.md": methods_page(), "notebook.md": notebook_page()}
    stale = [name for name, text in pages.items() if not (HERE / name).is_file() or (HERE / name).read_text() != text]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} differs from the code; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for name, text in pages.items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
