"""Which task does a `--task` name: one of labels, texts, perplexity, or a harness's?"""

from pyrite.errors import UserError
from pyrite.io import with_split
from pyrite.probe import benchmark, generative, perplexity
from pyrite.probe.config import ProbeConfig
from pyrite.probe.labels import label_task
from pyrite.probe.probe_task import ProbeTask
from pyrite.tasks.generative_tasks import GENERATIVE


def parse_task(text: str, config: ProbeConfig) -> ProbeTask:
    """What does a `--task` name?"""
    name, _, where = text.partition("=")
    if name in GENERATIVE and where:
        return generative.GenerativeProbe(name, where, config)
    if name == "perplexity" and where:
        return perplexity.Perplexity(with_split(where, config.split), config)
    if config.skip:
        fix = f"give it with {', '.join(GENERATIVE)} or perplexity only"
        raise UserError("--skip does not apply to this task.", f"{text}, --skip {config.skip}", fix)
    if name.startswith(benchmark.PREFIX):
        return benchmark.Benchmark(text, config)
    return label_task(text, config)
