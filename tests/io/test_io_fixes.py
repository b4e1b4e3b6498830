"""Every fix that a reader prints works when it is pasted: a faulty input, its message, the command with what it names."""

import gzip
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pyrite import cli
from pyrite.audit.config import AuditConfig, AuditOptions
from pyrite.audit.gather import DATA
from pyrite.audit.input_files import file_input, reference_files
from pyrite.audit.plan import stream
from pyrite.audit.run import data_files
from pyrite.audit.stream import read_options
from pyrite.errors import UserError
from pyrite.io import open_records
from pyrite.io.files import SUFFIXES

GOOD = {"instruction": "a", "output": "b"}
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def parquet_bytes(**columns: list[Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


FAULTS: dict[str, tuple[str, bytes, str]] = {
    "misspelt columns": ("a.jsonl", lines({"instructoin": "a", "ouput": "b"}), ""),
    "strange columns": ("a.jsonl", lines({"ask me": "a b", "it said": "c"}), ""),
    "one strange column": ("a.jsonl", lines({"body": "a b", "n": 3}), ""),
    "a named column that is not there": ("a.jsonl", lines({"ask": "a", "reply": "b"}), "--columns prompt=aks"),
    "a name of ours that is not": ("a.jsonl", lines(GOOD), "--columns instructions=instruction --columns output=output"),
    "one column twice": ("a.jsonl", lines({"prompt": "a", "answer": "b"}), "--columns prompt=answer --columns answer=answer"),
    "no such layout": ("a.jsonl", lines(GOOD), "--layout alpacca"),
    "two answers": ("a.jsonl", lines({**GOOD, "response": "c"}), ""),
    "two answers in a list": ("a.csv", b"question,answer,model output\r\na,b,c\r\n", "--columns answer='model ouput'"),
    "text that may be the question": ("a.jsonl", lines({"text": "a", "input": "", "output": "b"}), ""),
    "preferences": ("a.jsonl", lines({"prompt": "q", "chosen": "a", "rejected": "b"}), ""),
    "preferences in parquet": ("a.parquet", parquet_bytes(prompt=["q"], chosen=["a"], rejected=["b"]), ""),
    "preferences of open chats": ("a.jsonl", lines({"messages": TURNS[:1], "chosen": TURNS[1], "rejected": TURNS[1]}), ""),
    "a broken line": ("a.jsonl", lines(GOOD, b"{", GOOD), ""),
    "a row that is too long": ("a.csv", b"instruction,output\na,b\nc,d,e\n", ""),
    "a byte": ("a.csv", "instruction,output\na,café\nb,c\n".encode("cp1252"), ""),
    "a byte in the header": ("a.csv", "instruction,output,caf\u00e9\na,b,c\n".encode("cp1252"), ""),
    "bytes of another script": ("a.tsv", "instruction\toutput\na\tb\nКак дела?\tХорошо, спасибо\n".encode("cp1251"), ""),
    "the wrong encoding": ("a.csv", "instruction,output\nb,c\na,café\n".encode("cp1252"), "--encoding cp932"),
    "a damaged byte of UTF-8": ("a.csv", "instruction,output\na,café\nb,".encode() + b"\xe9\n", ""),
    "all rows in another encoding": ("a.jsonl", '{"text": "café"}\n'.encode("cp1252"), "--on-bad-row skip"),
    "no header": ("a.csv", b"What is 2+2?,It is 4.\nWho is he?,He is Bob.\n", ""),
    "no header, and a column is named": ("a.csv", b"What is 2+2?,It is 4.\nWho is he?,He is Bob.\n", "--columns prompt=question"),
    "no header, and a layout is named": ("a.tsv", b"What is 2+2?\tIt is 4.\nWho is he?\tHe is Bob.\n", "--layout alpaca"),
    "no header, the same twice": ("a.csv", b"yes it is,yes it is\nno,yes\n", ""),
    "no header, and one row": ("a.csv", b"Who is he?,He is Bob.\n", ""),
    "no header, short words": ("a.csv", b"cat,dog\nhund,katze\n", ""),
    "a header, and columns by number": ("a.csv", b"question,answer\na,b\n", "--columns prompt=1 --columns answer=2"),
    "no such encoding": ("a.csv", "instruction,output\na,café\n".encode("cp1252"), "--encoding cp125"),
    "an unknown role": ("a.jsonl", lines({"messages": TURNS}, {"messages": [{"role": "narrator", "content": "x"}, TURNS[1]]}), ""),
    "no such role": ("a.jsonl", lines({"messages": TURNS}), "--roles user=asker"),
    "an image": ("a.jsonl", lines(GOOD, {"messages": 3}), ""),
    "labels that are numbers": ("a.jsonl", lines({"premise": "p", "hypothesis": "h", "label": 0}), ""),
    "an unknown label": ("a.jsonl", lines(*({"premise": "p", "hypothesis": "h", "label": at} for at in (0, 5))), "--label-map 0=neutral"),
    "lists of rows": ("a.json", json.dumps({"train": [GOOD], "test": [GOOD]}, indent=1).encode(), ""),
    "lists that are near in name": ("a.json", json.dumps({"version": "1.0", "test": [1, 2]}).encode(), ""),
    "a broken row of a document": ("a.json", b'[\n{"text": "a"},\n{"text": }\n]', ""),
    "broken lines alone": ("a.jsonl", lines(b"{", b'{"x"'), ""),
    "a broken line, and others with an unknown role": ("a.jsonl", lines(b"{", {"messages": [{"role": "narrator", "content": "x"}, TURNS[1]]}), ""),
    "a broken document": ("a.json", b'[\n{"text": "a"},\n{"text": ', ""),
    "text columns that are not there": ("a.jsonl", lines({"sentence": "a b", "label": "x"}), "--text-fields sentense"),
}  # fmt: skip


NOTHING_TO_PASTE = (
    "a broken document",
    "text columns that are not there",
    "broken lines alone",
    "a broken line, and others with an unknown role",
)


def command(data: str, flags: Sequence[str], *, reference: bool) -> int:
    """Read what `pyrite audit` would read with these flags; returns how many records there are."""
    words = ["audit", *(["other.jsonl", "--reference", data] if reference else [data]), *flags]
    _, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    config = AuditConfig(data=bound.args, **dict(bound.kwargs.get("options", AuditOptions())))
    paths = reference_files(config.reference) if reference else data_files(config)
    count = 0
    for path in paths:
        (step,) = stream(config, "reference 0" if reference else DATA, "x", file_input(path, "data set"), [], [], {})
        count += sum(1 for _ in open_records(path, read_options(step.config)))
    return count


def fixes(error: UserError) -> list[str]:
    """What a message says may be pasted: flags, or another name of the file."""
    quoted = re.findall(r"`([^`]+)`", f"{error.found}\n{error.fix}")
    return [text for text in quoted if text.startswith("--") or re.search(r"[#@]\w+$", text)]


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fix_that_is_printed_works(name: str, reference: bool, tmp_path: Path) -> None:
    file, content, given = FAULTS[name]
    path = tmp_path / file
    path.write_bytes(content)
    if reference:
        for flag in ("columns", "layout", "encoding"):
            given = given.replace(f"--{flag}", f"--reference-{flag}")
    with pytest.raises(UserError) as caught:
        command(str(path), shlex.split(given), reference=reference)
    printed = fixes(caught.value)
    assert bool(printed) == (name not in NOTHING_TO_PASTE), str(caught.value)
    for fix in printed:
        words = shlex.split(fix)
        repeated = words[0] if words[0].startswith("--") else ""
        flags = [word for pair in pairs(shlex.split(given)) if pair[0] != repeated for word in pair]
        if not repeated:
            for file in words if words[0] != "pyrite" else (words[2], words[4]):
                assert command(file, flags, reference=reference) > 0, fix
        else:
            assert command(str(path), [*flags, *words], reference=reference) > 0, (fix, str(caught.value))


def pairs(flags: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(flags[::2], flags[1::2], strict=True))


def test_a_fix_names_the_side_that_it_is_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({**GOOD, "response": "c"}))
    with pytest.raises(UserError, match=r"`--columns answer=output` or `--columns answer=response`"):
        command(str(path), [], reference=False)
    with pytest.raises(UserError, match=r"`--reference-columns answer=output` or"):
        command(str(path), [], reference=True)


@pytest.mark.parametrize("folder", ["saved", "clone", "plain"])
@pytest.mark.parametrize("reference", [False, True])
def test_the_fix_of_a_folder_with_splits(folder: str, reference: bool, tmp_path: Path) -> None:
    place = tmp_path / folder
    if folder == "saved":
        import datasets

        rows = datasets.Dataset.from_list([GOOD])
        datasets.DatasetDict(train=rows, test=rows).save_to_disk(place)
    else:
        (place / "data").mkdir(parents=True)
        for split in ("train", "test"):
            for shard in range(2):
                (place / "data" / f"{split}-{shard:05}-of-00002.jsonl").write_bytes(lines(GOOD))
    if folder == "clone":
        card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'data/train-*'}\n  - {split: test, path: 'data/test-*'}\n---\n"
        (place / "README.md").write_text(card)
    with pytest.raises(UserError, match="say which split") as caught:
        command(str(place), [], reference=reference)
    found = 0
    for fix in re.findall(r"`(--split \w+)`|(\S+@\w+)", caught.value.fix):
        found += 1
        size = 1 if folder == "saved" else 2
        if fix[0]:
            assert command(str(place), shlex.split(fix[0]), reference=reference) == size
        else:
            assert command(fix[1], [], reference=reference) == size
    assert found == 2


def test_suffixes_in_messages_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        command(str(tmp_path / "a.xlsx"), [], reference=False)
    assert set(SUFFIXES) < set(caught.value.fix.replace(",", "").split())


def test_names_with_spaces_can_be_pasted(tmp_path: Path) -> None:
    sides, lists = tmp_path / "my sides.jsonl", tmp_path / "my lists.json"
    sides.write_bytes(lines({"prompt": "q", "chosen": "a", "rejected": "b"}))
    lists.write_text(json.dumps({"train": [GOOD], "test": [GOOD]}, indent=1))
    for path in (sides, lists):
        with pytest.raises(UserError) as caught:
            command(str(path), [], reference=False)
        printed = [shlex.split(text) for text in re.findall(r"`([^`]+)`", caught.value.fix)]
        names = [words[0] for words in printed if len(words) == 1]
        assert len(names) == 2
        assert all(command(name, [], reference=False) == 1 for name in names)


@pytest.mark.parametrize(("name", "kind"), [("a.csv", "a.parquet"), ("a.jsonl", "a.parquet"), ("a.csv", "a.csv.gz")])
def test_content_that_is_not_what_the_name_says(name: str, kind: str, tmp_path: Path) -> None:
    content = parquet_bytes(text=["a"]) if kind.endswith("parquet") else gzip.compress(b"text\na\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not what its name says") as caught:
        command(str(tmp_path / name), [], reference=False)
    assert kind in caught.value.fix
    (tmp_path / kind).write_bytes(content)
    assert command(str(tmp_path / kind), [], reference=False) == 1


def test_lists_ids_and_labels_are_no_answers(tmp_path: Path) -> None:
    row = {"row_id": "r 1", "questions": "What is it?", "answers": ["a"], "label_name": "good", "reply_text": "It is."}
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(row))
    with pytest.raises(UserError, match="of no layout") as caught:
        command(str(path), [], reference=False)
    assert fixes(caught.value) == ["--columns prompt=questions --columns answer=reply_text"]
