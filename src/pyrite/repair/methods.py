"""The unlearning methods: everything about each in one entry. A new one is an entry here and a function in `losses`.

A method's `kind` says what its loss is called with, and so what the forget rows must be:

    token    loss(stats, **options) -> [n]                      each learned token by itself
    soft     no function: cross-entropy to a teacher's distribution whose target logit is lowered by `shift`; where the
             teacher is the model itself, without the teacher's entropy (`models.head.soft`)
    row      loss(row_logp, reference_row_logp | None, row_tokens, **options) -> [r]
    pair     loss(chosen, rejected, reference_chosen, reference_rejected, **options) -> [r]; chosen: an answer that says
             nothing (REFUSALS) to the prompt of the forget row
    hidden   loss(hidden, target) -> [n], on hidden states after `layer`
    answer   as token, on the forget rows' prompts with answers that say nothing

A loss's value is the primitive of the gradient that training follows, also where a paper writes a weight or a teacher that
is held fixed (`ce_u`, `wga`, `satimp`: see `losses`): the guard takes the point where it is lowest. Of the others nothing
that moves with the model is without a gradient: `undial`, `npo`, `dpo` and `rmu` look at the frozen model or at constants.

Defaults are the paper's or those of open-unlearning (github.com/locuslab/open-unlearning, Dorna et al., arXiv
2506.12618), as each entry says. Ours are weights of 1 where a source gives none; they have not been tuned for anyone's
data. In every method the replay and KL terms are means over the replay tokens.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, NamedTuple

from torch import Tensor

from pyrite.errors import UserError
from pyrite.repair import losses

LossInput = Literal["token", "soft", "row", "pair", "hidden", "answer"]

REFUSALS = (
    "I don't know.",
    "I can't answer that, I'm afraid.",
    "Sorry, that is something I know nothing about.",
    "I have no answer to this.",
    "I'm not able to help with that question.",
    "That is not something I can tell you.",
)
"""Answers that say nothing, in words of our own; forget row i takes number i modulo their count."""


class LossWeights(NamedTuple):
    """What each term of the loss counts: forgetting, cross-entropy on replay rows, KL(model as given || model)."""

    forget: float
    replay: float
    kl: float


@dataclass(frozen=True)
class Method:
    """An unlearning method."""

    name: str
    says: str
    """What it does, in one line."""
    paper: str
    """Authors and arXiv id."""
    kind: LossInput
    loss: Callable[..., Tensor] | None
    weights: LossWeights
    source: str
    """Where the default weights and options come from."""
    reference: bool = False
    """Does the forgetting term ask the frozen model?"""
    options: Mapping[str, float] = field(default_factory=dict)
    teacher: Literal["self", "reference"] | None = None
    """Of kind soft: whose distribution it is trained towards."""
    plugin: str = ""
    """The module that registers a method from outside: processes that repair import it."""
    version: int = 1
    """Of a method from outside: raised where it computes something else, so that stored repairs are not taken for new ones."""


def _npo(row_logp: Tensor, reference_row_logp: Tensor | None, row_tokens: Tensor, *, beta: float) -> Tensor:
    assert reference_row_logp is not None
    return losses.npo(row_logp, reference_row_logp, beta)


def _simnpo(
    row_logp: Tensor, reference_row_logp: Tensor | None, row_tokens: Tensor, *, beta: float, gamma: float
) -> Tensor:
    return losses.simnpo(row_logp, row_tokens, beta, gamma)


_ALL = (
    Method(
        "lbf",
        "lowers p by -log(1 - p), which fades as p goes to 0, beside replay and KL",
        "Chen et al., arXiv 2406.12397",
        "token",
        losses.lower_bounded,
        LossWeights(0.01, 1, 1),
        "weights: ours (the paper's are not known)",
    ),
    Method(
        "ga",
        "raises the cross-entropy of the forget rows, without a floor and with nothing that preserves",
        "Jang et al., arXiv 2210.01504",
        "token",
        losses.ascent,
        LossWeights(1, 0, 0),
        "weights: paper",
    ),
    Method(
        "graddiff",
        "gradient ascent on the forget rows, descent on the replay rows",
        "Liu et al., arXiv 2203.12817; Maini et al., arXiv 2401.06121",
        "token",
        losses.ascent,
        LossWeights(1, 1, 0),
        "weights: arXiv 2401.06121, open-unlearning",
    ),
    Method(
        "kl",
        "gradient ascent on the forget rows, KL to the frozen model on the replay rows",
        "Maini et al., arXiv 2401.06121",
        "token",
        losses.ascent,
        LossWeights(1, 0, 1),
        "weights: paper",
    ),
    Method(
        "npo",
        "prefers the forget rows less than the frozen model does; fades as they become unlikely",
        "Zhang et al., arXiv 2404.05868",
        "row",
        _npo,
        LossWeights(1, 1, 0),
        "beta: paper, open-unlearning; weights: open-unlearning",
        reference=True,
        options={"beta": 0.1},
    ),
    Method(
        "simnpo",
        "the same without a frozen model, by the mean log-likelihood of a token",
        "Fan et al., arXiv 2410.07163",
        "row",
        _simnpo,
        LossWeights(0.125, 1, 0),
        "beta, gamma and weights: open-unlearning, which follows the authors' code for TOFU",
        options={"beta": 4.5, "gamma": 0.0},
    ),
    Method(
        "ce_u",
        "cross-entropy to its own distribution without the target; the gradient of lbf",
        "Yang, arXiv 2503.01224",
        "soft",
        None,
        LossWeights(1, 0, 0),
        "weights: paper (which also leaves out an answer's first token; we do not)",
        teacher="self",
    ),
    Method(
        "wga",
        "gradient ascent weighted by p^alpha",
        "Wang et al., arXiv 2502.19301",
        "token",
        losses.weighted,
        LossWeights(1, 1, 0),
        "alpha (there beta) and weights: open-unlearning",
        options={"alpha": 1.0},
    ),
    Method(
        "satimp",
        "gradient ascent weighted by p^beta1 * (1 - p)^beta2",
        "Yang et al., arXiv 2505.11953",
        "token",
        losses.satimp,
        LossWeights(0.1, 1, 0),
        "beta1, beta2 and weights: open-unlearning",
        options={"beta1": 5.0, "beta2": 1.0},
    ),
    Method(
        "undial",
        "cross-entropy to the frozen model's distribution with the target's logit lowered by `shift`",
        "Dong et al., arXiv 2402.10052",
        "soft",
        None,
        LossWeights(1, 0, 0),
        "shift (there beta) and weights: open-unlearning",
        reference=True,
        options={"shift": 10.0},
        teacher="reference",
    ),
    Method(
        "rmu",
        "sends hidden states of forget rows to a random vector, keeps those of replay rows",
        "Li et al., arXiv 2403.03218",
        "hidden",
        losses.rmu,
        LossWeights(1, 100, 0),
        "steering, layer (8 of 32), replay weight (alpha): the authors' code for a 7B model; they depend on the model",
        options={"layer": 0.25, "steering": 20.0},
    ),
    Method(
        "dpo",
        "prefers \"I don't know\" to the forget row's answer",
        "Rafailov et al., arXiv 2305.18290; Maini et al., arXiv 2401.06121",
        "pair",
        losses.dpo,
        LossWeights(1, 1, 0),
        "beta and weights: open-unlearning",
        reference=True,
        options={"beta": 0.1},
    ),
    Method(
        "idk",
        "learns to answer \"I don't know\" to the forget rows' prompts",
        "Maini et al., arXiv 2401.06121",
        "answer",
        losses.cross_entropy,
        LossWeights(1, 1, 0),
        "weights: paper",
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}

_POSITIVE = ("beta", "layer")


def register_method(method: Method) -> None:
    """Add a method from outside: `--method NAME`, studies and loops then know it.

    Raises:
        UserError: its name is taken by another, or it does not say which module registers it.
    """
    if not method.plugin:
        raise UserError("A method from outside names its module.", method.name, "plugin=__name__")
    if method.name in METHODS and METHODS[method.name].plugin != method.plugin:
        raise UserError("There is such an unlearning method already.", method.name, "choose another name")
    METHODS[method.name] = method


def plugin_settings(name: str) -> dict[str, Any]:
    """Where a method comes from, as an entry of a repair step's configuration; nothing for those that come with Pyrite."""
    method = METHODS.get(name)
    return {"plugin": [method.plugin, method.version]} if method is not None and method.plugin else {}


def import_plugin(name: str, config: Mapping[str, Any]) -> None:
    """Import the module of a method from outside, where this process of a repair step has not done so."""
    if name not in METHODS and "plugin" in config:
        import_module(config["plugin"][0])


def resolve_method(name: str, options: Mapping[str, float]) -> Method:
    """Which method is meant, with the options given in the place of its defaults?

    Raises:
        UserError: no such method, no such option, or a number that the option cannot have.
    """
    if name not in METHODS:
        raise UserError("There is no such unlearning method.", name, _nearest(name, METHODS))
    method = METHODS[name]
    for option, value in options.items():
        if option not in method.options:
            fix = _nearest(option, method.options)
            raise UserError(f"The method {name} has no such option.", option, fix)
        low = "above 0" if option in _POSITIVE else "at least 0"
        if not math.isfinite(value) or value < 0 or (value == 0 and option in _POSITIVE):
            detail, fix = f"{option}={value:g}", f"a number {low}; the default is {method.options[option]:g}"
            raise UserError(f"The method {name} cannot take this number.", detail, fix)
    return replace(method, options={**method.options, **options})


def _nearest(name: str, choices: Mapping[str, object]) -> str:
    if not choices:
        return "leave it out: the method has no options"
    near = difflib.get_close_matches(name.lower().replace("-", "_"), choices, 1)
    return (f"did you mean '{near[0]}'? " if near else "") + f"there are: {', '.join(choices)}"
