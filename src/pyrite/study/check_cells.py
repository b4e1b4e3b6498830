"""Which steps can follow one another in the cells of a study? Every mistake with its place in the file and what to write."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pyrite.config_base import Mistake, Place, not_there
from pyrite.study.labelled_uses import data_of
from pyrite.study.spec import StudySpec
from pyrite.study.spec_steps import DAMAGE, START_ROWS, TRAINED, CellSpec, TrainingStep

ModelType = Literal["given", "classifier", "language"]
"""What stands at a point of a cell's path: the model as given, or what a training made of it."""


def step_tables(spec: StudySpec) -> list[tuple[Place, list[str]]]:
    """Where steps of cells are written, but for arms, and their names."""
    return [
        (("trainings",), list(spec.trainings)),
        (("pilot", "grid"), list(spec.pilot.grid) if spec.pilot else []),
        (("repairs",), list(spec.repairs)),
        (("quantise",), list(spec.quantise)),
        (("merge",), list(spec.merge)),
        (("steps",), list(spec.steps)),
    ]


def cell_mistakes(spec: StudySpec) -> Iterator[Mistake]:
    """Written-out cells name what is there, by a name of their own, in an order that makes sense."""
    cells_so_far: set[tuple[str, str | None, int]] = set()
    step_names = [
        *spec.all_arms(),
        *([DAMAGE] if spec.damage or spec.pilot else []),
        *(name for _, steps_of_section in step_tables(spec) for name in steps_of_section),
    ]
    for name, merge in spec.merge.items():
        if merge.before is not None:
            yield from model_before(spec, ("merge", name, "before"), merge.before)
    for number, cell in enumerate(spec.cells):
        where: Place = ("cells", number)
        if spec.has_grid and cell.name in (*spec.all_arms(), START_ROWS, *spec.starts):
            owner = "an arm's" if cell.name in spec.all_arms() else "a start's"
            yield where, f"the name '{cell.name}' is {owner}"
        if (cell.name, cell.start, cell.size) in cells_so_far:
            yield where, f"'{cell.name}' of size {cell.size} after {cell.start} is there twice"
        cells_so_far.add((cell.name, cell.start, cell.size))
        if cell.start is not None and cell.start not in spec.starts:
            yield (*where, "start"), not_there(cell.start, list(spec.starts))
            continue
        if spec.has_grid and cell.start is None:
            yield where, "with starts, a cell says where it begins: start: NAME"
        if not spec.has_grid and cell.size:
            yield where, "a size is the rows of an arm, and there are no arms: leave it out"
        if not spec.has_grid and [other.name for other in spec.cells].index(cell.name) != number:
            yield where, f"the name '{cell.name}' is there twice"
        if not cell.size and any(step in spec.all_arms() for step in cell.steps):
            yield where, "an arm has so many rows: size: N"
        for at, step in enumerate(cell.steps):
            lost = step_place(number, at)
            if step == DAMAGE and spec.damage is None and spec.pilot is None:
                yield lost, "damage: NAME must say which training this is"
            elif step not in step_names:
                yield lost, not_there(step, step_names)
        yield from path_of_types(spec, number, cell)
    for number, name in enumerate(spec.compare_with or ()):
        if name not in spec.paths:
            yield ("compare_with", number), not_there(name, list(spec.paths))


def step_place(number: int, at: int) -> Place:
    """Where a step of a cell is written."""
    return ("cells", number, "steps", at)


def path_of_types(spec: StudySpec, number: int, cell: CellSpec) -> Iterator[Mistake]:
    """Every step of a cell can work on the model that it is given."""
    standing = type_of_start(spec, cell.start)
    for at, step in enumerate(cell.steps):
        where = step_place(number, at)
        if step in spec.all_arms() and spec.labels and standing == "language":
            yield (
                where,
                f"arm {step} trains a classifier, from the model as given or another classifier, not from a language model",
            )
        elif (step == DAMAGE or step in spec.all_trainings()) and standing == "classifier":
            yield where, f"{step} trains a language model, and what it is given here is a classifier"
        elif step in spec.repairs and is_labelled(spec, step) != (standing == "classifier"):
            rows = "labelled rows, for a classifier" if is_labelled(spec, step) else "chats, for a language model"
            yield (
                where,
                f"{step} has {rows}, and is given {'the model as given' if standing == 'given' else f'a {standing}'}",
            )
        elif (
            step in spec.repairs and spec.forgets(spec.repairs[step]) == TRAINED and not trained_before(spec, cell, at)
        ):
            yield where, f"{step} unlearns the rows of the last training, and there is none before it"
        elif step in spec.repairs and spec.forgets(spec.repairs[step]) == TRAINED and reads_part(spec, cell, at):
            yield (
                where,
                f"{step} unlearns all rows of the last training, not only its first: make a pool of so many rows",
            )
        elif step in spec.repairs and spec.forgets(spec.repairs[step]) == TRAINED and (
            shared := [
                (role, rows)
                for role, rows in spec.repairs[step].pools().items()
                if any(share_rows(spec.rows(rows), spec.rows(trained)) for trained in rows_of_training(spec, cell, at))
            ]
        ):  # fmt: skip
            role, rows = shared[0]
            yield (
                where,
                f"{step} unlearns the rows of the last training, and its {role} ({rows}) is among them: take another pool",
            )
        elif step in spec.quantise and standing == "classifier":
            yield where, "rounding is for language models; a classifier is not rounded"
        elif step in spec.merge and at == 0 and spec.merge[step].before is None:
            yield where, f"{step} would mix the model that the cell begins with with itself"
        elif step in spec.merge and spec.merge[step].before is None and standing != type_of_start(spec, cell.start):
            beginning = type_of_start(spec, cell.start)
            if "classifier" in (standing, beginning):
                yield (
                    where,
                    f"{step} mixes two models that are alike, and here they are a {standing} and {model_called(beginning)}",
                )
        standing = type_after(spec, step, standing)


def model_called(type_of_model: ModelType) -> str:
    """A model of this sort, for messages."""
    return "the model as given" if type_of_model == "given" else f"a {type_of_model}"


def rows_of_training(spec: StudySpec, cell: CellSpec, at: int) -> set[str]:
    """The names of the rows that the last training before this step of a cell read."""
    for step in reversed(cell.steps[:at]):
        if step in spec.all_arms():
            mix = set(spec.all_arms()[step].mix)
            own_rows = spec.starts[cell.start].rows if cell.start in spec.starts else {}
            return (mix - {START_ROWS}) | (set(own_rows) if START_ROWS in mix else set())
        if step == DAMAGE or step in spec.all_trainings():
            return {rows for training in trainings_of(spec, step) for rows in training.pools()}
    return set()


def trainings_of(spec: StudySpec, step: str) -> list[TrainingStep]:
    """The training of a name; those that the chosen damage may be, by that word."""
    names = [step] if step != DAMAGE else [spec.damage] if spec.damage else list(spec.pilot.grid) if spec.pilot else []
    return [spec.all_trainings()[name] for name in names if name in spec.all_trainings()]


def share_rows(rows: str, other_rows: str) -> bool:
    """Are two names the same rows, or one a pool of the other?"""
    return rows == other_rows or rows.partition(".")[0] == other_rows or other_rows.partition(".")[0] == rows


def trained_before(spec: StudySpec, cell: CellSpec, at: int) -> bool:
    """Does an arm or a training stand before this step of a cell?"""
    trainings = {*spec.all_arms(), *spec.all_trainings(), DAMAGE}
    return any(step in trainings for step in cell.steps[:at])


def reads_part(spec: StudySpec, cell: CellSpec, at: int) -> bool:
    """Does the last training before this step of a cell read the first rows of its pool only?"""
    steps = [step for step in cell.steps[:at] if step in (*spec.all_arms(), *spec.all_trainings(), DAMAGE)]
    return bool(steps) and any(training.first is not None for training in trainings_of(spec, steps[-1]))


def type_of_start(spec: StudySpec, start: str | None) -> ModelType:
    """What a start is."""
    if start is None or start not in spec.starts:
        return "given"
    passed: set[str] = set()
    following: str | None = start
    while following in spec.starts and following not in passed:
        passed.add(following)
        if not spec.starts[following].is_given:
            return "classifier" if spec.labels else "language"
        following = spec.starts[following].after
    return "given"


def type_after(spec: StudySpec, step: str, standing: ModelType) -> ModelType:
    """What a step leaves."""
    if step in spec.all_arms():
        return "classifier" if spec.labels else "language"
    return "language" if step == DAMAGE or step in spec.all_trainings() else standing


def type_of_cell(spec: StudySpec, cell: CellSpec) -> ModelType:
    """What a written-out cell comes to."""
    standing = type_of_start(spec, cell.start)
    for step in cell.steps:
        standing = type_after(spec, step, standing)
    return standing


def types_of_cells(spec: StudySpec) -> Mapping[str, ModelType]:
    """What every cell is, by the name that `only_cells` calls it by."""
    types: dict[str, ModelType] = {}
    if spec.has_grid:
        ends = {type_of_start(spec, start) for start in spec.starts}
        types[START_ROWS] = "classifier" if "classifier" in ends else next(iter(ends))
        types |= {start: type_of_start(spec, start) for start in spec.starts}
        types |= dict.fromkeys(spec.all_arms(), "classifier" if spec.labels else "language")
    return types | {cell.name: type_of_cell(spec, cell) for cell in spec.cells}


def model_before(spec: StudySpec, place: Place, cell: str) -> Iterator[Mistake]:
    """The model before is a cell that trainings alone made: one that looks back itself could go round in a circle."""
    if spec.has_grid:
        yield place, "with starts, the model before is the start of the cell: leave it out"
        return
    if cell not in spec.paths:
        yield place, not_there(cell, list(spec.paths))
        return
    back = {*spec.merge, *(name for name, repair in spec.repairs.items() if repair.before is not None)}
    looks_back = [step for step in spec.paths[cell] if step in back]
    if looks_back:
        yield place, f"the model before is trained: cell {cell} holds {looks_back[0]}, which looks back itself"


def is_labelled(spec: StudySpec, repair: str) -> bool:
    """Are the rows of a repair labelled, so that it is one of a classifier?"""
    return spec.repairs[repair].replay.partition(".")[0] in data_of(spec)
