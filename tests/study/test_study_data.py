"""Pools, arms, noise, label quality: nothing shared, nothing lost, values worked by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyrite.errors import UserError
from pyrite.records import Labelled
from pyrite.steps import Context
from pyrite.study import labelled_steps as data
from pyrite.study.load import parse_spec
from pyrite.synth.settings import BiasSettings
from pyrite.tasks.nli import clean_labelled
from pyrite.tasks.rows import read_rows, write_rows

from conftest import TWO_SOURCES  # isort: skip


LABELS = ["entailment", "neutral", "contradiction"]


def context(folder: Path, config: dict[str, Any], **inputs: Path) -> Context:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Context(config, inputs, out, folder, lambda *_: None, lambda: False)


def rows(count: int, start: int = 0) -> list[Labelled]:
    made = []
    for at in range(start, start + count):
        hypothesis = f"dog {at} ran" if at % 2 else f"cats {at} slept"
        made.append(Labelled({"premise": f"the dog {at} ran home", "hypothesis": hypothesis}, LABELS[at % 3], str(at)))
    return made


def folder_of(path: Path, content: list[Labelled], name: str = "rows.jsonl") -> Path:
    path.mkdir(exist_ok=True)
    write_rows(content, path / name)
    return path


def test_cleaning_follows_the_paper() -> None:
    pairs = [("a", "b", "neutral"), ("a", "b", "neutral"), ("c", "d", "-"), ("e", "f", None), ("g", "h", "entailment")]
    given = [Labelled({"premise": p, "hypothesis": h}, label, str(at)) for at, (p, h, label) in enumerate(pairs)]
    for duplicates, kept, dropped in (
        ("drop_all", ["4"], {"no gold label": 2, "duplicate": 2}),
        ("drop_repeats", ["0", "4"], {"no gold label": 2, "duplicate": 1}),
        ("keep", ["0", "1", "4"], {"no gold label": 2}),
    ):
        counted: Counter[str] = Counter()
        assert [row.id for row in clean_labelled(given, counted, duplicates=duplicates)] == kept  # type: ignore[arg-type]
        assert counted == dropped


def pool(rows: int | str, *, disjoint: bool = True, balance: bool = False) -> dict[str, Any]:
    return {"rows": rows, "disjoint": disjoint, "balance": balance}


def test_pools_share_no_row_and_everything_is_somewhere(tmp_path: Path) -> None:
    pools = {"validation": pool(9, balance=True), "test": pool(20), "start": pool(30), "arm": pool("rest")}
    pools["full"] = pool("all", disjoint=False)
    config = {"pools": pools, "labels": LABELS, "seed": 0}
    data.pools_step(context(tmp_path, config, rows=folder_of(tmp_path / "in", rows(100))))
    made = {name: {row.id for row in read_rows(tmp_path / "out" / f"{name}.jsonl")} for name in pools}
    assert {name: len(ids) for name, ids in made.items()} == {
        "validation": 9,
        "test": 20,
        "start": 30,
        "arm": 41,
        "full": 71,
    }
    assert len(made["validation"] | made["test"] | made["start"] | made["arm"]) == 100
    assert not made["full"] & (made["test"] | made["validation"])
    counted = Counter(row.label for row in read_rows(tmp_path / "out" / "validation.jsonl"))
    assert counted == dict.fromkeys(LABELS, 3)
    shared = {
        (row["a"], row["b"]): row["shared"] for row in json.loads((tmp_path / "out" / "overlap.json").read_text())
    }
    assert shared["test", "start"] == 0
    assert shared["start", "full"] == 30


def test_held_out_rows_of_every_kind_stay_out_and_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path / "in", [*rows(100), *(Labelled({"text": f"more {at}"}, LABELS[0], f"m{at}") for at in range(20))]
    )
    pools = {
        "start": pool(30),
        "test": pool("rest", balance=True),
        "full": pool("all", disjoint=False),
        "third": pool(9),
    }
    found = []
    for number, order in enumerate((pools, dict(reversed(pools.items())))):
        folder = tmp_path / str(number)
        folder.mkdir()
        data.pools_step(context(folder, {"pools": order, "labels": LABELS, "seed": 0}, rows=source))
        found.append({name: [row.id for row in read_rows(folder / "out" / f"{name}.jsonl")] for name in pools})
    first, second = found
    assert first == second
    assert not set(first["test"]) & (set(first["full"]) | set(first["start"]))
    counted = Counter(row.label for row in read_rows(tmp_path / "0" / "out" / "test.jsonl"))
    assert len(counted) == 3
    assert len(set(counted.values())) == 1  # balanced, as many as there are of the rarest
    assert len(first["full"]) == 120 - len(first["test"])


def test_a_pool_that_is_too_large_is_refused(tmp_path: Path) -> None:
    config = {"pools": {"test": pool(200)}, "labels": LABELS, "seed": 0}
    with pytest.raises(UserError, match="too few rows"):
        data.pools_step(context(tmp_path, config, rows=folder_of(tmp_path / "in", rows(100))))


def divided(folder: Path, source: Path, **config: Any) -> dict[str, list[Labelled]]:
    """The pools that the step makes of a source."""
    folder.mkdir()
    data.pools_step(context(folder, {"labels": LABELS, "seed": 0, **config}, rows=source))
    return {name: read_rows(folder / "out" / f"{name}.jsonl") for name in config["pools"]}


def ids(rows: list[Labelled]) -> set[str]:
    return {row.id for row in rows}


def test_what_a_probe_reads_is_drawn_by_no_other_pool_but_by_name(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", rows(60))
    pools = {"asked": pool(20), "arm": pool("all", disjoint=False), "few": pool(30, disjoint=False)}
    before = divided(tmp_path / "before", source, pools=pools)
    assert ids(before["asked"]) <= ids(before["arm"])  # all 20 of 20
    apart = divided(tmp_path / "apart", source, pools=pools, held_out=["asked"])
    assert ids(apart["asked"]) == ids(before["asked"])
    assert len(apart["arm"]) == 40
    assert not ids(apart["asked"]) & (ids(apart["arm"]) | ids(apart["few"]))
    pools["arm"]["shares_with"] = ["asked"]
    shared = divided(tmp_path / "shared", source, pools=pools, held_out=["asked"])
    assert len(shared["arm"]) == 60
    assert not ids(shared["asked"]) & ids(shared["few"])


def test_a_pool_of_rows_with_a_value_takes_those_and_leaves_the_others(tmp_path: Path) -> None:
    some = [Labelled(row.fields, row.label, row.id, {"kind": "ab"[at % 2]}) for at, row in enumerate(rows(60))]
    source = folder_of(tmp_path / "in", some)
    wanted = {"few": pool(10) | {"where": {"kind": "b"}}, "rest": pool("rest")}
    made = divided(tmp_path / "out", source, pools=wanted)
    assert len(made["few"]) == 10
    assert {row.meta["kind"] for row in made["few"]} == {"b"}
    assert len(made["rest"]) == 50
    assert not ids(made["few"]) & ids(made["rest"])
    by_label = divided(tmp_path / "label", source, pools={"one": pool(4) | {"where": {"label": str(some[0].label)}}})
    assert {row.label for row in by_label["one"]} == {some[0].label}
    with pytest.raises(UserError, match="too few"):
        divided(tmp_path / "none", source, pools={"few": pool(31) | {"where": {"kind": "b"}}})


def grouped_rows(seed: int) -> list[Labelled]:
    """Premises with one to five hypotheses each; the premise's spelling differs in case and blanks."""
    rng = np.random.default_rng(seed)
    made = []
    for group in range(80):
        for number in range(int(rng.integers(1, 6))):
            premise = f"Premise  {group}" if number % 2 else f"premise {group}"
            label = LABELS[int(rng.integers(3))]
            fields = {"premise": premise, "hypothesis": f"hypothesis {number}"}
            made.append(Labelled(fields, label, f"{group}-{number}", {"page": group // 2}))
    return [made[at] for at in rng.permutation(len(made))]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("group", ["premise", "page"])
def test_a_group_is_in_one_pool(seed: int, group: str, tmp_path: Path) -> None:
    content = grouped_rows(seed)

    def of(row: Labelled) -> int:
        return int(row.id.partition("-")[0]) // (2 if group == "page" else 1)

    sizes = Counter(map(of, content))
    pools = {"validation": pool(30, balance=True), "test": pool(41), "start": pool(50), "arm": pool("rest")}
    pools["full"] = pool("all", disjoint=False)
    source = folder_of(tmp_path / "in", content)
    made = divided(tmp_path / "made", source, pools=pools, group=group, seed=seed)
    groups = {name: {of(row) for row in some} for name, some in made.items()}
    for one, other in (("validation", "test"), ("validation", "start"), ("validation", "arm"), ("test", "start"),
                       ("test", "arm"), ("start", "arm"), ("validation", "full"), ("test", "full")):  # fmt: skip
        assert not groups[one] & groups[other], (one, other)
    for name in ("test", "start", "arm", "full"):  # whole groups
        assert len(made[name]) == sum(sizes[one] for one in groups[name])
    assert Counter(row.label for row in made["validation"]) == dict.fromkeys(LABELS, 10)
    # with groups of one to ten rows the stated number is reached, or passed by less than a group
    for name, count in (("test", 41), ("start", 50)):
        assert count <= len(made[name]) < count + max(sizes.values())
    again = divided(tmp_path / "again", source, pools=dict(reversed(pools.items())), group=group, seed=seed)
    assert again == {name: made[name] for name in again}


def test_groups_that_do_not_fit_are_passed_over_and_too_few_are_counted(tmp_path: Path) -> None:
    """Three groups of four rows: six rows are two groups, with two rows more than asked for; fourteen are not there."""
    content = [Labelled({"text": f"{group} {at}"}, LABELS[0], f"{group}-{at}", {"page": group}) for group in range(3) for at in range(4)]  # fmt: skip
    source = folder_of(tmp_path / "in", content)
    made = divided(tmp_path / "fits", source, pools={"test": pool(6), "arm": pool("rest")}, group="page")
    assert {name: len(some) for name, some in made.items()} == {"test": 8, "arm": 4}
    with pytest.raises(UserError, match="pool test: 12 of 14"):
        divided(tmp_path / "large", source, pools={"test": pool(14)}, group="page")
    with pytest.raises(UserError, match="pool test: 12 of 15"):
        divided(tmp_path / "labels", source, pools={"test": pool(15, balance=True)}, group="page", labels=LABELS[:1]
                )  # fmt: skip


def test_rows_without_a_group_are_refused_with_their_number(tmp_path: Path) -> None:
    content = [*grouped_rows(0)[:9], Labelled({"premise": " ", "hypothesis": "x"}, LABELS[0], "bare", {"page": None})]
    source = folder_of(tmp_path / "in", content)
    for group, lacking in (("premise", 1), ("page", 1), ("pgae", 10)):
        with pytest.raises(UserError, match=f"group: {group}: {lacking} of 10 rows have nothing there"):
            divided(tmp_path / f"out-{group}", source, pools={"test": pool(4)}, group=group)


@pytest.mark.parametrize("group", [None, "premise"])
def test_another_division_keeps_what_is_read_and_divides_the_rest_anew(group: str | None, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", grouped_rows(1))
    pools = {"test": pool(40), "validation": pool(30, balance=True), "start": pool(50), "arm": pool("rest"), "full": pool("all", disjoint=False)}  # fmt: skip
    config: dict[str, Any] = {"pools": pools, "held_out": ["test", "validation"]} | ({"group": group} if group else {})
    first = divided(tmp_path / "first", source, **config)
    kept = {"kept": ["test", "validation"]}
    others = [divided(tmp_path / f"{seed}", source, **config, **kept, division=seed) for seed in (1, 2)]
    for made in others:
        assert made["test"] == first["test"]
        assert made["validation"] == first["validation"]
        held = ids(made["test"]) | ids(made["validation"])
        assert not held & (ids(made["start"]) | ids(made["arm"]) | ids(made["full"]))
        assert not ids(made["start"]) & ids(made["arm"])
        if group is None:
            assert ids(made["start"]) | ids(made["arm"]) == ids(first["start"]) | ids(first["arm"])
    starts = [frozenset(ids(made["start"])) for made in (first, *others)]
    assert len(set(starts)) == 3


def arm(
    folder: Path, size: int, *, noise: float | None = None, bias: BiasSettings | None = None, **inputs: Path
) -> list[Labelled]:
    part = {
        "name": "human.arm",
        "rows": size,
        "bias": bias.model_dump(mode="json") if bias else None,
        "file": "rows.jsonl",
    }
    config = {"parts": [part], "labels": LABELS, "seed": 1, "balance": True, "noise": noise}
    data.arm_step(context(folder, config, part0=folder_of(folder / "in", rows(600)), **inputs))
    return read_rows(folder / "out" / "rows.jsonl")


def test_an_arm_with_noise_flips_the_stated_share(tmp_path: Path) -> None:
    drawn = arm(tmp_path, 300, noise=0.2)
    flipped = [row for row in drawn if "label_was" in row.meta]
    told = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert told == {"rate": 0.2, "flipped": len(flipped)}
    assert 40 <= len(flipped) <= 80  # binomial(300, 0.2): 60 ± 2.9 standard deviations
    assert all(row.label != row.meta["label_was"] for row in flipped)
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert counts["read"] == 600 == counts["kept"] + sum(counts["dropped"].values())


def test_noise_at_the_estimated_error_rate(tmp_path: Path) -> None:
    quality = tmp_path / "quality"
    quality.mkdir()
    (quality / "quality.json").write_text(json.dumps({"error_rate": 0.5}))
    drawn = arm(tmp_path, 300, quality=quality)
    assert 120 <= sum("label_was" in row.meta for row in drawn) <= 180


def test_a_biased_human_arm(tmp_path: Path) -> None:
    drawn = arm(tmp_path, 90, bias=BiasSettings())
    for row in drawn:
        assert row.fields["hypothesis"].startswith("dog") == (row.label == "entailment")


def test_the_error_rate_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three labels, four rows of each; the judge disagrees with 2 of 4 synthetic and 1 of 4 human rows of each label:
    (0.5 - 0.25) / (1 - 0.25 · 3/2) = 0.25 / 0.625 = 0.4. Nine more entailment rows, all agreed with, change the
    entailment share to 2/13 and the mean over labels to (2/13 + 1/2 + 1/2) / 3 = 0.384615."""
    synthetic, human = folder_of(tmp_path / "s", rows(12)), folder_of(tmp_path / "h", rows(12, 60), "test.jsonl")

    def judge(_: Context, given: list[Labelled]) -> list[str]:
        wrong = [*range(6), 12, 13, 14]  # of the twelve synthetic and the twelve human rows
        return [LABELS[(LABELS.index(str(row.label)) + (at in wrong)) % 3] for at, row in enumerate(given)]

    monkeypatch.setattr("pyrite.probe.predict.predict_with", judge)
    data.quality_step(context(tmp_path, {"labels": LABELS, "human_file": "test.jsonl"}, rows=synthetic, human=human))
    told = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert told["agreement"] == pytest.approx(0.5)
    assert told["judge_accuracy_on_human"] == pytest.approx(0.75)
    assert told["error_rate"] == pytest.approx(0.4)
    assert len(read_rows(tmp_path / "out" / "to_read.jsonl")) == 12
    more = [Labelled(row.fields, "entailment", f"more-{row.id}") for row in rows(9)]
    wrong = [at < 6 for at in range(21)]
    assert data.by_label_mean([*rows(12), *more], wrong, LABELS) == pytest.approx(0.384615, abs=1e-6)


def test_the_judge_reads_the_synthetic_rows_and_the_human_rows(tmp_path: Path, tiny_causal: Path) -> None:
    """Human rows whose labels are what a model says of them, synthetic rows whose labels are what it does not say."""
    from pyrite.probe.predict import logits_with, predict_with

    config = {
        "labels": LABELS, "human_file": "test.jsonl", "by": "words", "reads": ["premise", "hypothesis"], "max_tokens": 64,
        "seed": 0, "four_bit": False, "compute": {"device": "cpu", "precision": "fp32"},
    }  # fmt: skip
    texts = rows(40)
    apart = tmp_path / "apart"
    apart.mkdir()
    said = predict_with(context(apart, config, base=tiny_causal), texts)
    human = [Labelled(row.fields, label, row.id) for row, label in zip(texts, said, strict=True)][20:]
    synthetic = [
        Labelled(row.fields, LABELS[LABELS.index(label) - 1], row.id)
        for row, label in zip(texts[:20], said, strict=False)
    ]
    given = {"rows": folder_of(tmp_path / "s", synthetic), "human": folder_of(tmp_path / "h", human, "test.jsonl")}
    data.quality_step(context(tmp_path, config, base=tiny_causal, **given))
    told = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert (told["agreement"], told["n"]) == (0.0, 20)
    assert (told["judge_accuracy_on_human"], told["n_human"]) == (1.0, 20)
    shown = {row.id: row.meta["judge"] for row in read_rows(tmp_path / "out" / "to_read.jsonl")}
    assert shown == {row.id: label for row, label in zip(texts[:20], said, strict=False)}
    read = logits_with(context(apart, config, base=tiny_causal), texts)
    other = logits_with(context(apart, config, base=tiny_causal), texts[::-1])  # of one step, whose checkpoint is there
    assert len({tuple(row) for row in read.tolist()}) > 10
    assert np.array_equal(other, read[::-1])


def test_the_starts_own_rows_again(tmp_path: Path) -> None:
    from pyrite.models.hardware import Compute
    from pyrite.study.plan import make_plan

    text = TWO_SOURCES.replace("starts: {raw: {}}", "starts: {trained: {rows: {h: 20}}}").replace(
        "other: {mix: {h: 1}}", "other: {mix: {start: 1}}"
    )
    plan = make_plan(parse_spec(text, "s.yaml"), tmp_path, Compute("cpu", "fp32"), only_plan=True)
    rows = plan.rows["arm other (10, first seed)"][0]
    assert rows.inputs["part0"] is plan.rows["start trained"][0]
    with pytest.raises(UserError, match="own rows needs a start with rows"):
        make_plan(
            parse_spec(TWO_SOURCES.replace("other: {mix: {h: 1}}", "other: {mix: {start: 1}}"), "s.yaml"),
            tmp_path,
            Compute("cpu", "fp32"),
            only_plan=True,
        )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("arms: {human", "arms: {start: {mix: {h: 1}}, human", "arms.start: the name 'start'"),
        ("data: {h:", "data: {start: {files: [z.csv]}, h:", "data.start: the name 'start'"),
        ("t: {files: [y.csv]}", "t: {files: [y.csv], pools: {a: 5}}", None),
        ("other: {mix: {h: 1}}", "other: {mix: {t.a: 1}}", "models are trained on t.a"),
        (
            "sizes: [10]",
            "sizes: [10]\ncells: [{name: c, start: raw, steps: [human], size: 5}, {name: c, start: raw, steps: [other], size: 5}]",
            "'c' of size 5 after raw is there twice",
        ),
    ],
)
def test_names_and_rows_that_would_be_taken_for_others(old: str, new: str, says: str | None) -> None:
    text = (
        TWO_SOURCES
        if "t.a" not in new
        else TWO_SOURCES.replace("t: {files: [y.csv]}", "t: {files: [y.csv], pools: {a: 5}}")
    )
    assert old in text
    if says is None:
        assert parse_spec(text.replace(old, new, 1), "s.yaml")
        return
    with pytest.raises(UserError) as caught:
        parse_spec(text.replace(old, new, 1), "s.yaml")
    assert says in caught.value.found + caught.value.fix + caught.value.what


def test_names_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    from pyrite.models.hardware import Compute
    from pyrite.study.plan import make_plan
    from pyrite.study.row_files import arm_title, file_of

    assert file_of(arm_title("share=0.25", 600)) == "arm-share_0.25-600.jsonl"
    assert file_of("start trained") == "start-trained.jsonl"
    text = TWO_SOURCES.replace("other: {mix: {h: 1}}", "a b: {mix: {h: 1}}, a_b: {mix: {h: 1}}")
    text = text[: text.index("contrasts:")] if "contrasts:" in text else text
    with pytest.raises(UserError, match="share a file"):
        make_plan(parse_spec(text, "s.yaml"), tmp_path, Compute("cpu", "fp32"), only_plan=True)


def test_each_seed_has_its_own_pools_and_the_probe_the_same_rows(tmp_path: Path) -> None:
    """The row steps of a study, run: the probe's items are those of every seed, starts and arms are others."""
    from pyrite.models.hardware import Compute
    from pyrite.steps import Progress, RunOptions, Store, closure, run_steps
    from pyrite.study.plan import make_plan

    content = "".join(f'{{"text": "the text {at}", "label": "{"ab"[at % 2]}"}}\n' for at in range(120))
    (tmp_path / "x.jsonl").write_text(content)
    text = TWO_SOURCES.replace("data: {h: {files: [x.csv]}, t: {files: [y.csv]}}",
                        "data: {h: {files: [x.jsonl], pools: {t: 30, start: 40, arm: {rows: rest}}}}\nVARY")  # fmt: skip
    text = text.replace("{mix: {h: 1}}", "{mix: {h.arm: 1}}").replace("data: t", "data: h.t")
    text = text.replace("starts: {raw: {}}", "starts: {raw: {rows: {h.start: 20}}}")
    store = Store(tmp_path / "store")

    def drawn(vary: str) -> dict[tuple[str, int], frozenset[str]]:
        plan = make_plan(
            parse_spec(text.replace("VARY", vary), "s.yaml"), tmp_path, Compute("cpu", "fp32"), only_plan=True
        )
        found = {}
        for cell in plan.cells:
            assert cell.model is not None
            rows = cell.model.inputs["rows"]
            run_steps([rows], store, RunOptions(), Progress(quiet=True))  # type: ignore[list-item]
            some = read_rows(store.path(rows.key) / "rows.jsonl")  # type: ignore[union-attr]
            found[cell.name, cell.seed] = frozenset(row.fields["text"] for row in some)
        (items,) = {step.key: step for step in plan.items.values()}.values()
        run_steps([items], store, RunOptions(), Progress(quiet=True))
        found["probe", 0] = frozenset(row.fields["text"] for row in read_rows(store.path(items.key) / "items.jsonl"))
        assert all("compute" not in step.config for step in closure([items]))
        return found

    fixed, varied = drawn(""), drawn("pools_vary: true")
    assert fixed["probe", 0] == varied["probe", 0]
    assert len({fixed["start", seed] for seed in range(3)}) == 1
    assert len({varied["start", seed] for seed in range(3)}) == 3
    assert all(not some & varied["probe", 0] for (name, _), some in varied.items() if name != "probe")
    assert all(not varied["start", seed] & varied["human", seed] for seed in range(3))
    assert varied["human", 0] == fixed["human", 0]
    once = drawn("arm_rows_vary: false")
    assert len({once["human", seed] for seed in range(3)}) == 1
    assert len({drawn("arm_rows_vary: false\npools_vary: true")["human", seed] for seed in range(3)}) == 3
