"""``vzero.v1.ValueService``: values out, outcomes in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.api import convert
from vzero_server.api.interceptors import Gate
from vzero_server.api.status import Context, UnavailableError
from vzero_server.contexts.log import Appended
from vzero_server.engine.engine import Engine

# Chunks of one stream on their way to the disk at once, so that a commit can hold several.
_CHUNKS_IN_FLIGHT = 8

_Ack = tuple[str, asyncio.Task[Appended]]


class ValueService(value_pb2_grpc.ValueServiceServicer):
    """Serves values from the engine, which is attached before calls are let in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._engine: Engine

    def attach(self, engine: Engine) -> None:
        """Take the engine into service."""
        self._engine = engine

    async def Predict(
        self, request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        """Values of prompts, in order."""
        prediction = await self._engine.values(
            request.policy_id,
            request.prompts,
            estimator=convert.ESTIMATORS[request.estimator],
            as_of_step=request.as_of_step if request.HasField("as_of_step") else None,
            min_version=request.min_version if request.HasField("min_version") else None,
            with_peers=request.with_peers if request.HasField("with_peers") else True,
        )
        return convert.predict_response(prediction)

    async def UpdateContext(
        self,
        request_iterator: AsyncIterator[value_pb2.UpdateContextRequest],
        context: Context,
    ) -> AsyncIterator[value_pb2.UpdateContextResponse]:
        """Append chunks, and acknowledge each once it is durable.

        Whatever ends the stream (its end, a bad chunk, draining), the chunks taken before
        are appended and acknowledged first.
        """
        acks: asyncio.Queue[_Ack | Exception | None] = asyncio.Queue(_CHUNKS_IN_FLIGHT)
        reader = asyncio.create_task(self._read(request_iterator, acks))
        try:
            while (ack := await acks.get()) is not None:
                if isinstance(ack, Exception):
                    raise ack
                policy_id, appending = ack
                appended = await appending
                yield value_pb2.UpdateContextResponse(
                    policy_id=policy_id,
                    version=appended.version,
                    accepted=appended.accepted,
                    duplicates=appended.duplicates,
                )
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(
        self,
        requests: AsyncIterator[value_pb2.UpdateContextRequest],
        acks: "asyncio.Queue[_Ack | Exception | None]",
    ) -> None:
        """Start appending each chunk as it comes; then say how the stream ended."""
        draining = asyncio.create_task(self._gate.draining.wait())
        end: Exception | None = None
        try:
            while True:
                chunk = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait({chunk, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done():
                    chunk.cancel()
                    end = UnavailableError("the server is draining")
                    break
                request = chunk.result()
                if request is None:
                    break
                outcomes = convert.outcomes_from(request)
                appending = asyncio.create_task(self._engine.update(request.policy_id, outcomes))
                # The caller may be gone before its chunk is stored, or fails to be.
                appending.add_done_callback(lambda task: task.cancelled() or task.exception())
                await acks.put((request.policy_id, appending))
        except Exception as error:
            end = error
        finally:
            draining.cancel()
        await acks.put(end)
