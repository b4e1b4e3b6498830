"""The base of every configuration, and how one is read from YAML: every mistake named with its line and what to write."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from pyrite.errors import UserError
from pyrite.yaml_values import load_yaml, plain_values


class ConfigBase(BaseModel):
    """A configuration in which an unknown key is an error, and which does not change once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ENGINE: Any = Field(
    "local",
    pattern=r"^(local|ray|ray:.+)$",
    description="where steps run: local, or ray (a cluster of this machine), ray:HOST:PORT, ray://HOST:PORT; see docs/scale.md",
)
"""The option `--engine` of every verb that has it."""


class DistinctConfig(ConfigBase):
    """A configuration whose lists hold no entry twice, but for those of the fields in `repeatable`."""

    repeatable: ClassVar[tuple[str, ...]] = ()

    @field_validator("*")
    @classmethod
    def _each_once(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, tuple) and info.field_name not in cls.repeatable:
            twice = next((entry for at, entry in enumerate(value) if entry in value[:at]), None)
            if twice is not None:
                text = twice if isinstance(twice, str | int | float) else "an entry"
                raise ValueError(f"each once, and {text} is there twice")
        return value


class CallConfig(ConfigBase):
    """What a public function of the library is called with: whoever makes it may have made a mistake."""

    if not TYPE_CHECKING:  # so that type checkers and editors still see a parameter for each field

        def __init__(self, /, **values: Any) -> None:
            """Check the values.

            Raises:
                UserError: an unknown field (with "did you mean"), one that is missing, a value that does not fit.
            """
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise misfit(type(self), error) from error


Config = TypeVar("Config", bound=ConfigBase)
Place = tuple[str | int, ...]
"""Keys and positions that lead to a part of a configuration."""
Mistake = tuple[Place, str]
"""Where something is wrong, and what."""


def from_yaml(
    model: type[Config], text: str, where: str, *, what: str, see: str,
    check: Callable[[Config], Iterable[Mistake]] | None = None,
) -> Config:  # fmt: skip
    """A configuration from YAML text.

    `where` (a path) and `what` (a noun) name it in messages, `see` says where its keys are listed; `check` finds what does not
    fit together.

    Raises:
        UserError: not YAML, not a mapping, an unknown key (with "did you mean"), a value that does not fit.
    """
    loaded = load_yaml(text, where, what)
    if not isinstance(loaded, dict):
        raise UserError(f"The {what} holds no mapping.", where, see)
    try:
        config = model.model_validate(plain_values(loaded, where, what))
        refuse(check(config) if check else ())
    except ValidationError as error:
        details, fixes = [], []
        for mistake in error.errors():
            place = as_in_file(loaded, mistake["loc"])
            at = ".".join(map(str, place)) or what
            details.append(f"{where}:{line_of(loaded, place)}: {at}: {mistake_text(mistake)}")
            if mistake["type"] == "extra_forbidden":
                fixes.append(unknown_key(model, mistake["loc"], "key"))
        fix = "; ".join(fixes) or f"mend the lines above; {see}"
        raise UserError(f"The {what} has mistakes.", "\n         ".join(details), fix) from error
    return config


def misfit(model: type[ConfigBase], error: ValidationError) -> UserError:
    """What does not fit in the values of a configuration: each field by name, and what it is for."""
    details, fixes = {}, {}
    for mistake in error.errors():
        field = str(mistake["loc"][0]) if mistake["loc"] else ""
        if mistake["type"] == "extra_forbidden":
            details[field], fixes[field] = f"{field}: no such field", unknown_key(model, mistake["loc"], "field")
        elif not field:
            details[field], fixes[field] = mistake_text(mistake), "change one of these, or leave it out"
        elif field not in details:  # of a union, pydantic names a mistake for each of its types
            value = "" if mistake["type"] in ("missing", "value_error") else f", not {value_text(mistake['input'])}"
            place = [field, *(str(part) for part in mistake["loc"][1:] if isinstance(part, int))]
            details[field] = f"{'.'.join(place)}: {mistake_text(mistake)}{value}"
            fixes[field] = f"{field}: {model.model_fields[field].description}"
    what = f"What {model.__name__} is called with does not fit."
    return UserError(what, "\n         ".join(details.values()), "; ".join(fixes.values()))


def mistake_text(mistake: Any) -> str:
    """A mistake in words, as pydantic names it."""
    return str(mistake["msg"]).removeprefix("Value error, ").replace("valid tuple", "valid list")


def value_text(value: Any) -> str:
    """A value in a message: a number as it is, of anything else only what it is, for it may be a secret."""
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"


def unknown_key(model: type[ConfigBase], location: Sequence[Any], what: str) -> str:
    """'sed' is no key here, did you mean 'seed'?"""
    key = str(location[-1])
    near = difflib.get_close_matches(key, known_keys(model, location), 1)
    return f"'{key}' is no {what} here" + (f", did you mean '{near[0]}'?" if near else "")


def yaml_text(file: Path, what: str) -> str:
    """The text of a YAML file.

    Raises:
        UserError: it is not UTF-8; with the line.
    """
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        detail = f"{file}:{line}: byte {content[error.start]:#04x} is no UTF-8"
        raise UserError(f"The {what} is not in UTF-8.", detail, "save the file as UTF-8") from error


def refuse(mistakes: Iterable[Mistake]) -> None:
    """Raise an error that names each mistake at its place, if there are any."""
    lines = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{why}", {"why": why}), loc=tuple(at), input=None)
        for at, why in mistakes
    ]
    if lines:
        raise ValidationError.from_exception_data("mistakes", lines)


def not_there(name: str, available: Sequence[str]) -> str:
    """'there is no X, did you mean Y?'"""
    near = difflib.get_close_matches(name, available, 1)
    return f"there is no '{name}'" + (
        f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(dict.fromkeys(available)) or 'none'}"
    )


def mapping(flag: str, texts: tuple[str, ...]) -> dict[str, str] | None:
    """`ONE=OTHER` texts as a mapping; None where there are none.

    Raises:
        UserError: a text without = between two names, or two with the same first name.
    """
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (left, sign, right) in zip(texts, pairs, strict=True) if not (left and sign and right)]
    if wrong:
        raise UserError(f"{flag} takes two names with = between.", wrong[0], f"such as {flag} one=other")
    names = [left for left, _, _ in pairs]
    twice = next((text for at, text in enumerate(texts) if names[at] in names[:at]), None)
    if twice is not None:
        raise UserError(f"{flag} says two things of one name.", twice, "leave one of them out")
    return {left: right for left, _, right in pairs} or None


def as_in_file(loaded: Any, location: Sequence[Any]) -> Place:
    """A location as the file has it: parts that are counted in the configuration and written by name in the file have their
    name, and what the file leaves out (`NAME: [list]` in place of `NAME: {steps: [list]}`) is left out."""
    place: list[Any] = []
    for part in location:
        if isinstance(loaded, dict) and isinstance(part, int) and part < len(loaded):  # keys are text once read
            part = list(loaded)[part]
        elif isinstance(loaded, list) and not isinstance(part, int):
            continue
        place.append(part)
        is_there = part in loaded if isinstance(loaded, dict) else isinstance(loaded, list) and part < len(loaded)
        loaded = loaded[part] if is_there else None
    return tuple(place)


def line_of(loaded: Any, location: Sequence[Any]) -> int:
    """The line (from 1) of the innermost part of a location that the file has."""
    line = 1
    for part in location:
        marks = getattr(loaded, "lc", None)
        if isinstance(loaded, dict) and part in loaded and marks is not None:
            line = line_of_key(loaded, part) or line
        elif isinstance(loaded, list) and isinstance(part, int) and part < len(loaded) and marks is not None:
            line = marks.item(part)[0] + 1
        else:
            break
        loaded = loaded[part]
    return int(line)


def line_of_key(loaded: Any, key: Any) -> int | None:
    """The line (from 1) of a mapping's key, or of where it is merged in from (`<<: *anchor`); None where no line is known."""
    if key in (loaded.lc.data or {}):
        return int(loaded.lc.key(key)[0]) + 1
    parts = (
        part[1] if isinstance(part, tuple) else part for part in getattr(loaded, "merge", ())
    )  # (place, part) in old releases
    lines = (line_of_key(part, key) for part in parts if key in part)
    return next((line for line in lines if line), None)


def known_keys(model: Any, location: Sequence[Any]) -> list[str]:
    """Which keys could stand where the last part of a location does? Walks the configurations along it."""
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        inner = [field.annotation] if field is not None else []
        while inner:
            candidate = inner.pop()
            if isinstance(candidate, type) and issubclass(candidate, ConfigBase):
                model = candidate
                break
            inner.extend(getattr(candidate, "__args__", ()))
    return list(model.model_fields)
