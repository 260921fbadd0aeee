"""Read options of requests."""

import dataclasses
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from vzero_server.engine.options import ReadOptions


def read_options(request: Message) -> ReadOptions:
    """Return the read options of a request; fields that it does not set have their defaults.

    A field of ``ReadOptions`` is read from the request field of the same name, if there is one.
    """
    options = {}
    for name, has_presence in _option_fields(request.DESCRIPTOR):
        # A field without presence, such as a string, is unset if it is empty.
        if request.HasField(name) if has_presence else getattr(request, name):
            options[name] = getattr(request, name)
    return ReadOptions(**options)


@cache
def _option_fields(request: Descriptor) -> tuple[tuple[str, bool], ...]:
    """Return name and presence of the fields of a message type that are read options."""
    fields = request.fields_by_name
    return tuple(
        (option.name, fields[option.name].has_presence)
        for option in dataclasses.fields(ReadOptions)
        if option.name in fields
    )
