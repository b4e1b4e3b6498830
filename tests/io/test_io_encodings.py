"""Bytes that are not in a file's encoding: where they are, and in which encoding the file could be."""

import gzip
from pathlib import Path

import pytest

from pyrite.errors import UserError
from pyrite.io import ReadOptions, open_records, read_all

NAMES = "instruction,output\n"
TEXTS = {
    "cp1252": "Il a dit : « l’été à Noël »,très naïf\n",
    "cp1250": "Příliš žluťoučký kůň,úpěl ďábelské ódy\n",
    "cp1251": "Как дела?,Хорошо\n",
    "cp1253": "Καλημέρα κόσμε,τι κάνεις;\n",
    "cp932": "日本の首都は？,東京です。\n",
    "gb18030": "中国的首都是哪里？,北京。\n",
    "big5": "台灣的首都在哪裡？,台北。\n",
    "euc-kr": "한국의 수도는?,서울입니다.\n",
}


def message(path: Path, **options: str) -> str:
    with pytest.raises(UserError) as caught:
        read_all(path, ReadOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_encoding_that_is_proposed_reads_the_text(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((NAMES + TEXTS[encoding]).encode(encoding))
    first = next(at for at, letter in enumerate(path.read_bytes()) if letter > 127)
    said = message(path)
    assert f"`--encoding {encoding}`" in said
    assert f"a.csv:2: byte {path.read_bytes()[first]:#04x} at offset {first};" in said
    assert TEXTS[encoding][:20].strip() in said
    (chat,), _ = read_all(path, ReadOptions(encoding=encoding))
    assert f"{chat.messages[0].content},{chat.messages[1].content}\n" == TEXTS[encoding]  # type: ignore[union-attr]


def test_a_byte_that_only_a_later_line_shows_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((NAMES + "été,où\n").encode("cp1252") + b"a,b\n" * 200_000 + b"\x81,b\n")  # no letter in cp1252
    assert "`--encoding cp1252`" not in message(path)


@pytest.mark.parametrize(
    "content", [b"caf\xc3\xa9,na\xc3\xafve\ncaf\xe9,b\n", "日本語,はい\n".encode() + b"\xe6\x97,b\n"]
)
def test_a_damaged_byte_of_utf8_is_no_other_encoding(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(NAMES.encode() + content)
    said = message(path)
    assert "a.csv:3: byte" in said
    assert "other letters of the file are UTF-8" in said
    assert "--encoding" not in said


def test_binary_content_is_in_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(NAMES.encode() + b"\x00\x80,\xff\xfe\n")
    assert "no encoding was found" in message(path)


def test_the_offset_is_that_of_the_unpacked_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress('{"text": "a"}\n{"text": "é"}\n'.encode("cp1252")))
    assert "a.jsonl.gz:2: byte 0xe9 at offset 24 of the unpacked file" in message(path)


def test_a_wrong_encoding_that_was_named_is_said_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes((NAMES + "a,café\n").encode("cp1252"))
    said = message(path, encoding="cp932")
    assert "not cp932" in said
    assert "byte 0xe9" in said
    said = message(path, encoding="utf-16")
    assert "a.csv, `--encoding utf-16`: it begins with one byte for each character" in said


def test_long_lines_before_a_bad_byte(tmp_path: Path) -> None:
    """One look at each line is enough: a search that begins at every letter of a line took minutes for a megabyte."""
    path = tmp_path / "a.jsonl"
    line = b'{"text": "' + b"a" * 200_000 + b'"}\n'
    path.write_bytes(20 * line + b'{"text": "caf\xe9"}\n')
    with pytest.raises(UserError) as caught:
        list(open_records(path, ReadOptions()))
    assert f"a.jsonl:21: byte 0xe9 at offset {20 * len(line) + 13}" in caught.value.found
