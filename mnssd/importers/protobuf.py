"""Protobuf messages of file formats, from schemas of the few fields that are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from ..errors import ImportedFileError, OptionError

_FIELD = re.compile(r"(\w+)(\*?):([\w.]+)=(\d+)(?:~(\S+))?")


def make_messages(
    package: str, what: str, messages: Mapping[str, str], enums: Mapping[str, Sequence[str]]
) -> Dict[str, Any]:
    """Classes of messages by name.

    Parameters
    ----------
    package : str
        A name of its own.
    what : str
        Whose files these are, for the message if protobuf is missing.
    messages : mapping
        Fields of each message, ``name:kind=number``; ``*`` after the name: repeated; ``~`` and a default.
    enums : mapping
        Names of the values by number, under ``MESSAGE.ENUM``.

    Raises
    ------
    OptionError
        If protobuf is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise OptionError(
            f"reading {what} needs the package protobuf; install it with: pip install 'mnssd[import]'"
        ) from error
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    types = descriptor_pb2.FieldDescriptorProto
    added = {name: file.message_type.add(name=name) for name in messages}
    for enum, values in enums.items():
        message, name = enum.split(".")
        kind = added[message].enum_type.add(name=name)
        for number, value in enumerate(values):
            kind.value.add(name=value, number=number)
    for message, fields in messages.items():
        for name, many, field_kind, number, default in _FIELD.findall(fields):
            label = types.LABEL_REPEATED if many else types.LABEL_OPTIONAL
            field = added[message].field.add(name=name, number=int(number), label=label)
            if field_kind in messages or field_kind in enums:
                field.type = types.TYPE_MESSAGE if field_kind in messages else types.TYPE_ENUM
                field.type_name = f".{package}.{field_kind}"
            else:
                field.type = getattr(types, f"TYPE_{field_kind.upper()}")
            if default:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{package}.{name}")) for name in messages}


def read_bytes(path: str, limit: int) -> bytes:
    """A file of at most `limit` bytes; ImportedFileError if it cannot be read, or is larger."""
    try:
        if Path(path).stat().st_size > limit:
            raise ImportedFileError(f"more than {limit} bytes")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImportedFileError(f"cannot be read ({error.strerror})") from error


def parse(message: Any, data: bytes, what: str) -> Any:
    """`message` with the content of a file; ImportedFileError if it is not `what`."""
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ImportedFileError(f"not {what}, or a damaged or incomplete file") from error
    return message
