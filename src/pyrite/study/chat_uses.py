"""Which chats does a study use, and what for? What it trains on, what its guards read and what its probes ask stay apart.

Pools are told apart by name, files by name and, where they are at hand, by their place on the disk and their bytes.
Single rows that the pools of several data share are counted by `overlap.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyrite.config_base import Mistake, Place, not_there
from pyrite.errors import UserError
from pyrite.study.spec import StudySpec, chat_pools
from pyrite.study.spec_data import DataSpec, file_name
from pyrite.study.spec_probes import HARNESS, ProbeSpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, TRAINED

Role = Literal["trained", "guard", "probe"]
ROLES: tuple[Role, ...] = ("trained", "guard", "probe")
SAYS = {"trained": "is trained on", "guard": "watches", "probe": "asks"}
Marks = Callable[[str], frozenset[str]]
"""What identifies a file that a study names; two names with a mark in common are the same rows."""


@dataclass(frozen=True)
class Use:
    """A key of the file that names rows: where it stands, what it says, DATA.POOL, and what they are for."""

    place: Place
    named: str
    pool: str
    role: Role


def dotted(place: Place) -> str:
    """A place in the file, for messages."""
    return ".".join(map(str, place))


def uses(spec: StudySpec, damage: str | None = None) -> list[Use]:
    """Every place that names chats, with `damage` as the training to take for the chosen one."""
    named: list[tuple[Place, str, Role]] = []
    grid = spec.pilot.grid if spec.pilot else {}
    for start, trainings in ((("trainings",), spec.trainings), (("pilot", "grid"), grid)):
        for name, training in trainings.items():
            named += [((*start, name, "on"), pool, "trained") for pool in training.pools()]
    if not spec.labels:
        named += [
            (("starts", name, "rows"), pool, "trained") for name, start in spec.starts.items() for pool in start.rows
        ]
        named += [
            (("arms", name, "mix"), pool, "trained")
            for name, arm in spec.all_arms().items()
            for pool in arm.mix
            if pool != START_ROWS
        ]
    for name, repair in spec.repairs.items():
        for role, pool in {"forget": spec.forgets(repair), **repair.pools()}.items():
            named.append((("repairs", name, role), pool, "guard" if "guard" in role else "trained"))
    for place, probe in probes_of(spec).items():
        if probe.data and not probe.names_labels:
            named.append(((*place, "data"), probe.data, "probe"))
    labelled = {name for name in spec.data if spec.holds(name) == "labelled"}
    return [
        Use(place, text, spec.rows(text, damage), role)
        for place, text, role in named
        if text != TRAINED and (place[0] in ("trainings", "pilot", "probes") or text.partition(".")[0] not in labelled)
    ]


def mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Rows exist, and no pool is used for two things, whichever damage is chosen."""
    pools = list(chat_pools(spec))
    places: set[Place] = set()
    for damage in damages(spec):
        every = uses(spec, damage)
        checks = (
            unresolved(every, spec, damage),
            leaks(use for use in every if use.pool in pools),
            damage_in_part(every, spec, damage),
        )
        for place, why in (mistake for check in checks for mistake in check):
            if place not in places:
                places.add(place)
                yield place, why


def unresolved(every: Sequence[Use], spec: StudySpec, damage: str | None) -> Iterator[Mistake]:
    """Names of rows that stand for no pool."""
    pools = list(chat_pools(spec))
    for use in every:
        if (
            use.role == "trained"
            and use.place[0] in ("trainings", "pilot")
            and use.pool != use.named
            and use.place[-2] == damage
        ):
            yield use.place, "the damage cannot be trained on its own rows by that name: say which"
        elif use.place == ("pilot", "probe", "data") and use.named.partition(".")[0] == DAMAGE:
            yield use.place, "the pilot has still to say what the damage is: name DATA.POOL"
        elif use.pool not in pools and use.place[0] not in ("starts", "arms"):  # check says so of these
            source = use.pool.partition(".")[0]
            if source in spec.data and spec.holds(source) == "labelled":
                yield use.place, f"{use.pool} holds labelled rows, and this reads chats"
                continue
            lost = source == DAMAGE
            why = f"{use.pool}: damage: NAME must name a training on one pool" if lost else not_there(use.pool, pools)
            yield use.place, why


def probes_of(spec: StudySpec) -> dict[Place, ProbeSpec]:
    """The probes with their places, the pilot's first."""
    first: dict[Place, ProbeSpec] = {("pilot", "probe"): spec.pilot.probe} if spec.pilot else {}
    return {**first, **{("probes", name): probe for name, probe in spec.probes.items()}}


def damages(spec: StudySpec) -> list[str | None]:
    """The trainings that `damage` may stand for: the chosen one, or any of the grid."""
    if spec.damage is None and spec.pilot:
        return list(spec.pilot.grid)
    return [spec.damage if spec.damage in spec.all_trainings() else None]


def leaks(pool_uses: Iterable[Use]) -> Iterator[Mistake]:
    """Rows that are used for more than one thing."""
    first: dict[str, Use] = {}
    for use in sorted(pool_uses, key=lambda use: ROLES.index(use.role)):
        first_use = first.setdefault(use.pool, use)
        if first_use.role != use.role:
            yield use.place, f"{dotted(first_use.place)} {SAYS[first_use.role]} {use.pool}: take another pool"


def as_written(file: str) -> frozenset[str]:
    """What a name alone says of a file: `a.jsonl` and `./a.jsonl` are one."""
    return frozenset((file_name(file),))


def chat_data(spec: StudySpec) -> dict[str, DataSpec]:
    """The data that hold chats."""
    return {name: source for name, source in spec.data.items() if spec.holds(name) == "chats"}


def shared_files(spec: StudySpec, marks: Marks = as_written) -> Iterator[Mistake]:
    """Files that two data read, or a probe and a data."""
    owners: dict[str, tuple[str, str]] = {}
    for name, data in chat_data(spec).items():
        for number, file in enumerate(data.files):
            for mark in sorted(marks(file)):
                owner, theirs = owners.setdefault(mark, (name, file))
                if owner != name:
                    why = f"data.{owner} has these rows ({theirs}): one data with more pools keeps them apart"
                    yield ("data", name, "files", number), why
                    break
    for place, probe in probes_of(spec).items():
        trained_files = [owners[mark] for mark in sorted(marks(probe.file)) if mark in owners] if probe.file else []
        if trained_files:
            name, theirs = trained_files[0]
            what = f"{probe.file}" + f", the same as {theirs}," * (theirs != probe.file)
            fix = f"cut a pool out of data.{name} for it (data: …), or give another file"
            yield (*place, "file"), f"rows of {what} are trained on; {fix}"


def like_pilot(spec: StudySpec, marks: Marks = as_written) -> list[str]:
    """The probes that ask the pilot's task on the pilot's rows."""
    assert spec.pilot is not None
    first = spec.pilot.probe

    def same_rows(probe: ProbeSpec) -> bool:
        if probe.file and first.file:
            return bool(marks(probe.file) & marks(first.file))
        if probe.data and first.data:
            return any(spec.rows(probe.data, damage) == spec.rows(first.data, damage) for damage in damages(spec))
        return probe.task.startswith(HARNESS)

    return [name for name, probe in spec.probes.items() if probe.task == first.task and same_rows(probe)]


def seen_by_pilot(spec: StudySpec, marks: Marks = as_written) -> Iterator[Mistake]:
    """Probes that would ask the items that chose the damage."""
    if spec.pilot is None:
        return
    first = spec.pilot.probe
    for name in like_pilot(spec, marks):
        probe = spec.probes[name]
        if probe.task.startswith(HARNESS):
            yield ("probes", name, "task"), "the pilot has seen these items, and a harness task cannot be divided"
        elif probe.skip != first.items or probe.seed != first.seed:
            fix = f"say skip: {first.items} and seed: {first.seed}"
            yield ("probes", name, "skip"), f"the pilot has seen some of these items; {fix}"


def chosen_and_judged(spec: StudySpec, marks: Marks = as_written) -> Iterator[Mistake]:
    """Probes by which a frontier's cell is chosen, and which may ask items that judge it, of either side."""
    if spec.frontier is None or spec.frontier.choose is None:
        return
    for key in ("lost", "gained"):
        for judged_side in ("lost", "gained"):
            names = [
                getattr(section, at).partition(".")[0]
                for section, at in ((spec.frontier, judged_side), (spec.frontier.choose, key))
            ]
            judge, chooser = (spec.probes.get(name) for name in names)
            if judge is not None and chooser is not None and (why := not_apart(spec, judge, chooser, marks)):
                yield ("frontier", "choose", key), f"probe {names[1]} may ask items that {names[0]} judges by: {why}"


def not_apart(spec: StudySpec, judge: ProbeSpec, chooser: ProbeSpec, marks: Marks) -> str:
    """Why may two probes ask the same items? Empty where they cannot."""
    if judge.task != chooser.task:
        return ""
    files = judge.file and chooser.file and marks(judge.file) & marks(chooser.file)
    pools = judge.data and chooser.data and any(
        spec.rows(judge.data, damage) == spec.rows(chooser.data, damage) for damage in damages(spec)
    )  # fmt: skip
    if not files and not pools and not judge.task.startswith(HARNESS):
        return ""
    if judge.task.startswith(HARNESS):
        return "a harness task cannot be divided; choose by another task"
    unlike = [name for name in ("columns", "on_bad_row", "seed") if getattr(judge, name) != getattr(chooser, name)]
    if unlike:
        return f"their {unlike[0]} differ, so that the draw of items does, too; say the same in both"
    if chooser.items is None:
        return "say items: N in the one that chooses, and skip: N in the other"
    if chooser.skip or judge.skip != chooser.items:
        return f"say skip: {chooser.items} in the one that judges, and no skip in the other"
    return ""


def at_hand(spec: StudySpec, folder: Path | None) -> Marks:
    """What the disk says of the study's files: where each lies and, of files of the same size, their bytes' hash.

    A file that is not there has only its place; of a data set on the hub, its name.
    """
    from pyrite.io import copy_or_path, file_hash
    from pyrite.study.spec import data_path

    names = {file for data in chat_data(spec).values() for file in data.files}
    names |= {probe.file for probe in probes_of(spec).values() if probe.file}
    places = {name: copy_or_path(data_path(name, folder)).resolve() for name in names if not name.startswith("hf://")}
    sizes = {place: place.stat().st_size for place in places.values() if place.is_file()}
    alike = Counter(sizes.values())
    marks = {name: as_written(name) for name in names - places.keys()}
    for name, place in places.items():
        size = sizes.get(place, 0)
        copied = {file_hash(place)} if size and alike[size] > 1 else set[str]()
        marks[name] = frozenset({str(place), *copied})
    return marks.__getitem__


def check_files(spec: StudySpec, folder: Path | None) -> None:
    """Refuse files that are the same under another name, or a copy, where a study must keep them apart.

    Raises:
        UserError: two data have a file in common, a probe asks a file that is trained on, or the pilot's items.
    """
    marks = at_hand(spec, folder)
    mistakes_of_files: Sequence[Mistake] = [
        *shared_files(spec, marks), *seen_by_pilot(spec, marks), *chosen_and_judged(spec, marks)
    ]  # fmt: skip
    if mistakes_of_files:
        detail = "\n         ".join(f"{dotted(place)}: {why}" for place, why in mistakes_of_files)
        raise UserError("The study's rows are not kept apart.", detail, "mend these lines of the study file")


def roles_of(spec: StudySpec, damage: str | None) -> Mapping[str, Role]:
    """What each pool is used for; a study that was read uses none for two things."""
    return {use.pool: use.role for use in uses(spec, damage)}


def damage_in_part(pool_uses: Sequence[Use], spec: StudySpec, damage: str | None) -> Iterator[Mistake]:
    """`damage` names all rows of the pool, so that a training which reads only the first of them is not meant by it."""
    training = spec.all_trainings().get(damage or "")
    reader = next((use for use in pool_uses if use.named == DAMAGE), None)
    if training is None or training.first is None or reader is None:
        return
    start: Place = ("trainings",) if damage in spec.trainings else ("pilot", "grid")
    why = f"{dotted(reader.place)} reads all rows of this damage, not only its first {training.first}"
    yield (*start, str(damage), "first"), f"{why}: make a pool of so many rows, and leave out first"
