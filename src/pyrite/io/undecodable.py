"""Which byte of a file cannot be decoded, where is it, and in which encoding could the file be?

The encoding is proposed by charset-normalizer, out of the lines that hold other bytes than ASCII's, and said only where
it decodes the whole file to text without control characters.
"""

import codecs
import io
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyrite.errors import UserError
from pyrite.io.encodings import codec_of, peeked
from pyrite.io.files import File, open_uncompressed
from pyrite.io.raw_row import short_value

_CHUNK = 1 << 20
_SAMPLE = 1 << 16
"""Bytes of lines that are shown to the library."""
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f\ue000-\uf8ff\ufffe\uffff]")
_WORD = re.compile(r"[^\W\d_]+")
_MOST_MIXED = 0.5
_EXCERPT = 60
_TRIED = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
    *("mac_roman", "koi8_r", "cp866", "shift_jis", "cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
)


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The first byte that is not in the encoding of its file: its place in the uncompressed bytes (from 0), its line (from
    1), what it is, and the encoding."""

    offset: int
    line: int
    byte: int
    encoding: str

    def place_in_words(self, file: File) -> str:
        """Where it is: file, line and offset."""
        unpacked = " of the unpacked file" if file.packed else ""
        return f"{file.display_name}:{self.line}: byte {self.byte:#04x} at offset {self.offset}{unpacked}"


@dataclass(frozen=True, slots=True)
class LikelyEncoding:
    """An encoding in which the whole file is text, and how a line then reads."""

    name: str
    line: int
    text: str


def first_undecodable(file: File) -> Undecodable | None:
    """The first byte that is not in the file's encoding (the one that was named, else what the first bytes show, else
    UTF-8); None where all of it is."""
    with open_uncompressed(file) as source:
        codec = codec_of(peeked(source), file.encoding) or "utf-8"
        decoder = codecs.getincrementaldecoder(codec)("strict")
        offset = newlines = returns = 0
        while True:
            chunk = source.read(_CHUNK)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(codec, "replace")
                newlines, returns = newlines + before.count("\n"), returns + before.count("\r")
                at = offset - waiting + error.start
                return Undecodable(at, 1 + (newlines or returns), error.object[error.start], _plain_name(codec))
            newlines, returns = newlines + text.count("\n"), returns + text.count("\r")
            offset += len(chunk)
            if not chunk:
                return None


def likely_encoding(file: File, at: Undecodable) -> LikelyEncoding | None:
    """An encoding in which all of the file is plausible text; None where there is none, and where most of what is no
    ASCII is UTF-8, so that single bytes are damaged."""
    sample = _lines_of_other_bytes(file)
    if b"\0" in sample or is_damaged_utf8(sample):
        return None
    for name in _candidates(sample):
        tried = replace(file, encoding=name)
        if codecs.lookup(name) != codecs.lookup(at.encoding) and first_undecodable(tried) is None:
            return LikelyEncoding(name, at.line, _line(tried, at.line))
    return None


def undecodable_error(file: File, at: Undecodable, *, what: str, flag: str = "--encoding", skip: str = "") -> UserError:
    """What is wrong with the file's bytes, and what would mend it; `flag` names the encoding (empty: none does), `skip` says
    how rows can be left out."""
    likely = likely_encoding(file, at)
    detail = at.place_in_words(file)
    mend = "mend the byte" + (f", {skip}" if skip else "")
    if likely is not None:
        detail += f"; in {likely.name} the whole file is text, and line {likely.line} reads {likely.text}"
        way = (
            f"read it with `{flag} {likely.name}` (in a YAML file: encoding: {likely.name})"
            if flag
            else "save the file as UTF-8"
        )
        return UserError(what, detail, f"{way}, {mend}")
    detail += f", in {_line(file, at.line)}; "
    if file.encoding is not None:
        return UserError(
            what, f"{detail}no encoding was found in which the whole file is text", f"leave the encoding out, {mend}"
        )
    damaged = is_damaged_utf8(_lines_of_other_bytes(file))
    detail += (
        "other letters of the file are UTF-8" if damaged else "no encoding was found in which the whole file is text"
    )
    return UserError(what, detail, mend)


def _plain_name(codec: str) -> str:
    return {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}.get(codec, codec)


def _lines_of_other_bytes(file: File) -> bytes:
    """The first lines that hold other bytes than ASCII's."""
    lines: list[bytes] = []
    size = 0
    with open_uncompressed(file) as source:
        while size < _SAMPLE and (chunk := source.read(_CHUNK)):
            chunk += source.readline(_CHUNK)
            for line in chunk.splitlines(keepends=True):
                if size < _SAMPLE and not line.isascii():
                    lines.append(line[:_SAMPLE])
                    size += len(lines[-1])
    return b"".join(lines)


def is_damaged_utf8(sample: bytes) -> bool:
    """Is more of what is no ASCII UTF-8 than not?"""
    others = [letter for letter in sample.decode("utf-8", "surrogateescape") if letter > "\x7f"]
    broken = sum("\udc80" <= letter <= "\udcff" for letter in others)
    return len(others) - broken > broken


def _candidates(sample: bytes) -> Sequence[str]:
    """The encodings that the library finds plausible and in which no word mixes scripts, the likeliest first; Windows' own
    before its equals."""
    import charset_normalizer

    matches = charset_normalizer.from_bytes(
        sample, cp_isolation=list(_TRIED), preemptive_behaviour=False, enable_fallback=False
    )
    names = [name.replace("_", "-") for match in matches for name in (match.encoding, *match.could_be_from_charset)]
    ordered = list(dict.fromkeys((["cp1252"] if "cp1252" in names else []) + names))
    texts = {name: sample.decode(name, "replace") for name in ordered}
    plausible = [name for name in ordered if not _NO_TEXT.search(texts[name])]
    mixed = {name: _mixed_words(texts[name]) for name in plausible}
    return sorted((name for name in plausible if mixed[name] < _MOST_MIXED), key=lambda name: mixed[name] > 0)


def _mixed_words(text: str) -> float:
    """The share of words that have letters of several scripts, of those that have others than ASCII's."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    several = sum(len({_script(letter) for letter in word}) > 1 for word in words)
    return several / max(1, len(words))


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "IDEOGRAPHIC") else name


def _line(file: File, number: int) -> str:
    with open_uncompressed(file) as source:
        codec = codec_of(peeked(source), file.encoding) or "utf-8"
        lines = io.TextIOWrapper(source, encoding=codec, errors="replace")  # line by line: files may be large
        text = next(itertools.islice(lines, number - 1, None), "").removeprefix("\ufeff")
    return short_value(" ".join(text.split()), _EXCERPT)
