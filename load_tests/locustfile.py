"""Locust users over gRPC: ``python -m locust -f load_tests/locustfile.py --host HOST:PORT``.

Each RPC is one locust request: its name is the RPC, its type the kind of user, and a
failure carries the status code.
"""

import itertools
import logging
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import grpc
from grpc.experimental.gevent import init_gevent
from locust import User, between, constant, events, task
from locust.env import Environment

init_gevent()  # before the first channel

from load_tests.fleet import fill, forget  # noqa: E402
from load_tests.messages import (  # noqa: E402
    WrongReplyError,
    check_acks,
    check_values,
    chunks,
    predict_request,
)
from load_tests.prompts import PromptSource  # noqa: E402
from vzero.v1 import value_pb2_grpc  # noqa: E402

TIMEOUT = 60.0
"""Deadline of every call, in seconds."""

EXPECTED = {"RESOURCE_EXHAUSTED"}
"""Refusals of a full server: failures of a request, but not of the run."""

RUN = f"{time.time_ns():x}"
"""Tells the policies and prompts of this process from those of others."""

FLEET = [f"load-router-{RUN}-{number}" for number in range(4)]
"""Policies that routers choose between."""

logger = logging.getLogger(__name__)
_numbers = itertools.count()


class RequestError(Exception):
    """A failed request, named by its status code."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code


class GrpcUser(User):
    """A user with a connection of its own."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        assert self.host is not None
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(self.host, options)
        self.stub = value_pb2_grpc.ValueServiceStub(self.channel)
        self.name = f"{RUN}-{next(_numbers)}"
        self.source = PromptSource(self.name)
        self.random = Random(self.name)

    def on_stop(self) -> None:
        """Disconnect."""
        self.channel.close()

    @contextmanager
    def request(self, rpc: str) -> Iterator[Callable[[int], None]]:
        """Time an RPC and report it; call what is yielded with the length of the reply.

        A failure is reported and swallowed, as a failed request is no error of the user.
        """
        length = 0
        failure: RequestError | None = None

        def replied(size: int) -> None:
            nonlocal length
            length += size

        began = time.perf_counter()
        try:
            yield replied
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            failure = RequestError(error.code().name, error.details() or "")
        except WrongReplyError as error:
            failure = RequestError("WRONG_REPLY", str(error))
        self.environment.events.request.fire(
            request_type=type(self).__name__,
            name=rpc,
            response_time=1000 * (time.perf_counter() - began),
            response_length=length,
            exception=failure,
            context={},
        )

    def predict(self, policy_id: str, prompts: list[str]) -> None:
        """Ask for the values of prompts."""
        request = predict_request(policy_id, prompts)
        with self.request("Predict") as replied:
            response = self.stub.Predict(request, timeout=TIMEOUT)
            replied(response.ByteSize())
            check_values(request, response)


class TrainerUser(GrpcUser):
    """A training run: values of a batch, rollouts, then their outcomes."""

    weight = 1
    wait_time = constant(1)

    def on_start(self) -> None:
        """Connect and make the policy known."""
        super().on_start()
        self.policy_id = f"load-trainer-{self.name}"
        self.step = 0
        fill(self.channel, [self.policy_id])

    def on_stop(self) -> None:
        """Take the policy away and disconnect."""
        forget(self.channel, [self.policy_id])
        super().on_stop()

    @task
    def training_step(self) -> None:
        """One step of training."""
        options = self.environment.parsed_options
        prompts = self.source.take(self.random.randint(options.batch_min, options.batch_max))
        self.predict(self.policy_id, prompts)
        self.step += 1
        requests = chunks(self.policy_id, prompts, run=self.name, step=self.step)
        with self.request("UpdateContext") as replied:
            acks = []
            for ack in self.stub.UpdateContext(iter(requests), timeout=TIMEOUT):
                replied(ack.ByteSize())
                acks.append(ack)
            check_acks(requests, acks)


class RouterUser(GrpcUser):
    """A router: the values of one prompt under every policy of the fleet."""

    weight = 3
    wait_time = between(0.01, 0.1)

    @task
    def route(self) -> None:
        """Choose a policy for one prompt."""
        prompts = self.source.take(1)
        for policy_id in FLEET:
            self.predict(policy_id, prompts)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--batch-min", type=int, default=64, help="Least prompts of a step")
    parser.add_argument("--batch-max", type=int, default=256, help="Most prompts of a step")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _fill_fleet(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    with grpc.insecure_channel(environment.host or "") as channel:
        fill(channel, FLEET)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def _forget_fleet(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    with grpc.insecure_channel(environment.host or "") as channel:
        forget(channel, FLEET)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    """Let the run fail on every error but an expected one."""
    unexpected = [
        error
        for error in environment.stats.errors.values()
        if not any(f"{code}:" in str(error.error) for code in EXPECTED)
    ]
    for error in unexpected:
        logger.error("%s %s: %d times %s", error.method, error.name, error.occurrences, error.error)
    crashed = bool(environment.runner and environment.runner.exceptions)
    environment.process_exit_code = int(bool(unexpected) or crashed)
