"""Whoever calls the library with a value that does not fit is told so as the command's user is: the field, and what it is for."""

import importlib
from pathlib import Path
from typing import Any

import pytest

import pyrite
from pyrite.config_base import CallConfig, mapping
from pyrite.errors import UserError
from pyrite.study.load import parse_spec

CONFIGS = sorted(name for name in pyrite._NAMES if name.endswith("Config"))
VERBS = sorted(path.parent.name for path in Path(pyrite.__file__).parent.glob("*/config.py"))
REQUIRED = {
    "AuditConfig": {"data": ("rows.jsonl",)}, "GateConfig": {"run": Path("runs/demo")}, "LoopConfig": {"loop": "demo"},
    "ProbeConfig": {"task": ("hans=x",)}, "RepairConfig": {"model": "m"}, "ReportConfig": {"runs": ("runs/demo",)},
    "StarterConfig": {"what": "study", "data": ("rows.jsonl",)}, "StudyConfig": {"spec": "demo"},
    "SynthConfig": {"recipe": Path("recipe.yaml")},
}  # fmt: skip


def all_configs() -> dict[str, type[CallConfig]]:
    """Every class with which a verb is called, by name."""
    classes: dict[str, type[CallConfig]] = {}
    for verb in VERBS:
        module = importlib.import_module(f"pyrite.{verb}.config")
        classes |= {
            name: value for name, value in vars(module).items() if name.endswith("Config") and name != "CallConfig"
        }
    return classes


def test_every_public_config_is_known_here() -> None:
    assert {*CONFIGS} <= set(REQUIRED) == set(all_configs())
    for name in CONFIGS:
        assert getattr(pyrite, name) is all_configs()[name]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_wrong_value_of_any_field_is_a_user_error_that_names_it(name: str) -> None:
    config, required = all_configs()[name], REQUIRED[name]
    assert issubclass(config, CallConfig)
    for field, about in config.model_fields.items():
        with pytest.raises(UserError) as caught:
            config(**{**required, field: object()})
        assert field in caught.value.found
        assert caught.value.what == f"What {name} is called with does not fit."
        assert about.description
        assert f"{field}: {about.description}" in caught.value.fix


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_unknown_or_missing_is_named(name: str) -> None:
    config, required = all_configs()[name], REQUIRED[name]
    field = next(field for field in config.model_fields if len(field) > 3)
    with pytest.raises(UserError, match=f"did you mean '{field}'"):
        config(**required, **{f"{field}s": 1})
    for left_out in required:
        if config.model_fields[left_out].is_required():
            with pytest.raises(UserError, match=f"{left_out}: Field required"):
                config(**{key: value for key, value in required.items() if key != left_out})


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"seeds": 3}, "seeds: Input should be a valid string, not 3"),
        ({"max_time": -1}, "max_time: Input should be greater than 0, not -1"),
        ({"workers": "many"}, "workers: Input should be a valid integer, unable to parse string as an integer, not a str"),
        ({"refresh": ("a", 2)}, "refresh.1: Input should be a valid string, not 2"),
    ],
)  # fmt: skip
def test_a_study_says_what_it_was_called_with(values: dict[str, Any], found: str) -> None:
    with pytest.raises(UserError) as caught:
        pyrite.StudyConfig(spec="demo", **values)
    assert caught.value.found == found


def test_a_text_is_not_repeated_for_it_may_be_a_secret() -> None:
    with pytest.raises(UserError) as caught:
        pyrite.ProbeConfig(task=("hans=x",), key_variable=("sk-secret-123",), concurrency="sk-secret-456")
    assert "sk-secret" not in str(caught.value)


def test_what_does_not_go_together_is_said_by_the_library_as_by_the_command() -> None:
    with pytest.raises(UserError, match="--backend openai and --base-url go together") as caught:
        pyrite.ProbeConfig(task=("ifeval=x",), model="m", backend="openai")
    assert caught.value.fix == "change one of these, or leave it out"


@pytest.mark.parametrize("verb", pyrite._VERBS)
def test_a_verb_called_with_something_else_says_what_it_takes(verb: str) -> None:
    with pytest.raises(UserError, match=f"pyrite.{verb} is called with a {verb.capitalize()}Config") as caught:
        getattr(pyrite, verb)("demo")
    assert caught.value.found == "a str"


def test_two_pairs_of_one_name_are_refused() -> None:
    assert mapping("--columns", ("label=gold", "text=gold")) == {"label": "gold", "text": "gold"}
    with pytest.raises(UserError, match="--columns says two things of one name") as caught:
        mapping("--columns", ("label=gold", "label=sentiment"))
    assert caught.value.found == "label=sentiment"


def test_two_mistakes_are_both_named() -> None:
    with pytest.raises(UserError) as caught:
        pyrite.StudyConfig(spec="demo", seeds=3, sed=1)
    assert "seeds: " in caught.value.found
    assert "'sed' is no field here" in caught.value.fix


def test_task_files_and_recipes_name_each_label_and_field_once(tmp_path: Path) -> None:
    from pyrite.synth.run import load_recipe
    from pyrite.tasks.custom import load_custom

    (tmp_path / "task.yaml").write_text("file: x.csv\nfields: [text]\nlabels: [a, b, a]\n")
    with pytest.raises(UserError, match=r"task.yaml:3: labels: each once, and a is there twice"):
        load_custom(tmp_path / "task.yaml")
    (tmp_path / "recipe.yaml").write_text("labels: [a, b]\nfields: [text, text]\nrows: x.csv\nsynth: {model: m}\n")
    with pytest.raises(UserError, match=r"recipe.yaml:2: fields: each once, and text is there twice"):
        load_recipe(tmp_path / "recipe.yaml")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: !!int x", "invalid literal"),
        ("a: !!bool x", "'x'"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "{b: " * 5000, "nested too deeply"),
        (BOMB, "more than 1,000,000 values"),
    ],
)
def test_yaml_that_its_library_stumbles_over(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_spec(text, "s.yaml")
    assert says in caught.value.found
    assert "s.yaml" in caught.value.found


def test_comments_that_the_yaml_library_cannot_keep_are_no_traceback() -> None:
    with pytest.raises(UserError, match=r"s\.yaml:"):
        parse_spec("repairs:      # of the biased arm\n  unlearn 32}\n\nmerge:\n  half: 1\n", "s.yaml")
