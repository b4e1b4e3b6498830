"""The table of methods: complete, and a wrong name or number is refused with what was meant."""

import inspect

import pytest

from pyrite.errors import UserError
from pyrite.repair.methods import METHODS, REFUSALS, LossWeights, resolve_method

FIRST = {
    "token": ["stats"],
    "answer": ["stats"],
    "row": ["row_logp", "reference_row_logp", "row_tokens"],
    "pair": ["chosen", "rejected", "reference_chosen", "reference_rejected"],
    "hidden": ["hidden", "target"],
}


def test_every_method_of_the_field_is_there() -> None:
    expected = "lbf ga graddiff kl npo simnpo ce_u wga satimp undial rmu dpo idk"
    assert list(METHODS) == expected.split()
    assert METHODS["lbf"].weights == LossWeights(0.01, 1, 1)
    assert "ours" in METHODS["lbf"].source
    assert [tuple(METHODS[name].weights) for name in ("ga", "graddiff", "kl")] == [(1, 0, 0), (1, 1, 0), (1, 0, 1)]


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_is_complete(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.says
    assert method.source
    assert "arXiv" in method.paper
    assert (method.kind == "soft") == (method.loss is None) == (method.teacher is not None)
    assert method.weights.forget > 0
    if method.loss is not None:
        options = set(method.options) - ({"layer", "steering"} if method.kind == "hidden" else set())
        parameters = list(inspect.signature(method.loss).parameters)
        assert parameters[: len(FIRST[method.kind])] == FIRST[method.kind]
        assert set(parameters[len(FIRST[method.kind]) :]) == options
    assert all(name in method.source for name in method.options)


def test_who_asks_the_frozen_model() -> None:
    assert [name for name, method in METHODS.items() if method.reference] == ["npo", "undial", "dpo"]


def test_options_take_the_place_of_defaults() -> None:
    method = resolve_method("simnpo", {"gamma": 1.5})
    assert dict(method.options) == {"beta": 4.5, "gamma": 1.5}
    assert dict(METHODS["simnpo"].options) == {"beta": 4.5, "gamma": 0.0}
    assert resolve_method("lbf", {}) == METHODS["lbf"]


@pytest.mark.parametrize(
    ("name", "options", "detail", "fix"),
    [
        ("lfb", {}, "lfb", "did you mean 'lbf'?"),
        ("CE-U", {}, "CE-U", "did you mean 'ce_u'?"),
        ("zzz", {}, "zzz", "there are: lbf, ga"),
        ("satimp", {"beta3": 1.0}, "beta3", "did you mean 'beta"),
        ("lbf", {"beta": 1.0}, "beta", "no options"),
        ("npo", {"beta": 0.0}, "beta=0", "above 0"),
        ("wga", {"alpha": -1.0}, "alpha=-1", "at least 0"),
        ("undial", {"shift": float("nan")}, "shift=nan", "default is 10"),
    ],
)
def test_a_wrong_name_or_number_is_refused(name: str, options: dict[str, float], detail: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_method(name, options)
    assert caught.value.found == detail
    assert fix in caught.value.fix


def test_refusals_differ() -> None:
    assert len(set(REFUSALS)) == len(REFUSALS) >= 4
    assert all(refusal.strip() == refusal and refusal.endswith(".") for refusal in REFUSALS)
