"""The page docs/api.md agrees with the package ``vzero``."""

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import is_typeddict

import pytest

import vzero
from tests import documents

SPANS = documents.code_spans((documents.ROOT / "docs" / "api.md").read_text())
NAMED = set(re.findall(r"\w+", " ".join(SPANS)))
METHODS = {
    name: [getattr(kind, name) for kind in (vzero.Client, vzero.Stream) if hasattr(kind, name)]
    for name in {*dir(vzero.Client), *dir(vzero.Stream)}
}
CALLS = [span for span in SPANS if re.fullmatch(r"\w+\(.*\)", span)]


def test_every_public_name_is_on_the_page() -> None:
    assert set(vzero.__all__) <= NAMED
    exceptions = {
        name
        for name, value in vars(vzero.errors).items()
        if inspect.isclass(value) and issubclass(value, vzero.VzeroError)
    }
    assert exceptions <= NAMED


@pytest.mark.parametrize("name", vzero.__all__)
def test_every_public_member_is_on_the_page(name: str) -> None:
    value = getattr(vzero, name)
    if is_typeddict(value):
        assert set(value.__annotations__) <= NAMED
    elif inspect.isclass(value) and not issubclass(value, Exception):
        members = {member for member in dir(value) if not member.startswith("_")}
        members |= {field.name for field in fields(value)} if is_dataclass(value) else set()
        assert members <= NAMED


@pytest.mark.parametrize("call", [call for call in CALLS if call.partition("(")[0] in METHODS])
def test_signatures_equal_those_of_the_code(call: str) -> None:
    name, _, arguments = call.removesuffix(")").partition("(")
    listed = re.findall(r"(\w+)(?:=([^,]*))?(?:, |$)", arguments.replace("**options", ""))
    stated = {
        parameter: eval(default, {"KEEP": vzero.KEEP}) if default else inspect.Parameter.empty
        for parameter, default in listed
    }
    # Timeouts and read options of all methods are described once on the page.
    omitted = {"self", "options", "timeout"} - set(stated)
    assert stated in [
        {
            parameter.name: parameter.default
            for parameter in inspect.signature(method).parameters.values()
            if parameter.name not in omitted
        }
        for method in METHODS[name]
    ]


def test_blocking_and_asynchronous_classes_have_the_same_methods() -> None:
    for blocking, asynchronous in (
        (vzero.Client, vzero.AsyncClient),
        (vzero.Stream, vzero.AsyncStream),
    ):
        for name in dir(blocking):
            if not name.startswith("_"):
                method, twin = getattr(blocking, name), getattr(asynchronous, name)
                assert callable(method) == callable(twin), name
                if callable(method):
                    assert list(inspect.signature(method).parameters) == list(
                        inspect.signature(twin).parameters
                    ), name
