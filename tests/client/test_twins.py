"""The blocking and the asyncio client have the same methods, arguments and documentation."""

import inspect
from typing import Any

import pytest

import vzero

TWINS = [(vzero.Client, vzero.AsyncClient), (vzero.Stream, vzero.AsyncStream)]
METHODS = [
    (blocking, asynchronous, name)
    for blocking, asynchronous in TWINS
    for name in dir(blocking)
    if not name.startswith("_")
]


def described(parameter: inspect.Parameter) -> tuple[Any, ...]:
    annotation = inspect.formatannotation(parameter.annotation)
    return parameter.name, parameter.kind, parameter.default, annotation


@pytest.mark.parametrize(("blocking", "asynchronous"), TWINS)
def test_public_names_are_the_same(blocking: type, asynchronous: type) -> None:
    names = {name for name in dir(blocking) if not name.startswith("_")}
    assert names == {name for name in dir(asynchronous) if not name.startswith("_")}
    assert len(names) >= 6


@pytest.mark.parametrize(
    ("blocking", "asynchronous", "name"), METHODS, ids=[f"{a.__name__}.{n}" for a, _, n in METHODS]
)
def test_signatures_and_docstrings_are_the_same(
    blocking: type, asynchronous: type, name: str
) -> None:
    method, twin = getattr(blocking, name), getattr(asynchronous, name)
    assert method.__doc__
    assert method.__doc__.replace("a ``with``", "an ``async with``") == twin.__doc__
    if isinstance(method, property):
        return
    signature, other = inspect.signature(method), inspect.signature(twin)
    assert [described(parameter) for parameter in signature.parameters.values()] == [
        described(parameter) for parameter in other.parameters.values()
    ]
    result = inspect.formatannotation(other.return_annotation)
    assert inspect.formatannotation(signature.return_annotation) == result.replace(
        "vzero._async.stream.AsyncStream", "vzero._sync.stream.Stream"
    )


def test_only_waiting_methods_are_coroutines() -> None:
    for blocking, asynchronous, name in METHODS:
        assert not inspect.iscoroutinefunction(getattr(blocking, name))
        waits = name != "stream" and not isinstance(getattr(asynchronous, name), property)
        assert inspect.iscoroutinefunction(getattr(asynchronous, name)) == waits, name


def test_constructors_are_the_same() -> None:
    constructors = [inspect.signature(client) for client in (vzero.Client, vzero.AsyncClient)]
    assert constructors[0].parameters == constructors[1].parameters
