"""Reference for latency: an asyncio gRPC server that only returns bytes.

``python -m benchmarks.echo --reply-bytes N`` serves on a free loopback port, which it prints,
until its standard input is closed.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

import grpc
import uvloop

from load_tests.loop import CompletedCall, closed_loop

_METHOD = "/benchmarks.Echo/Call"


class EchoServer:
    """An echo server in a separate process.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self, *, reply_bytes: int) -> None:
        command = [sys.executable, "-m", "benchmarks.echo", "--reply-bytes", str(reply_bytes)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> "EchoServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)


def send(
    address: str, *, request_bytes: int, concurrency: int, seconds: float, warmup: float
) -> dict[str, Any]:
    """Call an echo server in a closed loop and return ``Tally.summary``."""
    return uvloop.run(_send(address, bytes(request_bytes), concurrency, seconds, warmup))


async def _send(
    address: str, request: bytes, concurrency: int, seconds: float, warmup: float
) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)

        async def caller() -> CompletedCall:
            await call(request, timeout=60.0)
            return CompletedCall("Echo", 1)

        callers = [caller] * concurrency
        await closed_loop(callers, seconds=warmup, most_calls=1_000_000)
        began = time.perf_counter()
        tally = await closed_loop(callers, seconds=seconds, most_calls=1_000_000)
        return tally.summary(time.perf_counter() - began)


async def _serve(reply: bytes) -> None:
    async def echo(_request: bytes, _context: object) -> bytes:
        return reply

    service, method = _METHOD[1:].split("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        method: grpc.unary_unary_rpc_method_handler(echo)
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reply-bytes", type=int, required=True)
    uvloop.run(_serve(bytes(parser.parse_args().reply_bytes)))
