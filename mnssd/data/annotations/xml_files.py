"""XML files of datasets in any encoding, parsed without entities and external references."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path
from typing import NamedTuple, Tuple, Union
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree

from .annotation import AnnotationError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)  # fmt: skip

_DECLARATION = re.compile(rb"\s*<\?xml[^>]*?\bencoding\s*=\s*[\"']\s*([\w.:-]+)\s*[\"']", re.ASCII)

_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
}
"""Codecs that programs of Windows really write where they declare another one."""

_NOT_FOR_FILES = ("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7")

_GUESS = "gb18030"

_START_BYTES = 4096


class XmlFile(NamedTuple):
    """Content of an XML file: tags in lower case and without name spaces."""

    path: str
    root: Element
    text: str
    is_guess: bool  # the encoding is unknown, so that only ASCII characters are certain

    def is_certain(self, text: str) -> bool:
        """Whether a text of this file can be trusted."""
        return not self.is_guess or text.isascii()

    def line_of(self, tag: str, number: int) -> str:
        """Line of an element by its index, as ``line 5``; comments and parts are blanked out first."""
        hidden = re.compile(r"<!--.*?-->|<part>.*?</part>", re.DOTALL)
        plain = hidden.sub(lambda match: "\n" * match[0].count("\n"), self.text)
        starts = [match.start() for match in re.finditer(rf"<{tag}[\s>]", plain, re.IGNORECASE)]
        return f"line {plain.count(chr(10), 0, starts[number]) + 1}" if number < len(starts) else ""


def parse_xml(path: Union[str, Path], limit: int) -> XmlFile:
    """Read an XML file of at most `limit` bytes.

    Raises AnnotationError if the file is missing, too large, in an unknown encoding, or not XML.
    """
    text, is_guess = _decode(read_bytes(path, limit))
    try:
        root = defusedxml.ElementTree.fromstring(text.lstrip("\ufeff \t\r\n"))
    except (ParseError, ValueError, LookupError) as error:  # ValueError: entities
        raise AnnotationError(f"not valid XML: {error}") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2].lower()
    return XmlFile(str(path), root, text, is_guess)


def read_bytes(path: Union[str, Path], limit: int) -> bytes:
    """Content of a file of at most `limit` bytes; AnnotationError if it is missing, unreadable or larger."""
    try:
        if not os.path.isfile(path) and os.path.exists(path):  # reading a pipe would block
            raise AnnotationError("not a regular file")
        if os.path.getsize(path) > limit:
            raise AnnotationError(f"larger than {limit >> 20} MiB, too large for an annotation")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise AnnotationError("no such file", "annotation-missing") from None
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}") from error


def starts_with_tag(path: Union[str, Path], tag: str) -> bool:
    """Whether the start of a file has the tag, in any encoding that contains ASCII characters."""
    return bool(re.search(rb"<(\w+:)?%s[\s>/]" % tag.encode(), _start(path), re.IGNORECASE))


def first_tag(path: Union[str, Path]) -> str:
    """Name of the first element of a file; empty if there is none at its start."""
    match = re.search(rb"<(?:\w+:)?([A-Za-z][\w.-]*)", _start(path))
    return match[1].decode("ascii", "replace") if match else ""


def _start(path: Union[str, Path]) -> bytes:
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_START_BYTES).replace(b"\0", b"")
    except (OSError, ValueError):
        return b""


def _decode(data: bytes) -> Tuple[str, bool]:
    """Text of an XML file, and whether its encoding is a guess."""
    encoding = next((name for start, name in _BOMS if data.startswith(start)), "") or _declared(data)
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        pass
    except (LookupError, UnicodeError) as error:
        raise AnnotationError(f"not valid XML: unknown encoding {encoding} ({error})") from error
    return data.decode(_GUESS, errors="replace"), True


def _declared(data: bytes) -> str:
    """Codec of the encoding that a file declares in ASCII characters; UTF-8 if it declares none."""
    match = _DECLARATION.match(data[:_START_BYTES])
    name = match[1].decode("ascii").lower() if match else "utf-8"
    if re.match("utf-?(16|32)|ucs-?[24]|unicode", name):  # it cannot be, as ASCII characters take one byte
        return "utf-8"
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        return name
    if codec in _NOT_FOR_FILES:
        raise AnnotationError(f"not valid XML: encoding {name}")
    return _SUPERSETS.get(codec, codec)
