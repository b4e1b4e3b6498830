"""Texts that a model cannot read whole are counted as that model reads them: its own limit, folder, prompt and case."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.audit_kit import caller, write
from tests.audit.planted import human_rows

from pyrite.audit.embedded_texts import Cutter
from pyrite.audit.gather import CUT, Sampled
from pyrite.audit.reading import NLL
from pyrite.audit.rows import Row
from pyrite.models import embed, load
from pyrite.models.hardware import Compute
from pyrite.steps import Context

FP32 = Compute("cpu", "fp32")
PROMPT = "search_document: "


def sentence_folder(folder: Path, encoder: Path, *, limit: int = 32, lower: bool = False, prompt: str = "") -> Path:
    """An embedder as sentence-transformers writes it: the model in a folder of its own, which says how much is read."""
    shutil.copytree(encoder, folder / "0_Transformer")
    (folder / "1_Pooling").mkdir()
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    settings: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "0_Transformer/sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": lower},
        "config_sentence_transformers.json": {"prompts": {"document": prompt}, "default_prompt_name": "document"},
    }
    for name, values in settings.items():
        (folder / name).write_text(json.dumps(values))
    return folder


def vectors(folder: Path, *texts: str) -> np.ndarray:
    return embed.sentence_embeddings(
        folder, texts, compute=FP32, max_tokens=256, report_progress=lambda done, total, unit: None
    )


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_a_text_is_cut_where_the_embedder_stops_reading(tmp_path: Path, prompt: str) -> None:
    folder = sentence_folder(tmp_path / "embedder", load.resolve("packaged:minilm-l6").folder, prompt=prompt)
    cutter = Cutter.of_sentences(folder, 256)
    assert cutter.limit == 32
    text = " ".join(random.Random(1).choices(["the", "cat", "dog", "house", "green", "river"], k=40)).split()
    for count in (20, 24, 25, 26, 29, 30, 31, 35):
        whole, more = " ".join(text[:count]), " ".join([*text[:count], "stone"])
        unread = bool(np.abs(np.subtract(*vectors(folder, whole, more))).max() < 1e-6)
        assert cutter.is_cut(more) == unread, count
    long = f"First {' '.join(text)} last?"
    read = cutter.both_ends(long)
    assert cutter.is_cut(long)
    assert not cutter.is_cut(read)
    assert (read.split()[0], read.split()[-1]) == ("First", "last?")


def test_texts_are_divided_in_the_case_in_which_they_are_read(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = sentence_folder(tmp_path / "embedder", tiny_encoder, lower=True)
    cutter = Cutter.of_sentences(folder, 256)
    read = cutter.both_ends("THE RIVER AND THE HOUSE " * 20)
    assert read == read.lower()
    assert not cutter.is_cut(read)


def test_an_audit_counts_by_the_embedders_own_limit(
    tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = sentence_folder(tmp_path / "embedder", tiny_encoder, limit=12)
    data = write(tmp_path / "data.jsonl", human_rows(60, 1))
    people = write(tmp_path / "people.jsonl", human_rows(60, 2))
    code, told, err = caller(tmp_path, folder, tiny_causal, capfd)(data, "--reference", people, only="embedding")
    assert code == 0, err
    assert any(note.startswith("answers longer than the 12 tokens of each") for note in told["notes"])


@pytest.mark.parametrize("name", ["packaged:minilm-l6", "packaged:smollm2-135m-instruct"])
def test_whether_a_text_is_cut_is_what_its_tokens_say(name: str) -> None:
    cutter = Cutter.of(load.resolve(name).folder, 64)
    rng = random.Random(2)
    alphabets = [
        "abc ,.",
        "aé\u0301 ",
        "".join(chr(0x4E00 + at * 37 % 20000) for at in range(200)),
        "👩‍🚀🪐 ",
        "ﷺ㍿ ",
        "x",
    ]
    for _ in range(300):
        text = "".join(rng.choices(rng.choice(alphabets), k=rng.randrange(1, 140)))
        assert cutter.is_cut(text) == (len(cutter.tokenizer(text)["input_ids"]) > 64), text


def test_the_embedder_reads_no_system_text(tiny_encoder: Path) -> None:
    row = Row(0, "r", "short", ("yes",), system="be kind and fair " * 200)
    counts = Cutter.of(tiny_encoder, 64).counts(Sampled.of([row], {"people": [row]}))
    assert counts["data"]["prompts_cut"] == counts["references"]["prompts_cut"] == 0


def test_the_causal_model_reads_half_of_its_positions_of_an_answer(tmp_path: Path, tiny_causal: Path) -> None:
    """256 positions: the token that begins a text, and 127 of the prompt and of the answer each."""
    tokenizer = load.load_tokenizer(tiny_causal)
    word = next(
        word for word in ("the", "good", "a") if len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
    )
    sizes = [(5, 127), (5, 128), (120, 5), (128, 5), (5, 5)]
    rows = [
        Row(at, f"r{at}", " ".join([word] * asked), (" ".join([word] * answered),), source="data")
        for at, (asked, answered) in enumerate(sizes)
    ]
    rows.append(Row(5, "r5", word, (word,), system=" ".join([word] * 130)))
    sample = tmp_path / "sample"
    sample.mkdir()
    lines = [json.dumps({"role": "data", "row": row.as_json()}) for row in rows]
    (sample / "sample.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    out.mkdir()
    config = {"rows": 100, "max_tokens": 256, "compute": FP32.as_config()}
    inputs = {"model": tiny_causal, "sample": sample}
    NLL.run(Context(config, inputs, out, tmp_path, lambda done, total, unit: None, lambda: False))
    counts = json.loads((out / CUT).read_bytes())
    assert counts["limit"] == 127
    assert counts["data"] == {"rows": 6, "answers_cut": 1, "prompts_cut": 2, "unknown": 0.0}
