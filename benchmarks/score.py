"""Is Pyrite as fast at scoring as it should be? Against lm-evaluation-harness, plain transformers and `Trainer.predict`.

    python benchmarks/score.py [--quick] [--json] [--data FOLDER]

The same model reads the same prompts on every side, text in, labels out; arms run in turn (A B C, A B C, ...) after a
warm-up, and ratios are medians over the rounds. First all have bf16 weights, then each has its own default dtype.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

import data
import matmul
import peers
import timing
from pyrite.models.hardware import choose
from pyrite.models.load import load_causal, load_classifier, load_tokenizer, quiet_libraries
from pyrite.models.packaged import folder_of
from pyrite.records import Labelled
from pyrite.tasks.nli import LABELS
from pyrite.tasks.prompts import NLI_FIELDS
from pyrite.train.classifier_rows import encode_classifier_rows
from timing import say

WORDS = [f" {label}" for label in LABELS]


@dataclass(frozen=True)
class Plan:
    """How much is measured: pairs of each of the two sources, rounds, and pairs on which settings are tried."""

    each: int = 2000
    rounds: int = 3
    tried: int = 24
    classifier_each: int = 2000
    lm_eval_batches: tuple[int | str, ...] = peers.LM_EVAL_BATCHES
    trainer_batches: tuple[int, ...] = peers.TRAINER_BATCHES


QUICK = Plan(each=8, rounds=2, tried=4, classifier_each=32, lm_eval_batches=(4,), trainer_batches=(8,))


# ===== OURS: the only calls of our engine; keep each arm in one function ==============================================


def ours_load(folder: Any, precision: str) -> Any:
    """Our engine, ready to score: whatever `ours_words` takes. `precision`: fp32, bf16 (weights) or auto."""
    import torch

    from pyrite.models.hardware import Compute
    from pyrite.models.load import for_generation

    compute = choose("auto")
    if precision == "auto":
        return for_generation(load_causal(folder, compute), compute)
    model = load_causal(folder, Compute(compute.device, "fp32"))
    return (model.to(torch.bfloat16) if precision == "bf16" else model), Compute(compute.device, "fp32")


def ours_words(engine: Any, tokenizer: Any, prompts: Sequence[str]) -> tuple[np.ndarray[Any, Any], matmul.Work]:
    """Our score of each label word after each prompt [prompts, labels], and what was computed for it.

    The score is the word's log-probability less a constant of the row.
    """
    from pyrite.models.score import label_word_logits

    model, compute = engine
    ids = tokenizer(list(prompts))["input_ids"]
    words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    with compute.autocast():
        scores, work = label_word_logits(model, ids, words, report_progress=lambda *_: None)
    return scores, matmul.Work(work.computed, work.scored, work.head)


def ours_classes(
    model: Any, order: Sequence[int], tokenizer: Any, ids: Sequence[Sequence[int]], precision: str
) -> np.ndarray[Any, Any]:
    """Our classifier's logits [rows, labels]. `precision`: bf16 (weights, the model is bf16 then) or auto."""
    from pyrite.models.hardware import Compute
    from pyrite.models.score import class_logits

    compute = Compute(choose("auto").device, "fp32") if precision == "bf16" else choose("auto")
    pad = tokenizer.pad_token_id
    return class_logits(model, ids, order=order, pad_id=pad, compute=compute, report_progress=lambda *_: None)[0]


# ===== end of OURS ====================================================================================================


def label_words(pairs: data.Pairs, plan: Plan) -> dict[str, Any]:
    """The three language-model arms, at one dtype and then at their defaults, and the share of the matrix speed."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = folder_of(data.MODEL)
    tokenizer = load_tokenizer(folder)
    prompts = pairs.prompts()
    few = data.spread(prompts, plan.tried)
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    found: dict[str, Any] = {
        "pairs": len(prompts),
        "different_prompts": len(set(prompts)),
        "prompt_tokens": sum(lengths),
        "word_tokens": {word: len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in WORDS},
    }
    engine: Any = None
    for setting, lm_dtype, plain_dtype, precision in (
        ("same_dtype", "bfloat16", torch.bfloat16, "bf16"),
        ("default_dtype", "auto", torch.float32, "auto"),
    ):
        say(f"label words, {setting}: {len(prompts)} pairs")
        engine = ours_load(folder, precision)
        lm = peers.lm_eval_model(str(folder), lm_dtype)
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=plain_dtype).eval().to(lm.device)
        batch, batch_seconds = timing.fastest("lm-eval batch", lm_eval_choices(lm, few, plan.lm_eval_batches))
        size: int | str = batch if batch == "auto" else int(batch)
        how, how_seconds = timing.fastest("plain", plain_choices(plain, tokenizer, few))

        def arms(texts: list[str], engine: Any = engine, lm: Any = lm, plain: Any = plain, size: Any = size, how: str = how) -> dict[str, Callable[[], Any]]:  # fmt: skip
            return {
                "ours": lambda: ours_words(engine, tokenizer, texts),
                "lm_eval": lambda: peers.lm_eval_scores(lm, texts, WORDS, size),
                "plain": lambda: peers.plain_scores(plain, tokenizer, texts, WORDS, how),
            }

        timed = timing.alternate(arms(prompts), rounds=plan.rounds, warm_up=arms(few))
        scores = {name: arm.last[0] if name == "ours" else arm.last for name, arm in timed.items()}
        found[setting] = {
            "dtype": {
                "ours": str(next(engine[0].parameters()).dtype),
                "lm_eval": str(lm.model.dtype),
                "plain": str(plain.dtype),
            },
            "lm_eval_batch": size,
            "lm_eval_batch_seconds": batch_seconds,
            "plain_how": how,
            "plain_how_seconds": how_seconds,
            **compared(timed, scores, sum(lengths)),
        }
        if setting == "same_dtype":
            work = timed["ours"].last[1]
            found["matmul"] = share_of_matmul(engine[0], work, min(timed["ours"].seconds))
        else:
            # The peers' defaults are fp32 here: ours in fp32, untimed, must then say the same.
            exact = (
                scores["ours"] if precision == "fp32" else ours_words(ours_load(folder, "fp32"), tokenizer, prompts)[0]
            )
            for name in ("lm_eval", "plain"):
                found[f"differing_fp32_{name}"] = differing(exact, scores[name])
    return found


def lm_eval_choices(lm: Any, prompts: list[str], sizes: Sequence[int | str]) -> dict[str, Callable[[], Any]]:
    """lm-eval at each batch size."""
    return {str(size): lambda size=size: peers.lm_eval_scores(lm, prompts, WORDS, size) for size in sizes}


def plain_choices(model: Any, tokenizer: Any, prompts: list[str]) -> dict[str, Callable[[], Any]]:
    """The plain loop in each of its ways."""
    return {how: lambda how=how: peers.plain_scores(model, tokenizer, prompts, WORDS, how) for how in peers.PLAIN}


def compared(timed: dict[str, timing.Timed], scores: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Ratios against ours, tokens per second, and differing labels. Tokens are the prompts', the same for all arms."""
    others = [name for name in timed if name != "ours"]
    return {
        "ratio": {name: timing.ratio(timed[name].seconds, timed["ours"].seconds) for name in others},
        "seconds": {name: arm.seconds for name, arm in timed.items()},
        "tokens_per_s": {name: tokens / float(np.median(arm.seconds)) for name, arm in timed.items()},
        "differing": {name: differing(scores["ours"], scores[name]) for name in others},
    }


def differing(ours: Any, theirs: Any) -> dict[str, float]:
    """On how many items do two arms name another label, and how far apart are their scores?

    Scores are compared less the row's largest: ours leave out what is the same for every label of a row.
    `margin` is the largest distance between first and second label, by our scores, among the differing items: small
    where only near-ties differ.
    """
    other = ours.argmax(1) != theirs.argmax(1)
    ordered = np.sort(ours, axis=1)
    margin = (ordered[:, -1] - ordered[:, -2])[other]
    return {
        "items": int(other.sum()),
        "of": len(other),
        "margin": float(margin.max()) if len(margin) else 0.0,
        "largest_score_difference": float(
            np.abs(ours - ours.max(1, keepdims=True) - theirs + theirs.max(1, keepdims=True)).max()
        ),
    }


def share_of_matmul(model: Any, work: matmul.Work, seconds: float) -> dict[str, Any]:
    """Our FLOPs per second over the best product's. Our fastest round: both sides are the best that was seen."""
    say("the best bf16 product at the model's shapes")
    parts = matmul.flops(model, work)
    best = matmul.best_speed(model, work)
    speed = sum(parts.values()) / seconds
    return {
        "share": speed / best["flops_per_s"],
        "share_of_square": speed / best["square_flops_per_s"],
        "ours_flops_per_s": speed,
        "flops": parts,
        "tokens_computed": work.tokens,
        "best": best,
    }


def classifier(pairs: data.Pairs, plan: Plan) -> dict[str, Any]:
    """MiniLM with a three-label head from a seed: ours against `Trainer.predict`, bf16 weights and then defaults.

    Both sides get token ids and no token types; tokenising is left out of both.
    """
    import torch

    folder = folder_of(data.ENCODER)
    tokenizer = load_tokenizer(folder)
    rows = [Labelled(row, None, str(at)) for at, row in enumerate(data.spread(pairs.rows, 2 * plan.classifier_each))]
    ids = encode_classifier_rows(tokenizer, rows, LABELS, "pair", 256).ids  # without segments, on both sides
    few = data.spread(ids, max(64, len(ids) // 8))
    found: dict[str, Any] = {"pairs": len(rows), "fields": NLI_FIELDS, "tokens": sum(len(row) for row in ids)}
    with tempfile.TemporaryDirectory() as scratch:
        for setting, bf16 in (("same_dtype", True), ("default_dtype", False)):
            say(f"classifier, {setting}: {len(rows)} pairs")
            mine, order = load_classifier(folder, LABELS, choose("auto"), seed=0)
            mine = mine.to(torch.bfloat16) if bf16 else mine
            theirs, _ = load_classifier(folder, LABELS, choose("auto"), seed=0)

            def predict(batch: int, some: Any, model: Any = theirs, bf16: bool = bf16) -> Any:
                return peers.trainer_logits(model, tokenizer, some, batch=batch, bf16=bf16, folder=scratch)

            choices = {str(size): lambda size=size: predict(size, few) for size in plan.trainer_batches}
            best, seconds = timing.fastest("Trainer batch", choices)

            def arms(some: Any, best: str = best, mine: Any = mine, order: Any = order, bf16: bool = bf16, predict: Any = predict) -> dict[str, Callable[[], Any]]:  # fmt: skip
                return {
                    "ours": lambda: ours_classes(mine, order, tokenizer, some, "bf16" if bf16 else "auto"),
                    "trainer_best": lambda: predict(int(best), some),
                    "trainer_default": lambda: predict(peers.TRAINER_DEFAULT_BATCH, some),
                }

            timed = timing.alternate(arms(ids), rounds=plan.rounds, warm_up=arms(few))
            found[setting] = {
                "trainer_batch": int(best),
                "trainer_batch_seconds": seconds,
                **compared(timed, {name: arm.last for name, arm in timed.items()}, found["tokens"]),
            }
    return found


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    words, heads = found["label_words"], found["classifier"]
    lines = [f"score: {found['data']}; {found['machine']['cpu']}, {found['machine']['threads']} threads"]
    for setting in ("same_dtype", "default_dtype"):
        for part in (words, heads):
            rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in part[setting]["tokens_per_s"].items())
            lines.append(f"{setting:<14} tokens/s: {rates}")
            for name, ratio in part[setting]["ratio"].items():
                other = part[setting]["differing"][name]
                tail = f"{other['items']} of {other['of']} labels differ (margin at most {other['margin']:.3g})"
                lines.append(f"{setting:<14} ours / {name:<16} {timing.shown(ratio)}; {tail}")
    for name in ("lm_eval", "plain"):
        other = words[f"differing_fp32_{name}"]
        lines.append(f"fp32 on both sides: {other['items']} of {other['of']} labels differ from {name}")
    share = words["matmul"]
    lines.append(
        f"matmul share {share['share']:.2f}: {share['ours_flops_per_s'] / 1e9:.0f} of "
        f"{share['best']['flops_per_s'] / 1e9:.0f} GFLOP/s at the model's shapes "
        f"(large square: {share['best']['square_flops_per_s'] / 1e9:.0f})"
    )
    return lines


def main() -> None:
    """Parse, measure, print."""
    parser = timing.parser(__doc__, quick="few pairs and rounds: under a minute")
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--pairs", type=int, help="pairs of each of the two sources")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    changed = {"each": given.pairs, "classifier_each": given.pairs, "rounds": given.rounds}
    plan = Plan(**{**vars(plan), **{name: value for name, value in changed.items() if value}})
    quiet_libraries()
    pairs = data.nli_pairs(data.data_folder(given.data), max(plan.each, plan.classifier_each))
    some = data.Pairs(data.spread(pairs.rows, 2 * plan.each), pairs.source)
    say(pairs.source)
    machine = timing.machine()
    words, heads = label_words(some, plan), classifier(pairs, plan)
    found = {
        "ratio_lm_eval": words["same_dtype"]["ratio"]["lm_eval"]["median"],
        "ratio_plain": words["same_dtype"]["ratio"]["plain"]["median"],
        "ratio_trainer_predict": heads["same_dtype"]["ratio"]["trainer_best"]["median"],
        "matmul_share": words["matmul"]["share"],
        "ratio_lm_eval_default_dtype": words["default_dtype"]["ratio"]["lm_eval"]["median"],
        "ratio_plain_default_dtype": words["default_dtype"]["ratio"]["plain"]["median"],
        "ratio_trainer_predict_default_dtype": heads["default_dtype"]["ratio"]["trainer_best"]["median"],
        "quick": given.quick,
        "data": pairs.source,
        "model": data.MODEL,
        "encoder": data.ENCODER,
        "machine": machine,
        "label_words": words,
        "classifier": heads,
    }
    timing.write_out(found, summary(found), as_json=given.json)


if __name__ == "__main__":
    main()
