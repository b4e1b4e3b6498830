"""Does a repair last? The repaired model, rounded to fewer bits or taught some of the forgotten rows again."""

from dataclasses import dataclass
from typing import Any, Literal

from pyrite.errors import UserError
from pyrite.models.hardware import Compute
from pyrite.models.template import for_step, parse_template_kwargs
from pyrite.repair.config import RepairConfig
from pyrite.repair.rows import RowSteps, side_counts
from pyrite.steps import Step, Store
from pyrite.train.settings import TrainSettings

KINDS = ("int8", "nf4", "relearn")


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof: rounding of the weights, or a short training on so many forget rows."""

    kind: Literal["int8", "nf4", "relearn"]
    rows: int = 0

    @property
    def name(self) -> str:
        """What the changed model is called."""
        return f"relearned on {self.rows} rows" if self.kind == "relearn" else self.kind


def parse_proofs(texts: tuple[str, ...]) -> list[Proof]:
    """What does `--prove` ask for?

    Raises:
        UserError: an unknown proof, a proof twice, or relearn without a number of rows.

    >>> parse_proofs(("nf4", "relearn=32"))[1].name
    'relearned on 32 rows'
    """
    proofs: list[Proof] = []
    for text in texts:
        kind, sign, rows = text.partition("=")
        good = kind in KINDS and (rows.isdecimal() and int(rows) > 0 if kind == "relearn" else not sign)
        if not good:
            raise UserError("That is no proof.", f"--prove {text}", "int8, nf4, or relearn=M with M forget rows")
        proof = Proof(kind, int(rows or 0))  # type: ignore[arg-type]
        if proof in proofs:
            raise UserError("A proof is asked for twice.", f"--prove {text}", "give each --prove once")
        proofs.append(proof)
    return proofs


def refuse_relearning(proofs: list[Proof]) -> None:
    """Refuse what is proved of language models only."""
    if any(proof.kind == "relearn" for proof in proofs):
        detail, fix = "--prove relearn", "--prove int8 or nf4; train it on the rows again with pyrite study"
        raise UserError("Relearning is for language models, and the model is a classifier.", detail, fix)


def check_rows(proofs: list[Proof], rows: RowSteps, store: Store) -> None:
    """Refuse to relearn on more rows than there are to forget."""
    relearning = [proof for proof in proofs if proof.kind == "relearn"]
    if not relearning:
        return
    if rows.forget is None:
        raise UserError("Relearning needs forget rows.", f"--prove relearn={relearning[0].rows}", "give --forget FILE")
    n_forget = side_counts(rows.forget, store)["pools"]["forget"]
    for proof in relearning:
        if proof.rows > n_forget:
            detail = f"--prove relearn={proof.rows}; {n_forget} forget rows are trained on"
            raise UserError("There are too few forget rows to relearn on.", detail, f"relearn={n_forget} at most")


def proof_step(
    proof: Proof, repaired: Step, rows: RowSteps, config: RepairConfig, compute: Compute, base_name: str, *, chats: bool
) -> Step:
    """The step that changes the repaired model as the proof asks.

    Relearning moves all weights for one pass, whatever the repair trained: what comes back with the least effort that
    somebody may spend is asked, not what comes back through the same adapters.
    """
    label = f"prove: {proof.name}"
    chosen: dict[str, Any]
    if proof.kind != "relearn":
        from pyrite.repair.quantise import QUANTISE

        chosen = {"to": proof.kind, "base_name": base_name}
        return Step(QUANTISE, chosen, {"base": repaired}, label=label)
    from pyrite.train.language import TRAIN_LANGUAGE

    settings = TrainSettings(
        method="full", batch_size=4, learning_rate=config.relearn_rate, weight_decay=0, max_tokens=config.max_tokens
    )
    chosen = {
        "trains": "chat" if chats and config.part != "all" else "text",
        "rows_file": "forget.jsonl",
        "first": proof.rows,
        "settings": settings.model_dump(mode="json"),
        "pack_tokens": config.pack_tokens,
        "compute": compute.as_config(),
        "seed": config.seed,
        "base_name": base_name,
        **for_step(parse_template_kwargs(config.chat_template_kwargs)),
    }
    return Step(TRAIN_LANGUAGE, chosen, {"base": repaired, "rows": rows.of("forget")}, label=label)
