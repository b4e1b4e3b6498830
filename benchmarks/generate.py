"""Is Pyrite as fast at writing text as it should be? Against `model.generate` and transformers' continuous batching.

    python benchmarks/generate.py [--quick] [--json] [--data FOLDER]

Greedy answers to IFEval prompts, and sampled NLI examples. Only tokens before the end marker count, on every side. Arms
run in turn (A B, A B, ...) after a warm-up; ratios are medians over the rounds.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import data
import peers
import timing
from pyrite.models.load import load_tokenizer, plain_loading, quiet_libraries
from pyrite.models.packaged import folder_of
from pyrite.tasks.prompts import NLI_FIELDS
from timing import say

BATCH = 40
"""Prompts in a batch of `model.generate`."""
PAGE = 32
CONTINUOUS: dict[str, tuple[str, dict[str, Any]]] = {
    "eager, sized cache": ("eager", {"page_size": PAGE, "max_batch_tokens": 1024}),
    "sdpa, sized cache": ("sdpa", {"page_size": PAGE, "max_batch_tokens": 1024}),
    "sdpa, sized cache, 256 tokens": ("sdpa", {"page_size": PAGE, "max_batch_tokens": 256}),
    "eager, defaults": ("eager", {}),
    "sdpa, defaults": ("sdpa", {}),
}
"""Settings of continuous batching to try: the attention (all that it has on a CPU; `eager` becomes `paged|eager`) and
its cache. Left to itself the cache takes six tenths of the free memory; one sized for the prompts is much faster."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    prompts: int = 160
    max_new: int = 220
    rounds: int = 3
    continuous: int = 40  # prompts for continuous batching, which is slow on a CPU
    continuous_rounds: int = 1
    continuous_tried: tuple[str, ...] = tuple(CONTINUOUS)
    continuous_few: int = 16  # prompts on which they are tried
    samples: int = 1000
    sample_batch: int = 96  # `sampling.batch_size` of a synth recipe
    sample_batches: tuple[int, ...] = (48, 96, 192)  # tried for `model.generate`
    sample_max_new: int = 96
    sample_rounds: int = 3
    shots: int = 4
    temperature: float = 1.0  # a synth recipe's defaults
    top_p: float = 1.0
    warm: int = 4


QUICK = Plan(
    prompts=6,
    max_new=16,
    rounds=2,
    continuous=4,
    continuous_tried=("eager, sized cache",),
    continuous_few=2,
    samples=9,
    sample_batch=9,
    sample_batches=(9,),
    sample_max_new=24,
    sample_rounds=2,
    warm=2,
)


# ===== OURS: the only calls of our engine; keep each arm in one function ==============================================


def ours_greedy(model: Any, prompts: Sequence[Sequence[int]], *, max_new: int, ends: Sequence[int]) -> list[list[int]]:
    """Our greedy answers, token ids without the end marker, in the prompts' order. `model` has its dtype already."""
    from pyrite.models.generate import generate

    made = dict(generate(model, prompts, max_new_tokens=max_new, end_ids=ends))
    return [made[at].ids for at in range(len(prompts))]


def ours_sampled(
    model: Any,
    jobs: Sequence[tuple[Sequence[int], int]],
    *,
    max_new: int,
    temperature: float,
    top_p: float,
    ends: Sequence[int],
    breaks: Sequence[int],
    lines: int,
    seed: int,
) -> list[list[int]]:
    """Our sampled texts, token ids without what ended them. A job is a prompt and how many texts it gets."""
    from pyrite.models.generate import generate
    from pyrite.models.sampling import Drawing

    prompts = [prompt for prompt, count in jobs for _ in range(count)]
    at_break = set(breaks)

    def last_line(_: int, ids: list[int]) -> bool:
        return ids[-1] in at_break and sum(token in at_break for token in ids) >= lines

    made = dict(
        generate(
            model,
            prompts,
            max_new_tokens=max_new,
            end_ids=ends,
            drawing=Drawing(temperature, top_p, logprobs=True),  # as a synth recipe asks
            seeds=[[seed, at] for at in range(len(prompts))],
            ended=last_line if lines else None,
        )
    )
    return [peers.sampled_part(made[at].ids, ends, breaks, lines) for at in range(len(prompts))]


# ===== end of OURS ====================================================================================================


def load(dtype: Any) -> Any:
    """The packaged chat model with weights of one dtype."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_pretrained(folder_of(data.MODEL), **plain_loading(dtype)).eval().to(device)


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer."""
    named = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None})


def greedy(folder: Any, plan: Plan, dtype_name: str) -> dict[str, Any]:
    """Ours against `model.generate` at one dtype: rates, their ratio, and how many texts are the same."""
    import torch

    tokenizer, model = load_tokenizer(folder_of(data.MODEL)), load(getattr(torch, dtype_name))
    texts, source = data.ifeval_prompts(folder, plan.prompts)
    prompts = [data.chat_ids(tokenizer, text) for text in texts]
    ends, pad = end_ids(model, tokenizer), tokenizer.pad_token_id
    say(f"greedy, {dtype_name}: {source}, up to {plan.max_new} tokens")

    def arms(some: Sequence[Sequence[int]], max_new: int) -> dict[str, Callable[[], Any]]:
        return {
            "ours": lambda: ours_greedy(model, some, max_new=max_new, ends=ends),
            "generate": lambda: peers.generate_greedy(model, some, batch=BATCH, max_new=max_new, ends=ends, pad=pad),
        }

    warm_up = arms(data.spread(prompts, plan.warm), min(8, plan.max_new))
    timed = timing.alternate(arms(prompts, plan.max_new), rounds=plan.rounds, warm_up=warm_up)
    return {
        "source": source,
        "prompt_tokens": sum(len(prompt) for prompt in prompts),
        **compared(timed),
        **same_texts(timed["ours"].last, timed["generate"].last),
    }


def continuous(folder: Any, plan: Plan, dtype_name: str = "bfloat16") -> dict[str, Any]:
    """Transformers' continuous batching beside `model.generate` and ours, on fewer prompts; its error where it fails."""
    import torch
    import transformers

    tokenizer = load_tokenizer(folder_of(data.MODEL))
    texts, _ = data.ifeval_prompts(folder, plan.continuous)
    prompts = [data.chat_ids(tokenizer, text) for text in texts]
    model = load(getattr(torch, dtype_name))
    ends, pad = end_ids(model, tokenizer), tokenizer.pad_token_id
    pages = sum(-(-(len(prompt) + plan.max_new) // PAGE) + 1 for prompt in prompts)
    found: dict[str, Any] = {"prompts": len(prompts), "dtype": dtype_name, "tried": {}}
    best, rate = "", 0.0
    few = prompts[: plan.continuous_few]
    for key in plan.continuous_tried:
        attention, settings = CONTINUOUS[key]
        try:
            other = load(getattr(torch, dtype_name))
            other.set_attn_implementation(attention)
            call = continuous_call(other, few, min(16, plan.max_new), ends, pad, settings, pages)
            seconds, answers = timing.seconds_of(call)
            here = tokens(answers) / seconds
            found["tried"][key] = {"tokens_per_s": here}
            say(f"  continuous batching, {key}: {here:.1f} tokens/s")
            best, rate = (key, here) if here > rate else (best, rate)
        except Exception as error:  # whatever it fails with is the arm's result
            found["tried"][key] = {"error": f"{type(error).__name__}: {error}"}
            say(f"  continuous batching, {key}: {type(error).__name__}: {error}")
    if not best:
        return {**found, "error": f"transformers {transformers.__version__} failed in every setting, see tried"}
    attention, settings = CONTINUOUS[best]
    other = load(getattr(torch, dtype_name))
    other.set_attn_implementation(attention)
    arms = {
        "ours": lambda: ours_greedy(model, prompts, max_new=plan.max_new, ends=ends),
        "generate": lambda: peers.generate_greedy(
            model, prompts, batch=BATCH, max_new=plan.max_new, ends=ends, pad=pad
        ),
        "continuous": continuous_call(other, prompts, plan.max_new, ends, pad, settings, pages),
    }
    nothing: dict[str, Callable[[], Any]] = {key: lambda: None for key in arms}
    try:
        timed = timing.alternate(arms, rounds=plan.continuous_rounds, warm_up=nothing)
    except Exception as error:
        return {**found, "setting": best, "error": f"{type(error).__name__}: {error}"}
    return {
        **found,
        "setting": best,
        **compared(timed),
        "continuous_beside_generate": same_texts(timed["continuous"].last, timed["generate"].last),
    }


def continuous_call(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new: int,
    ends: Sequence[int],
    pad: int,
    settings: dict[str, Any],
    pages: int,
) -> Callable[[], Any]:
    """A call of continuous batching; where a setting sizes the cache, it gets the pages that all prompts need."""
    sized = {**settings, "num_blocks": pages} if settings else {}
    return lambda: peers.generate_continuous(model, prompts, max_new=max_new, ends=ends, pad=pad, **sized)


def sampled(folder: Any, plan: Plan, dtype_name: str = "bfloat16") -> dict[str, Any]:
    """Sampled NLI examples: ours against batches that run until their last text is done."""
    import torch

    tokenizer, model = load_tokenizer(folder_of(data.MODEL)), load(getattr(torch, dtype_name))
    ends, pad = end_ids(model, tokenizer), tokenizer.pad_token_id
    breaks = [at for at in range(len(tokenizer)) if "\n" in tokenizer.decode([at])]
    shared: dict[str, Any] = {
        "max_new": plan.sample_max_new,
        "temperature": plan.temperature,
        "top_p": plan.top_p,
        "ends": ends,
        "breaks": breaks,
        "lines": len(NLI_FIELDS),
    }

    def jobs_of(total: int, batch: int) -> list[Any]:
        return data.sample_jobs(folder, tokenizer, total, shots=plan.shots, batch=batch)[0]

    _, source = data.sample_jobs(folder, tokenizer, plan.samples, shots=plan.shots, batch=plan.sample_batch)
    say(f"sampling, {dtype_name}: {source}")
    best = plan.sample_batch
    tried: dict[str, float] = {}
    if len(plan.sample_batches) > 1:
        # As many texts under one prompt as the largest batch, at every size: only the size differs.
        prompt, most = jobs_of(plan.samples, plan.samples)[0][0], max(plan.sample_batches)

        def attempt(size: int) -> Callable[[], Any]:
            split = [(prompt, size)] * (most // size)
            return lambda: peers.generate_sampled(model, split, pad=pad, seed=0, **shared)

        choice, tried = timing.fastest("generate batch", {str(size): attempt(size) for size in plan.sample_batches})
        best = int(choice)
    ours_jobs = jobs_of(plan.samples, plan.sample_batch)
    # The peer's own best batch size, with the same texts asked for under each of our prompts.
    peer_jobs = [
        (prompt, min(best, count - first)) for prompt, count in ours_jobs for first in range(0, count, best)
    ] if best < plan.sample_batch else jobs_of(plan.samples, best)  # fmt: skip

    def arms(mine: Any, theirs: Any) -> dict[str, Callable[[], Any]]:
        return {
            "ours": lambda: ours_sampled(model, mine, seed=0, **shared),
            "generate": lambda: peers.generate_sampled(model, theirs, pad=pad, seed=0, **shared),
        }

    few = [(ours_jobs[0][0], plan.warm)]
    timed = timing.alternate(arms(ours_jobs, peer_jobs), rounds=plan.sample_rounds, warm_up=arms(few, few))
    return {
        "source": source,
        "dtype": dtype_name,
        "settings": {name: value for name, value in shared.items() if name != "breaks"},
        "batch": {"ours": plan.sample_batch, "generate": best},
        "batch_seconds": tried,
        **compared(timed),
        "mean_tokens": {name: tokens(arm.last) / len(arm.last) for name, arm in timed.items()},
    }


def tokens(answers: Sequence[Sequence[int]]) -> int:
    """Tokens before the end markers."""
    return sum(len(answer) for answer in answers)


def compared(timed: dict[str, timing.Timed]) -> dict[str, Any]:
    """Tokens per second of each arm and round, and the ratios of ours to the others within rounds."""
    rates = {
        name: [tokens(answers) / seconds for answers, seconds in zip(arm.results, arm.seconds, strict=True)]
        for name, arm in timed.items()
    }
    return {
        "tokens_per_s": rates,
        "seconds": {name: arm.seconds for name, arm in timed.items()},
        "tokens": {name: tokens(arm.last) for name, arm in timed.items()},
        "ratio": {name: timing.ratio(rates["ours"], rates[name]) for name in timed if name != "ours"},
    }


def same_texts(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How many texts differ in any token, and which."""
    other = [at for at, (mine, their) in enumerate(zip(ours, theirs, strict=True)) if list(mine) != list(their)]
    return {
        "texts": len(ours),
        "texts_differing": len(other),
        "share_differing": len(other) / len(ours),
        "which": other,
    }


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    lines = [f"generate: {found['data']}; {found['machine']['cpu']}, {found['machine']['threads']} threads"]
    for name in ("float32", "bfloat16"):
        part = found["greedy"][name]
        for peer, ratio in part["ratio"].items():
            lines.append(f"greedy {name:<9} ours / {peer}: {timing.shown(ratio)}; {middle(part)}")
        lines.append(f"greedy {name:<9} {part['texts_differing']} of {part['texts']} texts differ")
    part = found["continuous"]
    for key, tried in part["tried"].items():
        told = (
            tried.get("error") or f"{tried['tokens_per_s']:.1f} tokens/s on {found['plan']['continuous_few']} prompts"
        )
        lines.append(f"continuous batching, {key}: {told}")
    if "error" in part:
        lines.append(f"continuous batching: {part['error']}")
    else:
        told = f"{timing.shown(part['ratio']['continuous'])}; {middle(part)}"
        lines.append(f"ours / continuous batching ({part['setting']}; {part['prompts']} prompts): {told}")
    part = found["sample"]
    lines.append(
        f"sampling ours / generate: {timing.shown(part['ratio']['generate'])}; {middle(part)}; {part['source']}"
    )
    return lines


def middle(part: dict[str, Any]) -> str:
    """Each arm's median rate in words."""
    rates = {name: sorted(each)[len(each) // 2] for name, each in part["tokens_per_s"].items()}
    return ", ".join(f"{name} {rate:,.1f} tokens/s" for name, rate in rates.items())


def main() -> None:
    """Parse, measure, print."""
    parser = timing.parser(__doc__, quick="few prompts and rounds: under a minute")
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    if given.rounds:
        plan = Plan(**{**vars(plan), "rounds": given.rounds, "sample_rounds": given.rounds})
    quiet_libraries()
    folder = data.data_folder(given.data)
    machine = timing.machine()
    greedy_parts = {name: greedy(folder, plan, name) for name in ("float32", "bfloat16")}
    sample_part = sampled(folder, plan)
    found = {
        "ratio_generate": greedy_parts["bfloat16"]["ratio"]["generate"]["median"],
        "ratio_generate_fp32": greedy_parts["float32"]["ratio"]["generate"]["median"],
        "ratio_sample": sample_part["ratio"]["generate"]["median"],
        "quick": given.quick,
        "plan": vars(plan),
        "data": greedy_parts["float32"]["source"],
        "model": data.MODEL,
        "machine": machine,
        "greedy": greedy_parts,
        "continuous": continuous(folder, plan),
        "sample": sample_part,
    }
    timing.write_out(found, summary(found), as_json=given.json)


if __name__ == "__main__":
    main()
