"""``vzero.v1.ValueService``: values out, outcomes in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import numpy as np

from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.api import convert, decisions
from vzero_server.api.errors import Context, InvalidRequestError, UnavailableError, Violation
from vzero_server.api.interceptors import Gate
from vzero_server.decisions import ranking
from vzero_server.decisions.costs import normalised_costs
from vzero_server.engine.context.context_cache import EstimatorName
from vzero_server.engine.predictor import Prediction, Predictor
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Appended
from vzero_server.types import FloatArray
from vzero_server.values.values import Basis

# Chunks of one stream on their way to the disk at once, so that a commit can hold several.
_CHUNKS_IN_FLIGHT = 8
# Prompts whose reply takes longer to write than the event loop may halt.
_MANY_PROMPTS = 256
# Preference of a ranking that names none.
_BETA = 0.7

_Ack = tuple[str, asyncio.Task[Appended]]


class ValueService(value_pb2_grpc.ValueServiceServicer):
    """Serves values and decisions; store and engine are attached before calls are let in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._store: OutcomeStore
        self._engine: Predictor

    def attach(self, store: OutcomeStore, engine: Predictor) -> None:
        """Take store and engine into service."""
        self._store = store
        self._engine = engine

    async def Predict(
        self, request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        """Values of prompts, in order."""
        prediction = await self._prediction(request)
        if len(request.prompts) > _MANY_PROMPTS:
            return await asyncio.to_thread(convert.predict_response, prediction)
        return convert.predict_response(prediction)

    async def AllocateBudget(
        self, request: value_pb2.AllocateBudgetRequest, context: Context
    ) -> value_pb2.AllocateBudgetResponse:
        """Rollouts of each prompt."""
        decisions.check_token_costs(request)
        prediction = await self._prediction(request)
        return await asyncio.to_thread(decisions.allocated, request, prediction)

    async def _prediction(
        self, request: value_pb2.PredictRequest | value_pb2.AllocateBudgetRequest
    ) -> Prediction:
        """Values as a request asks for them; what it leaves unset has its default."""
        return await self._engine.values(
            request.policy_id,
            request.prompts,
            estimator=convert.estimator_from(request.estimator),
            as_of_step=request.as_of_step if request.HasField("as_of_step") else None,
            min_version=request.min_version if request.HasField("min_version") else None,
            with_peers=request.with_peers if request.HasField("with_peers") else True,
            with_history=request.with_history if request.HasField("with_history") else True,
        )

    async def RankModels(
        self, request: value_pb2.RankModelsRequest, context: Context
    ) -> value_pb2.RankModelsResponse:
        """Policies in order, for each prompt."""
        policy_ids = await self._policies_of(request)
        betas = list(request.betas) or [_BETA]
        estimator = convert.estimator_from(request.estimator)
        # Side by side: what policies cost is on the disk, what they are worth in memory.
        records, predictions = await asyncio.gather(
            self._store.policies_by_id(policy_ids),
            self._engine.values_of_many(
                policy_ids,
                request.prompts,
                estimator=estimator,
                with_peers=request.with_peers if request.HasField("with_peers") else True,
                with_history=request.with_history if request.HasField("with_history") else True,
            ),
        )
        costs = decisions.expected_costs(records, request.costs)
        cost = normalised_costs(costs)
        values = np.stack([prediction.values.mean for prediction in predictions], axis=1)
        if request.mode == value_pb2.RANK_MODE_PAPER:
            scores = np.stack(
                [
                    await self._relabelled(request, policy_ids, estimator, beta, cost, values)
                    for beta in betas
                ]
            )
        else:
            scores = ranking.decomposed_scores(values, cost, betas)
        passed = ranking.eligible(
            values,
            costs,
            min_value=request.min_value if request.HasField("min_value") else None,
            max_cost=request.max_cost if request.HasField("max_cost") else None,
            admitted=[request.labels.items() <= record.labels.items() for record in records],
        )
        ranked = ranking.rank(scores, cost, passed)
        # Many candidates take longer to write down than the event loop may halt.
        return await asyncio.to_thread(
            decisions.rank_response, ranked, betas, policy_ids, predictions, costs
        )

    async def _policies_of(self, request: value_pb2.RankModelsRequest) -> Sequence[str]:
        if bool(request.policy_ids) == bool(request.fleet):
            raise InvalidRequestError([Violation("policy_ids", "name policies, or else a fleet")])
        if request.policy_ids:
            return request.policy_ids
        fleet = await self._store.fleet(request.fleet)
        if not fleet.policy_ids:
            raise InvalidRequestError([Violation("fleet", "has no policy left")])
        return fleet.policy_ids

    async def _relabelled(
        self,
        request: value_pb2.RankModelsRequest,
        policy_ids: Sequence[str],
        estimator: EstimatorName,
        beta: float,
        cost: FloatArray,
        values: FloatArray,
    ) -> FloatArray:
        """Values of contexts whose rewards are replaced by labels (Eq. 11), ``[n, P]``."""
        labels = [ranking.Label.of(beta, float(one)) for one in cost]
        predictions = await self._engine.values_of_many(
            policy_ids, request.prompts, estimator=estimator, labels=labels
        )
        scores = []
        for prediction, label, value in zip(predictions, labels, values.T, strict=True):
            # A prior is about rewards, with hardly a row that could be labelled otherwise.
            prior = prediction.values.basis is Basis.PRIOR
            scores.append(label.scale * value + label.shift if prior else prediction.values.mean)
        return np.stack(scores, axis=1)

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
                    version=appended.policy.version,
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
