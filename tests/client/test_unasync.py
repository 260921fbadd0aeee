"""The blocking client is what ``tools/unasync.py`` generates."""

from tools.unasync import GENERATED, blocking, generate


def test_the_generated_modules_are_up_to_date() -> None:
    assert generate() == {path.name: path.read_text() for path in GENERATED.glob("*.py")}


def test_code_and_docstrings_are_translated() -> None:
    source = '''"""An asyncio client."""

from vzero._async.a import AsyncThing, async_sleep


async def use(thing: "grpc.aio.Call") -> None:
    """Use `AsyncThing` in an ``async with`` block."""
    async with AsyncThing() as opened:
        await async_sleep(await opened.seconds())
        async for _ in opened:
            pass
'''
    header, code = blocking(source, "a.py").split("\n", 1)
    assert "Do not edit" in header
    assert (
        code
        == '''"""A blocking client."""

from vzero._sync.a import Thing, sleep


def use(thing: "grpc.Call") -> None:
    """Use `Thing` in a ``with`` block."""
    with Thing() as opened:
        sleep(opened.seconds())
        for _ in opened:
            pass
'''
    )
