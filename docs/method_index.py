"""The method index: every method with its paper, the file that holds it and a test that speaks of it.

Files are asked of the code; papers of the repair methods and of the statistics, too. The rest is listed here, and a row
whose file or test is not there, or whose test does not mention the method, stops the build of the docs.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyrite import stats
from pyrite.audit.flaws.registry import FLAWS
from pyrite.repair.methods import METHODS, Method

ROOT = Path(__file__).resolve().parents[1]
REPAIR_TESTS = ("test_losses.py", "test_methods.py", "test_repair_train.py", "test_repair_classifier.py")
STATISTICS = (
    ("wilson", "test_stats_intervals.py"),
    ("t_interval", "test_stats_intervals.py"),
    ("paired_t", "test_stats_paired.py"),
    ("tost", "test_stats_paired.py"),
    ("holm", "test_stats_verdict.py"),
    ("judge_family", "test_stats_verdict.py"),
    ("gap", "test_stats_paired.py"),
    ("crossed_bootstrap", "test_stats_bootstrap.py"),
    ("cluster_bootstrap", "test_stats_bootstrap.py"),
    ("mcnemar", "test_stats_paired.py"),
    ("wilson_difference", "test_stats_paired.py"),
    ("seeds_needed", "test_stats_power.py"),
    ("sd_from_pilot", "test_stats_power.py"),
    ("share_over_items", "test_stats_ratio.py"),
    ("share_over_seeds", "test_stats_ratio.py"),
)
CHEN = "Chen et al., arXiv 2406.12397 (the observation; the measure is ours)"
ARTIFACTS = "Gururangan et al., arXiv 1803.02324; McCoy et al., arXiv 1902.01007 (the observation; the measure is ours)"
DISTINCT = "Li et al., arXiv 1510.03055"
AUDIT_PAPERS = {
    "format": CHEN,
    "tokens": CHEN,
    "tokens.distance": "Jensen-Shannon divergence: Lin (1991)",
    "perplexity": CHEN,
    "perplexity.instruction_difficulty": "Li et al., arXiv 2308.12032",
    "embedding": CHEN,
    "embedding.classifier_auc": "Lopez-Paz and Oquab, arXiv 1610.06545",
    "embedding.mmd": "Gretton et al. (2012), JMLR 13:723",
    "embedding.coverage_loss": "Naeem et al., arXiv 2002.09797",
    "embedding.diversity_loss": "Friedman and Dieng, arXiv 2210.02410; Pasarkar and Dieng, arXiv 2310.12952",
    "duplicates.near": "MinHash; Dahlgaard et al., arXiv 1704.04370",
    "diversity.distinct_2": DISTINCT,
    "diversity.distinct_3": DISTINCT,
    "artifacts": ARTIFACTS,
    "artifacts.hypothesis_only": "Gururangan et al., arXiv 1803.02324; Poliak et al., arXiv 1805.01042",
    "contamination.ngram_13": "Brown et al., arXiv 2005.14165 (thirteen words)",
    "contamination.ngram_8": "Chowdhery et al., arXiv 2204.02311 (eight words)",
}
"""By measure, else by family; what is in neither is ours."""


class Row(NamedTuple):
    """A line of the index; `word` is what the test must mention."""

    method: str
    says: str
    paper: str
    file: str
    test: str
    word: str


TASKS = (
    Row("`hans`", "heuristics of NLI", "McCoy, Pavlick and Linzen, arXiv 1902.01007", "src/pyrite/tasks/nli.py", "tests/probe/test_probe_run.py", "hans"),
    Row("`heuristics`", "fresh pairs with HANS's subcases", "ours, after arXiv 1902.01007", "src/pyrite/tasks/grammar/heuristics.py", "tests/tasks/test_grammar_heuristics.py", "heuristics"),
    Row("`nli`", "MultiNLI, SNLI and the like", "Williams et al., arXiv 1704.05426; Bowman et al., arXiv 1508.05326", "src/pyrite/tasks/nli.py", "tests/probe/test_probe_run.py", "nli"),
    Row("`ifeval`", "instructions that a program can check", "Zhou et al., arXiv 2311.07911", "src/pyrite/tasks/ifeval.py", "tests/tasks/test_ifeval.py", "ifeval"),
    Row("`followbench`", "requirements that pile up", "Jiang et al., arXiv 2310.20410", "src/pyrite/tasks/followbench.py", "tests/tasks/test_followbench.py", "followbench"),
    Row("`mt_bench`", "two turns, rated by a judge", "Zheng et al., arXiv 2306.05685", "src/pyrite/tasks/mt_bench.py", "tests/tasks/test_mt_bench.py", "mt_bench"),
    Row("`gsm8k`", "sums of grade school", "Cobbe et al., arXiv 2110.14168", "src/pyrite/tasks/gsm8k.py", "tests/tasks/test_gsm8k.py", "gsm8k"),
    Row("`perplexity`", "how surprising texts are", "", "src/pyrite/models/perplexity.py", "tests/probe/test_probe_perplexity.py", "perplexity"),
    Row("`harness:NAME`", "tasks of lm-evaluation-harness", "Biderman et al., arXiv 2405.14782", "src/pyrite/probe/harness.py", "tests/probe/test_harness.py", "harness"),
)  # fmt: skip
OTHERS = (
    Row("half-samples", "how sure an audit's excess is", "Shao and Wu (1989), Annals of Statistics 17:1176", "src/pyrite/audit/baselines.py", "tests/audit/test_yardsticks.py", "error"),
    Row("permutation null", "what chance gives an audit", "Fisher (1935), The Design of Experiments", "src/pyrite/audit/baselines.py", "tests/audit/test_yardsticks.py", "null"),
    Row("`int8`, `nf4`", "does a repair outlast quantisation?", "Dettmers et al., arXiv 2208.07339, 2305.14314; the question: Zhang et al., arXiv 2410.16454", "src/pyrite/repair/quantise.py", "tests/repair/test_quantise.py", "nf4"),
    Row("`interpolate`", "the model between the one before and the harmed one (`repair --method`)", "Wortsman et al., arXiv 2109.01903; before and after a training: arXiv 2412.19512, 2604.01538", "src/pyrite/repair/weights.py", "tests/repair/test_repair_weights.py", "interpolation"),
    Row("`negate`", "minus what a model of the forget rows had learned (`repair --method`)", "Ilharco et al., arXiv 2212.04089", "src/pyrite/repair/weights.py", "tests/repair/test_repair_weights.py", "negation"),
    Row("replay in the model's own words", "replay prompts answered by the model before (`repair --replay self=FILE`)", "arXiv 2605.26097", "src/pyrite/repair/self_replay.py", "tests/repair/test_repair_restore.py", "self"),
)  # fmt: skip


def file_of(thing: Callable[..., Any]) -> str:
    """Where a function stands, from the root of the repository."""
    return str(Path(inspect.getfile(thing)).resolve().relative_to(ROOT))


def repair_rows() -> Iterator[Row]:
    """Every unlearning method: its loss's file, and the first test file that names it."""
    for method in METHODS.values():
        loss = method.loss
        own = loss is not None and loss.__module__ == "pyrite.repair.losses"
        test = next((name for name in REPAIR_TESTS if f'"{method.name}"' in read(f"tests/repair/{name}")), "(none)")
        file = file_of(loss if own and loss is not None else Method)
        yield Row(f"`{method.name}`", method.says, method.paper, file, f"tests/repair/{test}", f'"{method.name}"')


def audit_rows() -> Iterator[Row]:
    """Every measure of an audit."""
    for flaw, entry in FLAWS.items():
        for one in entry.statistics:
            paper = AUDIT_PAPERS.get(one.full_name) or AUDIT_PAPERS.get(flaw) or "ours"
            test = f"tests/audit/test_audit_{flaw}.py"
            yield Row(
                f"`{one.full_name}`",
                one.question,
                paper,
                f"src/pyrite/audit/flaws/{flaw}/statistics.py",
                test,
                one.name,
            )


def statistics_rows() -> Iterator[Row]:
    """Every statistic: what it answers and its source, from its docstring."""
    for name, test in STATISTICS:
        function = getattr(stats, name)
        told = inspect.getdoc(function) or ""
        source = re.search(r"Source: (.*?)(?:\n\n|\Z)", told, re.DOTALL)
        paper = " ".join(source[1].split()) if source else "ours"
        yield Row(f"`{name}`", told.splitlines()[0], paper, file_of(function), f"tests/stats/{test}", name)


def read(path: str) -> str:
    """A file of the repository; empty where it is not there."""
    return (ROOT / path).read_text() if (ROOT / path).is_file() else ""


def check(row: Row) -> None:
    """Stop where a row tells what is not so."""
    if not (ROOT / row.file).is_file():
        raise SystemExit(f"docs/methods.md: {row.method}: no file {row.file}")
    if row.word.lower() not in read(row.test).lower():
        raise SystemExit(f"docs/methods.md: {row.method}: {row.test} does not mention {row.word}")


def cell(text: str) -> str:
    """Text for a table: no pipe that would end a cell, and links to arXiv."""
    return re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", text.replace("|", "&#124;"))


def table(rows: Iterator[Row] | tuple[Row, ...]) -> list[str]:
    """A table of the index, each row checked."""
    lines = ["", "| method | what it asks or does | from | file | test |", "|---|---|---|---|---|"]
    for row in rows:
        check(row)
        short, test = row.file.removeprefix("src/pyrite/"), row.test.removeprefix("tests/")
        lines.append(f"| {row.method} | {cell(row.says)} | {cell(row.paper)} | `{short}` | `{test}` |")
    return lines


def methods_page() -> str:
    """The page: method, paper, file, test."""
    lines = [
        "# Method index",
        "",
        "Method → paper → file → test. Written from the code by `make docs`, which stops where a file or a",
    ]
    lines += ["test is missing, or a test does not mention its method. Files are below `src/pyrite/`, tests below `tests/`; \"ours\" means that we know of no paper."]  # fmt: skip
    lines += ["", "## Unlearning (`pyrite repair --method`)", *table(repair_rows())]
    lines += ["", "## Flaws of data (`pyrite audit`)", *table(audit_rows())]
    lines += ["", "## Tasks (`pyrite probe --task`)", *table(TASKS)]
    lines += ["", "## Statistics (`pyrite.stats`)", *table(statistics_rows())]
    lines += ["", "## The rest", *table(OTHERS)]
    return "\n".join(lines) + "\n"
