"""An open connection to a server; what both clients stand on."""

import asyncio
import time
from functools import cached_property
from types import TracebackType
from typing import Self, TypeVar

import grpc

from vzero import health
from vzero.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Endpoint
from vzero.errors import Unavailable, from_rpc_error, translated
from vzero.retry import Deadline
from vzero.v1 import policy_pb2_grpc, value_pb2_grpc

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Settings:
    """Where the server is and how to talk to it; checked when a client is made."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        secure: bool = False,
        root_certificates: bytes | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
    ) -> None:
        """Prepare a connection; it is made when first used.

        Args:
            address: ``host:port`` or ``unix:/path``.
            timeout: longest time a call may take, seconds > 0.
            secure: use TLS with the root certificates of the system.
            root_certificates: use TLS with these root certificates, PEM.
            credentials: use TLS with these credentials, for example with a client certificate.
            token: bearer token sent with every call.

        Raises:
            ValueError: the address has another form, or the timeout is not positive.
        """
        self._endpoint = Endpoint.of(
            address,
            timeout=timeout,
            secure=secure,
            root_certificates=root_certificates,
            credentials=credentials,
            token=token,
        )
        self._prepare()

    def _prepare(self) -> None:
        """Do what must be done once, before threads share the client."""

    def _headers(self, policy_id: str | None = None) -> tuple[tuple[str, str], ...]:
        return self._endpoint.metadata(policy_id)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._endpoint.timeout if timeout is None else timeout)

    def _not_ready(self) -> Unavailable:
        return Unavailable(f"no server is ready at {self._endpoint.address}")


class Connection(Settings):
    """A blocking connection."""

    def _prepare(self) -> None:
        self._channel = self._endpoint.open()
        self._values = value_pb2_grpc.ValueServiceStub(self._channel)
        self._policies = policy_pb2_grpc.PolicyServiceStub(self._channel)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the server is reachable, warm and serving.

        Raises:
            Unavailable: it is not, in time.
        """
        deadline = self._deadline(timeout)
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        check = self._channel.unary_unary(health.METHOD)
        cause: grpc.RpcError | None = None
        while left := deadline.left():
            try:
                if health.is_serving(
                    check(
                        health.REQUEST,
                        timeout=left,
                        metadata=self._headers(),
                        wait_for_ready=True,
                    )
                ):
                    return
            except grpc.RpcError as error:
                if health.is_final(error):
                    raise from_rpc_error(error) from error
                cause = error
            time.sleep(min(health.PAUSE, deadline.left()))
        raise self._not_ready() from cause

    def close(self) -> None:
        """Close the connection. Close streams first."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        call: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        policy_id: str | None,
        timeout: float | None,
    ) -> Reply:
        seconds = self._deadline(timeout).left()
        with translated():
            return call(request, timeout=seconds, metadata=self._headers(policy_id))


class AsyncConnection(Settings):
    """A connection on the event loop on which it is first used."""

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return self._endpoint.open_async()

    @cached_property
    def _values(self) -> "value_pb2_grpc.ValueServiceAsyncStub":
        return value_pb2_grpc.ValueServiceStub(self._channel)

    @cached_property
    def _policies(self) -> "policy_pb2_grpc.PolicyServiceAsyncStub":
        return policy_pb2_grpc.PolicyServiceStub(self._channel)

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the server is reachable, warm and serving.

        Raises:
            Unavailable: it is not, in time.
        """
        deadline = self._deadline(timeout)
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        check = self._channel.unary_unary(health.METHOD)
        cause: grpc.RpcError | None = None
        while left := deadline.left():
            try:
                if health.is_serving(
                    await check(
                        health.REQUEST,
                        timeout=left,
                        metadata=self._headers(),
                        wait_for_ready=True,
                    )
                ):
                    return
            except grpc.RpcError as error:
                if health.is_final(error):
                    raise from_rpc_error(error) from error
                cause = error
            await asyncio.sleep(min(health.PAUSE, deadline.left()))
        raise self._not_ready() from cause

    async def close(self) -> None:
        """Close the connection. Close streams first."""
        if "_channel" in vars(self):
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(
        self,
        call: "grpc.aio.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        policy_id: str | None,
        timeout: float | None,
    ) -> Reply:
        seconds = self._deadline(timeout).left()
        with translated():
            return await call(request, timeout=seconds, metadata=self._headers(policy_id))
