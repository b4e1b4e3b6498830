"""How is a file read? Its layout by the first rows, which columns make what, and which are not used."""

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrite.errors import UserError
from pyrite.io.chat_turns import SENDERS, is_turn, role_of, turn_keys
from pyrite.io.layouts import (
    ANSWERS,
    LAYOUTS,
    PROMPTS,
    SIDES,
    Layout,
    columns_by_our_name,
    detect,
    holds_objects,
    in_lower_case,
    is_id_or_label,
    likely_columns,
    nested_layouts,
    texts_beside,
    unknown_layout,
)
from pyrite.io.no_header import columns_by_number, first_line_is_a_row, numbered_columns
from pyrite.io.raw_row import ID_COLUMNS, LayoutContext, short_value
from pyrite.records import Chat, Pair


@dataclass(frozen=True, slots=True)
class ReadAs:
    """What was made of a file's columns: by part of a record (prompt, answer, …) the columns that make it, and those
    that are not used. `within`: the column that holds the rows' columns, where they are nested; `by_number`: are the columns
    of a table without names?"""

    layout: str
    columns: Mapping[str, Sequence[str]]
    not_used: Sequence[str]
    within: str | None = None
    by_number: bool = False

    def in_words(self) -> str:
        """In one line: "read as alpaca: prompt = instruction + input, answer = output, not used: …"."""
        by_part = [f"{part} = {' + '.join(columns)}" for part, columns in self.columns.items()]
        words = [*by_part, *([f"not used: {' '.join(map(_shown, self.not_used))}"] if self.not_used else [])]
        within = f" in {self.within}" if self.within else ""
        numbers = " (columns by number: the first line is a row)" if self.by_number else ""
        return f"read as {self.layout}{within}: {', '.join(words)}{numbers}"

    def as_json(self) -> dict[str, Any]:
        """As plain values, for `--json` and run folders."""
        values = {"layout": self.layout, "columns": {part: list(names) for part, names in self.columns.items()}}
        return values | {"not_used": list(self.not_used), "within": self.within, "words": self.in_words()}


def _shown(column: str) -> str:
    return column if column and column.isprintable() and " " not in column else repr(column)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A layout with the file's names of its columns by ours; `within` is the column that holds the rows' columns."""

    layout: Layout
    columns: Mapping[str, str]
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says about columns, and the flags by which they can say more (empty: none can be given); `is_table`:
    do names of columns stand in a file's first line?"""

    layout: str | None
    columns: Mapping[str, str]
    text_fields: Sequence[str] | None
    flags: str | None
    source: str
    is_table: bool = False

    def column_flags(self, columns: Mapping[str, str]) -> str:
        """The flags that name these columns, to be pasted."""
        if self.flags is None:
            return "in the file, call " + ", ".join(f"{theirs} {ours}" for ours, theirs in columns.items())
        names = (f"--{self.flags}columns {shlex.quote(f'{ours}={theirs}')}" for ours, theirs in columns.items())
        return f"`{' '.join(names)}`"


def resolve(location: str, rows: Sequence[Mapping[str, Any]], asked: Asked) -> Resolved:
    """The layout of rows, and the columns that it reads; `rows` are the first of the file.

    Raises:
        UserError: the columns are of no layout, a named one is not there, or two could be the answer.
    """
    if not asked.is_table:
        return _layout_and_columns(location, rows, asked)
    try:
        return _layout_and_columns(location, rows, asked)
    except UserError as error:
        raise UserError(error.what, error.found, _with_numbers(error.fix, rows, asked)) from error


def refuse_names_by_number(location: str, row: Mapping[str, Any], asked: Asked) -> None:
    """Refuse a table whose columns are named by number, so that its first line is a row, where that line names columns."""
    if not columns_by_number(asked.columns, asked.text_fields) or list(row) != [
        str(at) for at in range(1, len(row) + 1)
    ]:
        return
    cells = [str(cell).strip() for cell in row.values()]
    if detect(cells, in_lower_case(cells)) is not None:
        named = {ours: cells[int(number) - 1] for ours, number in asked.columns.items() if int(number) <= len(cells)}
        raise UserError(
            "columns are named by number, and the first line has their names",
            f"{location}: {short_value(cells, 200)}",
            f"name them: {asked.column_flags(named)}, or delete that line",
        )


def _with_numbers(fix: str, rows: Sequence[Mapping[str, Any]], asked: Asked) -> str:
    """The fix, with the way to read a table whose first line is a row: before it where that line looks like one."""
    names = [name for name in rows[0] if isinstance(name, str)]
    numbered = numbered_columns(names, rows, asked.layout)
    if not numbered or asked.text_fields is not None or asked.flags is None or columns_by_number(asked.columns, None):
        return fix
    way = f"{asked.column_flags(numbered)} reads it by the numbers of its columns"
    if first_line_is_a_row(names, rows):
        return f"the first line looks like a row: {way}; if it is names, {fix}"
    return f"{fix}\n         where the first line is a row, {way}" if not asked.columns else fix


def _layout_and_columns(location: str, rows: Sequence[Mapping[str, Any]], asked: Asked) -> Resolved:
    row = rows[0]
    columns = [name for name in row if isinstance(name, str)]
    if (resolved := _named_within(row, asked)) is None:
        _check_named(location, columns, rows, asked)
        resolved = _found(location, rows, columns, asked)
    layout, renamed = resolved.layout, dict(resolved.columns)
    for ours in ("prompt", "answer"):
        own = next((groups[0] for name, groups in layout.parts if name == ours), ())
        if ours in renamed and own and ours not in own and ours not in layout.uses():
            renamed = {own[0] if name == ours else name: theirs for name, theirs in renamed.items()}
    resolved = Resolved(layout, renamed, resolved.within)
    inner = rows if resolved.within is None else [unwrapped(raw, resolved.within) for raw in rows]
    _check_fit(location, columns_of(inner), resolved, asked)
    _ask_for_the_answer(location, inner, resolved, asked)
    return resolved


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all these rows, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row if isinstance(name, str)))


def unwrapped(row: Mapping[str, Any], within: str) -> dict[str, Any]:
    """The columns in a column, beside the row's others."""
    inner = row.get(within)
    others = {name: value for name, value in row.items() if name != within}
    return {**others, **inner} if isinstance(inner, Mapping) else others


def _named_within(row: Mapping[str, Any], asked: Asked) -> Resolved | None:
    """The column within which the user named columns; None where no name is of an inner column only."""
    theirs = set(asked.columns.values())
    if not theirs or not theirs.isdisjoint(row) or asked.layout is not None:
        return None
    fitting = [found for found in nested_layouts(row, asked.columns) if theirs <= set(row[found[0]])]
    return Resolved(fitting[0][1], asked.columns, fitting[0][0]) if len(fitting) == 1 else None


def _check_named(location: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], asked: Asked) -> None:
    everywhere = columns_of(rows)
    absent = {ours: theirs for ours, theirs in asked.columns.items() if theirs not in columns}
    if absent:
        near = {ours: difflib.get_close_matches(theirs, everywhere, n=1, cutoff=0.4) for ours, theirs in absent.items()}
        meant = {**asked.columns, **{ours: match[0] for ours, match in near.items() if match}}
        hint = f"did you mean {asked.column_flags(meant)}? " if all(near.values()) else ""
        raise UserError(
            "a named column is not in the file",
            f"{location}: no {short_value(list(absent.values()))} among {short_value(list(columns), 300)}",
            hint + "name it as the file does, ours=theirs (in a YAML file: columns: {ours: theirs})",
        )
    twice = sorted({theirs for theirs in asked.columns.values() if list(asked.columns.values()).count(theirs) > 1})
    if twice:
        both = [ours for ours, theirs in asked.columns.items() if theirs == twice[0]]
        ways = [{name: theirs for name, theirs in asked.columns.items() if name not in both or name == ours} for ours in both]  # fmt: skip
        fixes = [asked.column_flags(way) for way in ways if detect(everywhere, way) is not None]
        detail = f"{location}: {short_value(twice[0])} as {' and '.join(both)}"
        raise UserError("one column cannot be two things", detail, " or ".join(fixes) or "name another column for one")


def _found(location: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], asked: Asked) -> Resolved:
    row, renamed = rows[0], asked.columns
    if asked.layout is not None:
        return Resolved(LAYOUTS[asked.layout], renamed)
    layout = detect(columns, renamed)
    if asked.text_fields is not None and not _is_pair(layout, asked.text_fields):
        return Resolved(LAYOUTS["labelled"], renamed)
    if layout is not None:
        return Resolved(layout, renamed)
    capitals = {**in_lower_case(columns), **renamed}
    layout = detect(columns, capitals)
    if layout is not None:
        used = layout.uses() | set(ID_COLUMNS)
        return Resolved(layout, {ours: theirs for ours, theirs in capitals.items() if ours in used or ours in renamed})
    nested = list(nested_layouts(row, renamed))
    if len(nested) != 1:
        raise unknown_layout(location, columns, _examples(row, columns, asked))
    within, layout = nested[0]
    if beside := texts_beside(rows, within):
        raise _beside_an_object(location, row, within, layout, beside, asked)
    return Resolved(layout, renamed, within)


def _beside_an_object(
    location: str, row: Mapping[str, Any], within: str, layout: Layout, beside: Sequence[str], asked: Asked
) -> UserError:
    """An object holds columns of a layout, and what stands beside it could be what was asked, or answered."""
    inner = [next(name for name in names if name in row[within]) for names in layout.requires]
    ways = [f"{asked.column_flags({name: name for name in inner})} (what is in {within})"]
    has_prompt = not {*PROMPTS}.isdisjoint(set(row) - set(beside))
    for ours in (("answer",), ("prompt", "answer")) if has_prompt else (("prompt", "answer"),):
        outer = {**asked.columns, **dict(zip(ours, beside, strict=False))}
        if len(beside) >= len(ours) and detect(list(row), outer) is not None:
            ways.insert(0, f"{asked.column_flags(outer)} (what is beside it)")
            break
    return UserError(
        "an object holds columns, and others beside it could be what was asked or answered",
        f"{location}: {within} holds {', '.join(inner)}, beside it {short_value(list(beside), 200)}",
        f"say which, such as {' or '.join(ways)}; else write rows with the columns that are meant",
    )


def _examples(row: Mapping[str, Any], columns: Sequence[str], asked: Asked) -> str:
    """How the columns could be named: names of ours that were probably meant, else what the texts of the row could be."""
    known = {name for layout in LAYOUTS.values() for name in layout.uses()} | set(ID_COLUMNS)
    if asked.columns and not set(asked.columns) <= known:
        near = {ours: difflib.get_close_matches(ours, known, n=1) or [ours] for ours in asked.columns}
        meant = {near[ours][0]: theirs for ours, theirs in asked.columns.items()}
        return f"did you mean {asked.column_flags(meant)}? " if detect(columns, meant) is not None else ""
    free = [name for name in columns if name not in asked.columns.values()]
    texts = [name for name in free if isinstance(row[name], str) and row[name].strip() and not is_id_or_label(name)]
    named = [name for name in columns if isinstance(row[name], (str, Mapping)) or holds_objects(row[name])]
    if likely := likely_columns({name: row[name] for name in named}):
        return f"did you mean {asked.column_flags({**asked.columns, **likely})}? "
    ours = ("prompt", "answer") if len(texts) > 1 else ("text",)
    example = {**asked.columns, **dict(zip(ours, texts, strict=False))}
    return f"such as {asked.column_flags(example)}; " if texts and detect(columns, example) is not None else ""


def _is_pair(layout: Layout | None, fields: Sequence[str]) -> bool:
    """Are these the fields that a pair has anyway, in a layout of pairs?"""
    return layout is not None and layout.kind is Pair and set(fields) <= {"premise", "hypothesis"}


def _check_fit(location: str, columns: Sequence[str], resolved: Resolved, asked: Asked) -> None:
    layout, renamed = resolved.layout, resolved.columns
    present = columns_by_our_name(columns, renamed)
    if layout.name == "labelled":
        lacking = sorted(set(asked.text_fields or ()) - present)
        if lacking and "fields" not in present:
            raise UserError(
                "a text field is not in the file",
                f"{location}: no {short_value(lacking)} among {short_value(list(columns), 300)}",
                "name the text columns as the file does, or rename them with --columns OURS=THEIRS (in a YAML file: columns)",
            )
        return
    if asked.is_table and present.isdisjoint(name for names in layout.requires for name in names):
        raise UserError(
            "the file has none of the layout's columns",
            f"{location}: columns {short_value(list(columns), 300)}",
            f"columns are named ours=theirs; ours: {layout.describe()}",
        )
    strange = [ours for ours in renamed if ours not in layout.uses() and ours not in ID_COLUMNS]
    if strange:
        near = {ours: difflib.get_close_matches(ours, layout.uses(), n=1) for ours in strange}
        meant = {
            near[ours][0] if ours in near else ours: theirs
            for ours, theirs in renamed.items()
            if near.get(ours, [ours])
        }
        hint = f"did you mean {asked.column_flags(meant)}? " if any(near.values()) else ""
        raise UserError(
            "the layout has no such column",
            f"{short_value(strange)} with layout {layout.name}",
            f"{hint}columns are named ours=theirs; ours: {layout.describe()}",
        )


def _ask_for_the_answer(location: str, rows: Sequence[Mapping[str, Any]], resolved: Resolved, asked: Asked) -> None:
    layout = resolved.layout
    explicit = any(name in asked.columns for name in (*layout.answer_names, *ANSWERS, "text"))
    if explicit or asked.text_fields is not None:
        return
    free = [name for name in columns_of(rows) if name not in asked.columns.values()]
    answers = [name for name in free if name.strip().lower() in ANSWERS and _any_text(rows, name)]
    sides = [name for name in SIDES if name in free]
    is_open = layout.holds_turns and layout.kind is Chat and len(sides) == 2 and _unanswered(rows, layout)
    if layout.name == "preference" or is_open:
        _ask_for_the_side(location, asked)
    elif layout.kind is Chat and layout.answer_names and len(answers) + len(sides) // 2 > 1:
        both = [*answers, *(sides if len(sides) == 2 else [])]
        fix = " or ".join(asked.column_flags({**asked.columns, "answer": name}) for name in both)
        raise UserError("several columns could be the answer", f"{location}: {', '.join(both)}", f"say which: {fix}")
    asks = [name for name in free if name in PROMPTS and name != "input"]
    if asked.layout is None and answers and _any_text(rows, "text") and "text" in free and not asks and layout.name in ("text", "prompt-answer"):  # fmt: skip
        chat = asked.column_flags({**asked.columns, "instruction": "text", "output": answers[0]})
        alone = asked.column_flags({**asked.columns, "text": "text"})
        raise UserError(
            "text could be all that is to be read, or what was asked",
            f"{location}: text beside {', '.join(answers)}",
            f"say which: {chat} (text was asked, {answers[0]} answered) or {alone} (text stands alone)",
        )


def _unanswered(rows: Sequence[Mapping[str, Any]], layout: Layout) -> bool:
    """Do all these chats end before an answer?"""
    for row in rows:
        turns = next((row[name] for name in layout.requires[0] if name in row), None)
        last = turns[-1] if isinstance(turns, list) and turns else None
        if (
            not isinstance(last, dict)
            or not is_turn(last)
            or role_of(next((last[name] for name in SENDERS if name in last), None)) == "assistant"
        ):
            return False
    return True


def _ask_for_the_side(location: str, asked: Asked) -> None:
    first, second = (f"{shlex.quote(asked.source)}#{side}" for side in SIDES)
    raise UserError(
        "each row holds two answers, of which one was preferred",
        f"{location}: chosen and rejected",
        f"name one of them: `{first}` or `{second}`; `pyrite audit {first} --reference {second}` compares them",
    )


def _any_text(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return any(isinstance(value := row.get(column), str) and value.strip() for row in rows)


def settle_columns(rows: Sequence[Mapping[str, Any]], layout: Layout, context: LayoutContext) -> None:
    """Of several columns that could be what was asked, or answered, later rows are read from those of the first rows
    only: a column that first appears later takes nothing over."""
    for part, groups in layout.parts:
        group = groups[0]
        if part in ("history", "system") or len(group) == 1:
            continue
        names = context.columns_for(group)
        named = [context.columns[ours] for ours in group if ours in context.columns]
        picks = {next((name for name in names if name in row), None) for row in rows}
        if settled := tuple(name for name in names if name in (named or picks)):
            context.candidates[group] = settled


def read_as(
    rows: Sequence[Mapping[str, Any]], resolved: Resolved, context: LayoutContext, *, by_number: bool = False
) -> ReadAs:
    """What is made of the columns of these rows; `by_number`: of a table without names."""
    layout = resolved.layout
    columns = columns_of(rows)
    by_part: dict[str, list[str]] = {}
    for part, groups in layout.parts:
        taken = [[column for column in context.columns_for(group) if column in columns][:1] for group in groups]
        names = list(dict.fromkeys(column for group in taken for column in group))
        if names and not (part in ("history", "system") and not any(row.get(names[0]) for row in rows)):
            by_part[part] = names
    if layout.name == "labelled" and "fields" not in columns:
        fields = context.text_fields or [name for name in context.columns if name not in ("label", *ID_COLUMNS)]
        by_part = {"fields": [context.columns.get(name, name) for name in fields], **by_part}
    if layout.name == "preference" and "turns" in by_part:
        by_part.pop("prompt", None)
    used = {column for names in by_part.values() for column in names} | {
        next(iter(context.columns_for(ID_COLUMNS)), "")
    }
    tools = [column for column in context.columns_for(("tools", "functions")) if column in columns][:1]
    if tools and layout.kind is Chat:
        by_part["tools"] = tools
    own_id = next((column for column in context.columns_for(ID_COLUMNS) if column in columns), None)
    not_used = [name for name in columns if name not in used | set(tools) and name != own_id and name not in layout.ignored]  # fmt: skip
    if layout.kind is Chat and layout.name != "self-instruct":
        thoughts, unused = _turn_keys(rows, by_part)
        if thoughts:
            by_part["thought"] = thoughts
        not_used += unused
    return ReadAs(layout.name, by_part, not_used, resolved.within, by_number)


def _turn_keys(rows: Sequence[Mapping[str, Any]], by_part: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Keys of the turns in these columns, as COLUMN.KEY: those that hold thoughts, and those that are not used."""
    thoughts: dict[str, None] = {}
    unused: dict[str, None] = {}
    columns = {column: part for part in ("answer", "prompt", "turns") for column in by_part.get(part, ())}
    for column, part in columns.items():
        values = (row.get(column) for row in rows)
        for value in values:
            if part == "turns" or not isinstance(value, str):
                of_thoughts, others = turn_keys(value)
                thoughts |= dict.fromkeys(f"{column}.{key}" for key in sorted(of_thoughts))
                unused |= dict.fromkeys(f"{column}.{key}" for key in others)
    return list(thoughts), [name for name in unused if name not in thoughts]
