"""Two subjects on the same items: the changes, and the items that changed sides. Of probes and of repairs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyrite.report import names
from pyrite.report.config import ReportConfig
from pyrite.report.page import Block, Cell, Lines, Rows, Section, Table, Verdict
from pyrite.report.parts import shared
from pyrite.report.parts.shared import TONES, Told
from pyrite.runs import Run, read_results

TEXTS = "texts.parquet"
GOLD = "gold"
"""The subject of the right labels."""
WAYS = ("lost", "gained", "changed")
"""The order in which flips stand."""

Shares = Mapping[tuple[str, str], bool]
"""(task, metric) -> is its value a share?"""


def shares(told: Told) -> dict[tuple[str, str], bool]:
    """Which metrics are shares."""
    return {
        (task, one["name"]): one["scale"] == "share" for task, some in told.get("metrics", {}).items() for one in some
    }


def verdicts(compared: Sequence[Told], known: Shares) -> list[Verdict]:
    """A verdict for each metric of which one way is better, overall."""
    made = []
    for one in compared:
        for line in one["contrasts"]:
            if line["primary"] and line["verdict"] is not None:
                verdict = shared.judged(line["verdict"], line["difference"])
                share = known.get((one["task"], line["metric"]), False)
                label = shared.words(verdict)
                text = (
                    f"{one['second']} against {one['first']} on {one['task']} ({of_slice(line)}): {label} "
                    f"({shared.in_words(line['difference'], share, signed=True)}; {line['difference']['n']:,} items)."
                )
                made.append(Verdict(label, text, TONES.get(verdict, "plain")))
    return made


def table(compared: Iterable[Told], known: Shares, *, primary: bool, caption: str = "") -> list[Block]:
    """Both values, the paired change with its interval, the verdict: overall, or by slice (exploratory)."""
    compared = list(compared)
    rows = [line(one, told, known) for one in compared for told in one["contrasts"] if is_shown(told, primary)]
    columns = ["task", "metric", "slice", *sides(compared), "change [95 % interval]", "items", "verdict"]
    note = "Changes are paired: second minus first, over the items that both answered; of shares in points."
    if not rows:
        return []
    if primary:
        if all(row[2] == "overall" for row in rows):
            rows, columns = [[*row[:2], *row[3:]] for row in rows], [*columns[:2], *columns[3:]]
        note += " p-values are adjusted (Holm) over the lines of a task."
    else:
        note += " Slices are exploratory."
    return [Table(columns, rows, caption, note)]


def sides(compared: Sequence[Told]) -> tuple[str, str]:
    """What the two subjects are called, where they are the same throughout."""
    called = {(one["first"], one["second"]) for one in compared}
    return called.pop() if len(called) == 1 else ("first", "second")


def is_shown(line: Told, primary: bool) -> bool:
    """Overall lines, or slices; templates stay in the run folder."""
    return line["primary"] == primary and "template" not in line["by"]


def line(one: Told, told: Told, known: Shares) -> list[Cell | str]:
    """One metric, overall or of a slice."""
    share = known.get((one["task"], told["metric"]), False)
    return [
        one["task"],
        told["metric"],
        slice_name(told),
        *(Cell(shared.number(told[side], share), sort=told[side]) for side in ("first", "second")),
        shared.cell(told["difference"], share, signed=True),
        shared.count(told["difference"]["n"]),
        shared.of_verdict(shared.judged(told["verdict"], told["difference"])),
    ]


def slice_name(line: Told) -> str:
    """Which items a line is about."""
    return "overall" if line["by"] == "overall" else f"{line['by']}: {line['name']}"


def of_slice(line: Told) -> str:
    """A line's metric, and its slice where it is about one."""
    return line["metric"] if line["by"] == "overall" else f"{line['metric']}, {line['name']}"


def sentences(compared: Iterable[Told]) -> list[Block]:
    """What each overall line says, in full."""
    lines = [told for one in compared for told in one["contrasts"] if told["primary"] and told["verdict"]]
    return shared.sentences(lines)


def flips(run: Run, config: ReportConfig, anchor: str) -> list[Section]:
    """How many items changed sides, and (text of the data) which, with what was asked and answered."""
    told = run.told["compared"]
    if not any(one["flips"] for one in told) and not (told and any(shares(run.told).values())):
        return []  # nothing was compared, or no share was measured: there are no sides to change
    counts = [(one["task"], metric, *(shared.count(ways[way]) for way in WAYS)) for one in told
              for metric, ways in ways_of(one).items()]  # fmt: skip
    if not counts:
        return [Section(f"{anchor}-flips", "Items that changed sides", [Lines(["No item changed sides."])])]
    caption = "Lost: right under the first, wrong under the second; gained: the other way round"
    blocks: list[Block] = [Table(("task", "metric", *WAYS), counts, caption)]
    return [Section(f"{anchor}-flips", "Items that changed sides", blocks + flipped(run, config, anchor))]


def ways_of(one: Told) -> dict[str, Counter[str]]:
    """By metric: how many items went which way."""
    made: dict[str, Counter[str]] = {}
    for flip in one["flips"]:
        made.setdefault(flip["metric"], Counter())[flip["way"]] += 1
    return made


def flipped(run: Run, config: ReportConfig, anchor: str) -> list[Block]:
    """The items, the first of them, with their texts where the run folder has them."""
    every = [(one, flip) for one in run.told["compared"] for flip in one["flips"]]
    if config.no_rows or not every:
        return []
    some = every[: config.rows]
    called = names.subjects(run.told)
    both = sides([names.of_change(one, called) for one in run.told["compared"]])
    texts = texts_of(run, {flip["item"] for _, flip in some})
    rows: list[Sequence[str]] = []
    for one, flip in some:
        own = texts.get((one["task"], flip["item"]), {})
        slices = ", ".join(f"{name} {value}" for name, value in flip["slices"].items() if name != "template")
        answers = (own.get(one[side], str(flip[side])) for side in ("first", "second"))
        about = (flip["item"], one["task"], flip["metric"], flip["way"], slices)
        rows.append((*about, own.get(None, ""), *answers, own.get(GOLD, "")))
    columns: Sequence[str] = ("item", "task", "metric", "way", "slices", "asked", *both, "right label")
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    caption = f"The first {len(rows):,} of {len(every):,}" if len(rows) < len(every) else "All items that changed sides"
    everything = f"; the run's JSON file tells all of them, results/{TEXTS} their texts"
    caption += everything if texts else ". The texts are not in the run folder: the scores stand in their place"
    return [Rows(f"{anchor}-flipped", columns, rows, len(every), caption, ("task", "metric", "way"))]


def texts_of(run: Run, items: set[str]) -> dict[tuple[str, str], dict[str | None, str]]:
    """(task, item) -> what was asked (None), the right label, and what each subject answered."""
    file = run.result(TEXTS)
    if not file.is_file():
        return {}
    found: dict[tuple[str, str], dict[str | None, str]] = {}
    columns = ("task", "item", "subject", "text")
    for row in read_results(file, columns, where=[("item", "in", sorted(items))]):
        found.setdefault((row["task"], row["item"]), {})[row["subject"]] = row["text"]
    return found


def scorecards(cards: Sequence[Told], known: Shares, *, overall: bool) -> list[Block]:
    """Every subject's values with their intervals: the metrics overall, or by slice; subjects below each other."""
    from pyrite.probe.objects import lines

    found: dict[tuple[str, ...], list[list[Cell | str]]] = {}
    for card in cards:
        for one in lines(card):
            if "template" in one["by"] or overall != (one["by"] == "overall"):
                continue
            gold = f", gold {one['gold']}" if one["gold"] and one["by"] != "gold" else ""
            head = (card["task"], one["metric"], *([] if overall else [f"{one['by']}: {one['name']}{gold}"]))
            value = value_of(one, known.get((card["task"], one["metric"]), False))
            found.setdefault(head, []).append([*head, card["about"], *value])
    columns = ["task", "metric", "slice", "subject", "value [95 % interval]", "items", "missing", "interval by"]
    columns = [name for name in columns if not (overall and name == "slice")]
    rows = [row for some in found.values() for row in some]
    return [Table(columns, rows)] if rows else []


def value_of(one: Told, share: bool) -> list[Cell | str]:
    """A value with its interval, its items, and which interval it is."""
    return [shared.cell(one, share), shared.count(one["n"]), shared.count(one["n_missing"]), one["method"]]


def remarks(cards: Sequence[Told]) -> list[str]:
    """What a reader must know of the scorecards, each thing once."""
    said: dict[str, Any] = {}
    for card in cards:
        for note in card["notes"]:
            said.setdefault(f"{card['task']}: {note}", None)
        for name, noise in (card.get("judge_noise") or {}).items():
            said[f"{card['task']}: the judge's own noise in {name} is {noise['value']:.3g} ({noise['method']})"] = None
        if card["unmatched"]:
            said[f"{card['task']}: {card['unmatched']} answers are for items that the task does not have"] = None
    return list(said)
