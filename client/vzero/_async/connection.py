"""Connection of an asyncio client to a server."""

from types import TracebackType
from typing import Self, TypeVar

import grpc

from vzero._concurrency import async_sleep
from vzero._transport import health
from vzero._transport.deadline import Deadline
from vzero._transport.endpoint import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Endpoint
from vzero._transport.services import AsyncServices
from vzero._transport.status import from_rpc_error, translated_errors
from vzero.errors import Unavailable

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class AsyncConnection:
    """Base of the client: address, channel, deadlines and unary calls."""

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
        """Prepare a connection. The first call opens it.

        Args:
            address: ``host:port`` or ``unix:/path``.
            timeout: longest time a call may take, seconds > 0.
            secure: whether to use TLS with the root certificates of the system.
            root_certificates: root certificates for TLS, PEM; they imply ``secure``.
            credentials: credentials for TLS, for example with a client certificate.
            token: bearer token to send with every call.

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
        self._services = AsyncServices(self._endpoint)

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the server is reachable, has loaded its models and accepts calls.

        Args:
            timeout: longest wait, seconds; None: the timeout of the client.

        Raises:
            Unavailable: the server is not ready in time.
            Unauthenticated: the server does not accept the token.
        """
        deadline = self._deadline(timeout)
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        check = self._services.channel.unary_unary(health.METHOD)
        cause: grpc.RpcError | None = None
        while seconds := deadline.left():
            try:
                reply = await check(
                    health.REQUEST,
                    timeout=seconds,
                    metadata=self._endpoint.metadata(),
                    wait_for_ready=True,
                )
                if health.is_serving(reply):
                    return
            except grpc.RpcError as error:
                if health.is_final(error):
                    raise from_rpc_error(error) from error
                cause = error
            await async_sleep(min(health.PAUSE_SECONDS, deadline.left()))
        raise Unavailable(
            f"no server is ready at {self._endpoint.address}: check the address, or wait longer"
        ) from cause

    async def close(self) -> None:
        """Close the connection. Close streams before it."""
        await self._services.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._endpoint.timeout if timeout is None else timeout)

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        timeout: float | None,
        policy_id: str | None = None,
    ) -> Reply:
        """Make a unary call.

        Args:
            method: method of a stub.
            request: message to send.
            timeout: longest time of the call, seconds; None: the timeout of the client.
            policy_id: policy of the call, for routers.

        Raises:
            VzeroError: the call failed.
        """
        seconds = self._deadline(timeout).left()
        with translated_errors():
            return await method(
                request, timeout=seconds, metadata=self._endpoint.metadata(policy_id)
            )
