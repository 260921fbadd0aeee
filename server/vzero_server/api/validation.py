"""Decodes requests and checks them against the rules of their proto file."""

from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from protovalidate import Validator
from protovalidate import Violation as RuleViolation

from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler
from vzero_server.api.errors import InvalidRequestError, Violation

ReplyT = TypeVar("ReplyT")

# Violations named in one error. A chunk of 4,096 invalid outcomes needs no 4,096 lines.
_MAX_VIOLATIONS = 16

_validator = Validator()


class RequestValidation:
    """Turns the bytes of requests into messages that keep their rules."""

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""
        return _validated(method, handler)

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""
        return _validated(method, handler)


def check(message: Message) -> None:
    """Check a message against the rules of its proto file.

    Raises:
        InvalidRequestError: The message breaks rules; the error names the fields.
    """
    violations = _validator.collect_violations(message)
    if violations:
        raise InvalidRequestError([_violation(found) for found in violations[:_MAX_VIOLATIONS]])


def decode(message_type: type[Message], data: bytes) -> Message:
    """Decode a message and check it against its rules.

    Raises:
        InvalidRequestError: The bytes are no such message, or it breaks rules.
    """
    try:
        message = message_type.FromString(data)
    except DecodeError:
        raise _undecodable(message_type, data) from None
    check(message)
    return message


def _validated(
    method: Method, handler: Callable[[Any, Call], ReplyT]
) -> Callable[[Any, Call], ReplyT]:
    request_type = method.request_type

    async def decode_each(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in requests:
            yield decode(request_type, data)

    def serve_stream(requests: AsyncIterator[bytes], call: Call) -> ReplyT:
        return handler(decode_each(requests), call)

    def serve_request(data: bytes, call: Call) -> ReplyT:
        return handler(decode(request_type, data), call)

    return serve_stream if method.streams_requests else serve_request


def _undecodable(message_type: type[Message], data: bytes) -> InvalidRequestError:
    """Return an error that names the field with invalid UTF-8, if there is one."""
    for path, value in _string_fields(message_type, data):
        try:
            value.decode()
        except UnicodeDecodeError:
            return InvalidRequestError.of(path, "must be valid UTF-8")
    name = message_type.DESCRIPTOR.full_name
    return InvalidRequestError.of(name, "the bytes are not a message of this type")


def _violation(violation: RuleViolation) -> Violation:
    proto = violation.proto
    path = ""
    for element in proto.field.elements if proto.field else ():
        path += f".{element.field_name}" if path else str(element.field_name)
        if element.subscript is not None and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
        if element.subscript is not None and element.subscript.field == "string_key":
            path += f'["{element.subscript.value}"]'
    return Violation(path or "request", str(proto.message))


def _string_fields(message_type: type[Message], data: bytes) -> list[tuple[str, bytes]]:
    """Return path and bytes of every string field of a message, whether valid UTF-8 or not."""
    try:
        descriptor = message_type.DESCRIPTOR
        lenient = _lenient(descriptor.file.name, descriptor.full_name).FromString(data)
    except DecodeError:
        return []
    return _bytes_fields(lenient, "")


def _bytes_fields(message: Message, prefix: str) -> list[tuple[str, bytes]]:
    fields: list[tuple[str, bytes]] = []
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        values = value if field.is_repeated else [value]
        for position, item in enumerate(values):
            path = f"{prefix}{field.name}" + (f"[{position}]" if field.is_repeated else "")
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                fields += _bytes_fields(item, f"{path}.")
            elif field.type == FieldDescriptor.TYPE_BYTES:
                fields.append((path, item))
    return fields


@cache
def _lenient(file_name: str, name: str) -> type[Message]:
    """Return a message type of a file with every string field declared as bytes."""
    pool = descriptor_pool.DescriptorPool()

    def add_file(name: str) -> None:
        file = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        for dependency in file.dependency:
            add_file(dependency)
        for message in file.message_type:
            for field in message.field:
                if field.type == FieldDescriptor.TYPE_STRING:
                    field.type = FieldDescriptor.TYPE_BYTES  # type: ignore[assignment]
        pool.AddSerializedFile(file.SerializeToString())

    add_file(file_name)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
