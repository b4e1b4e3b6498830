"""Is int8 on a CPU worth its rounding? Reading and writing with int8 layers against our own fp32, and bf16 beside them.

    python benchmarks/int8.py [--quick] [--json] [--data FOLDER] [--threads N]

The same engine, weights and inputs; arms run in turn (A B C, A B C, ...) after a warm-up, ratios are medians over the
rounds. `ratio_int8` is the smallest of reading label words, reading pairs with an encoder, and writing. A processor
without VNNI has no int8 here: the benchmark then says so and ends. ONEDNN_MAX_CPU_ISA=AVX2_VNNI stands in for a plain
machine that has it. Rounding a model's weights, once for each load, is timed apart.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

import data
import timing
from generate import compared, end_ids, middle, ours_greedy, same_texts
from pyrite.models.hardware import Compute
from pyrite.models.load import for_generation, load_causal, load_classifier, load_tokenizer, quiet_libraries
from pyrite.models.packaged import folder_of
from pyrite.records import Labelled
from pyrite.tasks.nli import LABELS
from pyrite.train.classifier_rows import encode_classifier_rows
from score import differing, ours_words
from timing import say

FP32, INT8 = Compute("cpu", "fp32"), Compute("cpu", "int8")


@dataclass(frozen=True)
class Plan:
    """How much is measured: pairs of each of the two sources, prompts, tokens of an answer, rounds."""

    each: int = 300
    classifier_each: int = 1000
    prompts: int = 80
    max_new: int = 120
    rounds: int = 5


QUICK = Plan(each=24, classifier_each=64, prompts=16, max_new=24, rounds=3)


def arms_of(load: Callable[[], Any]) -> tuple[dict[str, Any], float]:
    """The model in each precision, and the seconds that rounding its weights took."""
    import torch

    models = {"fp32": load()}
    if has_bf16():
        models["bf16"] = load().to(torch.bfloat16)
    fresh = load()
    seconds, (models["int8"], _) = timing.seconds_of(lambda: for_generation(fresh, INT8))
    return models, seconds


def has_bf16() -> bool:
    """Does this processor multiply bf16 natively, as far as oneDNN is allowed to?"""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def words(pairs: data.Pairs, plan: Plan) -> dict[str, Any]:
    """Label words after prompts, by the packaged language model."""
    folder = folder_of(data.MODEL)
    tokenizer = load_tokenizer(folder)
    models, seconds = arms_of(lambda: load_causal(folder, FP32))
    prompts = data.Pairs(data.spread(pairs.rows, 2 * plan.each), pairs.source).prompts()
    say(f"label words: {len(prompts)} pairs")

    def calls(some: list[str]) -> dict[str, Callable[[], Any]]:
        return {
            name: lambda model=model: ours_words((model, FP32), tokenizer, some)[0] for name, model in models.items()
        }

    timed = timing.alternate(calls(prompts), rounds=plan.rounds, warm_up=calls(data.spread(prompts, 8)))
    return {**judged(timed), "pairs": len(prompts), "seconds_to_round": seconds}


def encoder(pairs: data.Pairs, plan: Plan) -> dict[str, Any]:
    """Pairs by the packaged encoder with a head from a seed: its labels mean nothing, its margins are small."""
    from pyrite.models.score import class_logits

    folder = folder_of(data.ENCODER)
    tokenizer = load_tokenizer(folder)
    rows = [Labelled(row, None, str(at)) for at, row in enumerate(data.spread(pairs.rows, 2 * plan.classifier_each))]
    ids = encode_classifier_rows(tokenizer, rows, LABELS, "pair", 256).ids
    models, seconds = arms_of(lambda: load_classifier(folder, LABELS, FP32, seed=0)[0])
    say(f"encoder: {len(rows)} pairs")

    def read(model: Any, some: Any) -> Any:
        settings = {"order": range(len(LABELS)), "pad_id": tokenizer.pad_token_id, "compute": FP32}
        return class_logits(model, some, **settings, report_progress=lambda *_: None)[0]

    def calls(some: Any) -> dict[str, Callable[[], Any]]:
        return {name: lambda model=model: read(model, some) for name, model in models.items()}

    timed = timing.alternate(calls(ids), rounds=plan.rounds, warm_up=calls(data.spread(ids, 32)))
    return {**judged(timed), "pairs": len(rows), "seconds_to_round": seconds}


def judged(timed: dict[str, timing.Timed]) -> dict[str, Any]:
    """Ratios of seconds to fp32's, and which labels differ from fp32's."""
    others = [name for name in timed if name != "fp32"]
    sure = np.asarray(timed["fp32"].last)
    return {
        "ratio": {name: timing.ratio(timed["fp32"].seconds, timed[name].seconds) for name in others},
        "seconds": {name: arm.seconds for name, arm in timed.items()},
        "differing": {name: differing(sure, np.asarray(timed[name].last)) for name in others},
    }


def writing(folder: Any, plan: Plan) -> dict[str, Any]:
    """Greedy answers by the packaged language model."""
    model_folder = folder_of(data.MODEL)
    tokenizer = load_tokenizer(model_folder)
    models, seconds = arms_of(lambda: load_causal(model_folder, FP32))
    texts, source = data.ifeval_prompts(folder, plan.prompts)
    prompts = [data.chat_ids(tokenizer, text) for text in texts]
    ends = end_ids(models["fp32"], tokenizer)
    say(f"writing: {source}, up to {plan.max_new} tokens")

    def calls(some: Any, max_new: int) -> dict[str, Callable[[], Any]]:
        return {
            name: lambda model=model: ours_greedy(model, some, max_new=max_new, ends=ends)
            for name, model in models.items()
        }

    timed = timing.alternate(calls(prompts, plan.max_new), rounds=plan.rounds, warm_up=calls(prompts[:4], 8))
    rates = compared({"ours": timed["fp32"], **timed})
    others = [name for name in timed if name != "fp32"]
    return {
        "source": source,
        "tokens_per_s": {name: rates["tokens_per_s"][name] for name in timed},
        "ratio": {
            name: timing.ratio(rates["tokens_per_s"][name], rates["tokens_per_s"]["fp32"]) for name in others
        },
        "texts": {name: same_texts(timed["fp32"].last, timed[name].last) for name in others},
        "seconds_to_round": seconds,
    }  # fmt: skip


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    machine = found["machine"]
    isa = f", {found['isa']} only" if found["isa"] else ""
    lines = [f"int8: {found['data']}; {machine['cpu']}, {machine['threads']} threads{isa}"]
    for part in ("label_words", "encoder"):
        for name, ratio in found[part]["ratio"].items():
            other = found[part]["differing"][name]
            lines.append(
                f"{part:<12} {name} / fp32: {timing.shown(ratio)}; {other['items']} of {other['of']} labels differ"
            )
    for name, ratio in found["writing"]["ratio"].items():
        other = found["writing"]["texts"][name]
        lines.append(
            f"{'writing':<12} {name} / fp32: {timing.shown(ratio)}; {other['texts_differing']} of {other['texts']} texts differ"
        )
    return [*lines, f"writing      {middle(found['writing'])}"]  # fmt: skip


def main() -> None:
    """Parse, measure, print."""
    parser = timing.parser(__doc__, quick="few pairs and prompts")
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    parser.add_argument("--threads", type=int, help="threads of every arm [all cores]")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    if given.rounds:
        plan = Plan(**{**vars(plan), "rounds": given.rounds})
    import torch

    from pyrite.models.int8 import is_supported

    if not is_supported():
        told = "this processor does not multiply whole numbers natively (VNNI)"
        timing.write_out({"skipped": told}, [f"int8: skipped, {told}"], as_json=given.json)
        return
    if given.threads:
        torch.set_num_threads(given.threads)
    quiet_libraries()
    folder = data.data_folder(given.data)
    pairs = data.nli_pairs(folder, max(plan.each, plan.classifier_each))
    machine = timing.machine()
    parts = {"label_words": words(pairs, plan), "encoder": encoder(pairs, plan), "writing": writing(folder, plan)}
    ratios = {name: part["ratio"]["int8"]["median"] for name, part in parts.items()}
    found = {
        "ratio_int8": min(ratios.values()),
        **{f"ratio_int8_{name}": ratio for name, ratio in ratios.items()},
        **{f"ratio_bf16_{name}": part["ratio"]["bf16"]["median"] for name, part in parts.items() if "bf16" in part["ratio"]},
        "quick": given.quick,
        "plan": vars(plan),
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "data": pairs.source,
        "machine": machine,
        **parts,
    }  # fmt: skip
    timing.write_out(found, summary(found), as_json=given.json)


if __name__ == "__main__":
    main()
