"""Bytes of any encoding as UTF-8, and their lines whatever ends them."""

import codecs
import difflib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

from pyrite.errors import UserError

_CHUNK = 1 << 16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BYTE_ORDER_MARK = codecs.BOM_UTF8
COMMON = ("cp1252", "latin-1", "utf-16", "cp1251", "cp1250", "mac-roman", "shift_jis", "gb18030", "big5", "euc-kr")
_IN_QUOTES = re.compile(rb'"[^"]*(?:"|\Z)')
"""A cell in quotes, which may go on beyond the beginning that is looked at."""


def check_encoding(name: str, flag: str = "--encoding") -> str:
    """The codec's own name.

    Raises:
        UserError: there is no such encoding of text.
    """
    try:
        codec = codecs.lookup(name)
        text = codec._is_text_encoding
    except (LookupError, ValueError):
        text = False
    if not text:
        near = difflib.get_close_matches(name.lower(), COMMON, n=1, cutoff=0.4) or ["cp1252"]
        raise UserError("there is no such encoding", f"{flag} {name!r}", f"such as `{flag} {near[0]}`")
    return codec.name


def encoding_of(head: bytes) -> str | None:
    """The encoding that the beginning of a file shows: by its byte order mark, or by the zero bytes of UTF-16 (RFC 4627);
    None is UTF-8."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head[:256]:
        even, odd = head[0:256:2].count(0), head[1:256:2].count(0)
        half = len(head[:256]) // 2
        if odd > 0.3 * half and even == 0:
            return "utf-16-le"
        if even > 0.3 * half and odd == 0:
            return "utf-16-be"
    return None


def _keep_undecodable(error: UnicodeError) -> tuple[str, int]:
    """What cannot be decoded stays undecodable: as UTF-8 it becomes a byte that is none."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", max(error.end, error.start + 1)


codecs.register_error("pyrite.undecodable", _keep_undecodable)


class NotInEncoding(Exception):
    """A file is not in the encoding that was named; whoever knows the file says so (`files.damage_named`)."""


class _Utf8(io.RawIOBase):
    """The bytes of another encoding as UTF-8; what cannot be decoded becomes the byte 0xff, which costs its row."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder(encoding)("pyrite.undecodable")
        self._ready = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._ready and not self._ended:
            chunk = self._source.read(_CHUNK)
            self._ended = not chunk
            try:
                text = self._decode.decode(chunk, final=self._ended)
            except UnicodeError as error:
                raise NotInEncoding(str(error)) from error
            self._ready = memoryview(text.encode("utf-8", "surrogateescape"))
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def peeked(source: BinaryIO) -> bytes:
    """The first bytes, which are read again later."""
    return cast(io.BufferedReader, source).peek(4)


def codec_of(head: bytes, encoding: str | None = None) -> str | None:
    """The codec of a file that begins so: the one that is named, else the one that the first bytes show; None is UTF-8."""
    codec = encoding or encoding_of(head)
    if codec is not None and codec.startswith(("utf-16", "utf-32")) and _is_narrow(head):
        raise NotInEncoding("it begins with one byte for each character")
    if codec in ("utf-16", "utf-32") and not head.startswith(tuple(mark for mark, name in _MARKS if name == codec)):
        codec = encoding_of(head) or f"{codec}-le"
    return None if codec is None or codecs.lookup(codec).name == "utf-8" else codec


def _is_narrow(head: bytes) -> bool:
    """Does a file that begins so have one byte for most characters? Then it is not UTF-16."""
    head = head[:256]
    return b"\0" not in head and len(head) > 3 and sum(byte < 0x7F for byte in head) > 0.85 * len(head)


def as_utf8(source: BinaryIO, encoding: str | None = None) -> BinaryIO:
    """The same text in UTF-8: of the encoding that is named, else of the one that the first bytes show."""
    codec = codec_of(peeked(source), encoding)
    if codec is None:
        return source
    return cast(BinaryIO, io.BufferedReader(_Utf8(source, codec), _CHUNK))


def utf8_content(content: bytes, encoding: str | None = None) -> bytes:
    """The whole of a file in UTF-8, without its byte order mark."""
    return as_utf8(cast(BinaryIO, io.BufferedReader(io.BytesIO(content))), encoding).read().removeprefix(BYTE_ORDER_MARK)  # fmt: skip


def text_lines(source: BinaryIO, encoding: str | None = None, *, quotes: bool = False) -> Iterator[bytes]:
    """Lines in UTF-8 with their ends, without a byte order mark.

    They end in a newline; or, where the beginning has none, in a carriage return (old Macs). With `quotes`, newlines in
    double quotes do not count for that.
    """
    source = as_utf8(source, encoding)
    head = peeked(source)
    lines = _lines_at_returns(source) if _ends_in_returns(head, quotes=quotes) else iter(source)
    first = next(lines, None)
    if first is None:
        return
    first = first.removeprefix(BYTE_ORDER_MARK)
    if first:
        yield first
    yield from lines


def is_utf8_in_lines(source: BinaryIO, encoding: str | None = None) -> bool:
    """Is this text in UTF-8 whose lines end in newlines, so that the bytes after any newline begin a line?"""
    return as_utf8(source, encoding) is source and not _ends_in_returns(peeked(source), quotes=False)


def _ends_in_returns(head: bytes, *, quotes: bool) -> bool:
    bare = _IN_QUOTES.sub(b"", head) if quotes else head
    return b"\n" not in bare and b"\r" in bare[:-1]


def _lines_at_returns(source: BinaryIO) -> Iterator[bytes]:
    left = b""
    while chunk := source.read(_CHUNK):
        *lines, left = (left + chunk).split(b"\r")
        for line in lines:
            yield line + b"\r"
    if left:
        yield left
