"""Read options: how the server computes values. Every option is named here and nowhere else."""

from typing import Any, TypedDict

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from vzero._checks import check_count, check_name, check_number

_MAX_CHOICE_LENGTH = 64
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_FLOATS = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}


class ValueOptions(TypedDict, total=False):
    """Options of every call that computes values.

    Attributes:
        estimator: name of the estimator, such as ``"ICL"`` or ``"KNN"``, in any case;
            `Client.server_info` lists the names. ``"AUTO"``, the default, leaves the choice to
            the server.
        with_peers: whether to correct values by the rewards of other policies on the same
            prompts. Default True.
        with_history: whether to combine values with the policy's own past outcomes of the same
            prompts. Default True.
    """

    estimator: str
    with_peers: bool
    with_history: bool


class ReadOptions(ValueOptions, total=False):
    """Options of calls that read the log of one policy.

    Attributes:
        as_of_step: use only outcomes that have a step of at most this, >= 0. None, the default:
            use all outcomes.
        min_version: wait until the policy has this version, >= 0, such as ``ack.version``. None,
            the default: use the newest version.
    """

    as_of_step: int | None
    min_version: int | None


def write_options(
    call: str, request: Message, options: ValueOptions, allowed: type = ReadOptions
) -> None:
    """Check options and write them to the fields of a request that have their names.

    The type of the field says which values are valid.

    Args:
        call: name of the method, for the error.
        request: message of the call.
        options: options that the caller named.
        allowed: class of the options that the call takes.

    Raises:
        TypeError: the call takes no such option.
        InvalidArgument: a value breaks a rule.
    """
    names = allowed.__annotations__
    for name, value in options.items():
        if name not in names:
            raise TypeError(
                f"{call}() got an unexpected keyword argument {name!r}; "
                f"its read options are {', '.join(names)}"
            )
        field = request.DESCRIPTOR.fields_by_name[name]
        if value is not None or not field.has_presence:
            setattr(request, name, _checked(name, field.cpp_type, value))


def _checked(name: str, cpp_type: int, value: object) -> Any:  # noqa: ANN401 - by type of field
    """Return the value of an option as its field holds it."""
    if cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return bool(value)
    if cpp_type in _INTEGERS:
        return check_count(name, value)
    if cpp_type in _FLOATS:
        return check_number(name, value)
    return check_name(name, value, _MAX_CHOICE_LENGTH).lower()
