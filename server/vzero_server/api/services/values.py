"""``vzero.v1.ValueService``: values, decisions and updates."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.api.admission import ServingGate
from vzero_server.api.allocation import allocate_by_values
from vzero_server.api.call import Context
from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.decisions import (
    allocate_response,
    allocation_options,
    check_ranked,
    rank_response,
    ranking_criteria,
)
from vzero_server.api.messages.options import read_options
from vzero_server.api.messages.values import predict_response
from vzero_server.api.ranking import PolicyRanker
from vzero_server.api.update_stream import UpdateStream
from vzero_server.api.workers import EdgeWorkers
from vzero_server.engine.predictor import Predictor
from vzero_server.storage.base import OutcomeStore

# Prompts whose reply takes longer to build than the event loop may halt.
_MANY_PROMPTS = 256


class ValueService(value_pb2_grpc.ValueServiceServicer):
    """Serves values and decisions, and takes outcomes in."""

    def __init__(self, gate: ServingGate, workers: EdgeWorkers) -> None:
        self._gate = gate
        self._workers = workers
        self._store: OutcomeStore
        self._predictor: Predictor
        self._ranker: PolicyRanker

    def attach(self, store: OutcomeStore, predictor: Predictor) -> None:
        """Set store and predictor, before calls are admitted."""
        self._store = store
        self._predictor = predictor
        self._ranker = PolicyRanker(store, predictor)

    async def Predict(
        self, request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        """Return the values of prompts, in order."""
        prediction = await self._predictor.values(
            request.policy_id, request.prompts, read_options(request)
        )
        if len(request.prompts) > _MANY_PROMPTS:
            return await self._workers.replies.run(predict_response, prediction)
        return predict_response(prediction)

    async def AllocateBudget(
        self, request: value_pb2.AllocateBudgetRequest, context: Context
    ) -> value_pb2.AllocateBudgetResponse:
        """Return the number of rollouts of each prompt."""
        options = allocation_options(request)
        prediction = await self._predictor.values(
            request.policy_id, request.prompts, read_options(request)
        )

        def allocate() -> value_pb2.AllocateBudgetResponse:
            return allocate_response(allocate_by_values(prediction.values, options), prediction)

        return await self._workers.allocations.run(allocate)

    async def RankModels(
        self, request: value_pb2.RankModelsRequest, context: Context
    ) -> value_pb2.RankModelsResponse:
        """Return policies in order, for each prompt."""
        check_ranked(request)
        policy_ids = request.policy_ids or await self._policies_of_fleet(request.fleet)
        ranked = await self._ranker.rank(
            policy_ids, request.prompts, ranking_criteria(request), read_options(request)
        )
        # Many candidates take longer to write than the event loop may halt.
        return await self._workers.replies.run(rank_response, ranked)

    async def _policies_of_fleet(self, name: str) -> tuple[str, ...]:
        fleet = await self._store.fleet(name)
        if not fleet.policy_ids:
            raise InvalidRequestError.of("fleet", "has no policy left")
        return tuple(fleet.policy_ids)

    async def UpdateContext(
        self,
        request_iterator: AsyncIterator[value_pb2.UpdateContextRequest],
        context: Context,
    ) -> AsyncIterator[value_pb2.UpdateContextResponse]:
        """Append chunks and acknowledge each once it is durable."""
        stream = UpdateStream(self._predictor.update, self._gate.draining)
        async with aclosing(stream.acknowledge(request_iterator)) as acknowledgements:
            async for acknowledgement in acknowledgements:
                yield acknowledgement
