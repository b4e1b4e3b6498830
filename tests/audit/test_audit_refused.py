"""Rows that the causal model's chat template refuses: an audit stops and says how many, or leaves them out and says so."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audit_kit import caller, write
from planted import human_rows


@pytest.mark.parametrize("skip", [False, True])
def test_rows_that_the_template_refuses(
    skip: bool, tmp_path: Path, tiny_encoder: Path, tiny_causal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(tiny_causal, tmp_path / "chatty")
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.content[-1] in '13' %}{{ raise_exception('not this one') }}{% endif %}"
        "{{ m.content }}\n{% endfor %}"
    )
    rows = [replace(row, prompt=f"question {at}") for at, row in enumerate(human_rows(70, 1, source="made"))]
    data = write(tmp_path / "data.jsonl", rows)
    reference = write(tmp_path / "one.jsonl", human_rows(70, 2, source="one", topic=1))
    audit: Any = caller(tmp_path, tiny_encoder, model, capfd)
    line = [data, "--reference", reference, "--model-sample", "60", *(["--on-bad-row", "skip"] if skip else [])]
    code, told, err = audit(*line, only="perplexity")
    if not skip:
        assert code == 2
        assert "rows are refused, the first: row" in err
        assert "--on-bad-row skip" in err
        return
    assert code == 0, err
    (note,) = [note for note in told["notes"] if "left out" in note]
    refused, read = map(int, re.findall(r"\d+", note))
    assert note.endswith("rows that the causal model was to read were left out: refused by the chat template")
    assert (5 <= refused <= 20, read) == (True, 120)  # a fifth of the data's 60, and hardly any of the reference's
