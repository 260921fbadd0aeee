"""What is wrong with a message, field by field."""

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from protovalidate import Validator
from protovalidate import Violation as RuleViolation

from vzero_server.api.errors import InvalidRequestError, Violation

# Fields named in one error: a chunk of 4,096 bad outcomes needs no 4,096 lines.
_MOST_VIOLATIONS = 16

_validator = Validator()


def check(message: Message) -> None:
    """Check a message against the rules of its proto file.

    Raises:
        InvalidRequestError: Naming the fields.
    """
    found = _validator.collect_violations(message)
    if found:
        raise InvalidRequestError([_violation(one) for one in found[:_MOST_VIOLATIONS]])


def explain_undecodable(message_type: type[Message], data: bytes) -> InvalidRequestError:
    """Say which field made a message undecodable, as far as its bytes tell."""
    for path, value in _string_fields(message_type, data):
        try:
            value.decode()
        except UnicodeDecodeError:
            return InvalidRequestError([Violation(path, "must be valid UTF-8")])
    name = message_type.DESCRIPTOR.full_name
    return InvalidRequestError([Violation(name, "the bytes are not a message of this type")])


def _violation(found: RuleViolation) -> Violation:
    path = ""
    for element in found.proto.field.elements if found.proto.field else ():
        path += f".{element.field_name}" if path else str(element.field_name)
        if element.subscript is not None and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
        if element.subscript is not None and element.subscript.field == "string_key":
            path += f'["{element.subscript.value}"]'
    return Violation(path or "request", str(found.proto.message))


def _string_fields(message_type: type[Message], data: bytes) -> list[tuple[str, bytes]]:
    """Path and raw value of every string of a message, decoded without regard to UTF-8."""
    try:
        descriptor = message_type.DESCRIPTOR
        lenient = _lenient(descriptor.file.name, descriptor.full_name).FromString(data)
    except DecodeError:
        return []
    return _walk(lenient, "")


def _walk(message: Message, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        values = value if field.is_repeated else [value]
        for position, item in enumerate(values):
            path = f"{prefix}{field.name}" + (f"[{position}]" if field.is_repeated else "")
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                found += _walk(item, f"{path}.")
            elif field.type == FieldDescriptor.TYPE_BYTES:
                found.append((path, item))
    return found


@cache
def _lenient(file_name: str, name: str) -> type[Message]:
    """A message type of a file with every string declared as bytes."""
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        file = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        for dependency in file.dependency:
            add(dependency)
        for message in file.message_type:
            for field in message.field:
                if field.type == FieldDescriptor.TYPE_STRING:
                    field.type = FieldDescriptor.TYPE_BYTES  # type: ignore[assignment]
        pool.AddSerializedFile(file.SerializeToString())

    add(file_name)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
