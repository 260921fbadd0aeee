"""Locust users over gRPC: ``python -m locust -f load_tests/locustfile.py --host HOST:PORT``.

Each RPC is one locust request, named after the RPC; its type is the kind of user. Failures carry
the status code.
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

from load_tests import policies  # noqa: E402
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
"""Status codes of an overloaded server: failures of a request, but not of the run."""

RUN = f"{time.time_ns():x}"
"""Name of this run; part of the names of its policies and prompts."""

FLEET = [f"load-router-{RUN}-{number}" for number in range(4)]
"""Policies that routers choose from."""

logger = logging.getLogger(__name__)
_user_numbers = itertools.count()


class RequestError(Exception):
    """A failed request, named by its status code."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code


class GrpcUser(User):
    """A user with its own connection."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        assert self.host is not None
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(self.host, options)
        self.stub = value_pb2_grpc.ValueServiceStub(self.channel)
        self.name = f"{RUN}-{next(_user_numbers)}"
        self.source = PromptSource(self.name)
        self.random = Random(self.name)

    def on_stop(self) -> None:
        """Disconnect."""
        self.channel.close()

    @contextmanager
    def request(self, rpc: str) -> Iterator[Callable[[int], None]]:
        """Time an RPC and report it; yields a function that adds the size of a reply in bytes.

        A failed RPC is reported but not raised, as it is not an error of the user.
        """
        length = 0
        failure: RequestError | None = None

        def add_reply(size: int) -> None:
            nonlocal length
            length += size

        began = time.perf_counter()
        try:
            yield add_reply
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
        """Request the values of prompts."""
        request = predict_request(policy_id, prompts)
        with self.request("Predict") as add_reply:
            response = self.stub.Predict(request, timeout=TIMEOUT)
            add_reply(response.ByteSize())
            check_values(request, response)


class TrainerUser(GrpcUser):
    """A training run: requests values of a batch, then sends outcomes of its rollouts."""

    weight = 1
    wait_time = constant(1)

    def on_start(self) -> None:
        """Connect and create the policy."""
        super().on_start()
        self.policy_id = f"load-trainer-{self.name}"
        self.step = 0
        policies.create(self.channel, [self.policy_id])

    def on_stop(self) -> None:
        """Delete the policy and disconnect."""
        policies.delete(self.channel, [self.policy_id])
        super().on_stop()

    @task
    def training_step(self) -> None:
        """Make one training step."""
        options = self.environment.parsed_options
        prompts = self.source.take(self.random.randint(options.batch_min, options.batch_max))
        self.predict(self.policy_id, prompts)
        self.step += 1
        requests = chunks(self.policy_id, prompts, run=self.name, step=self.step)
        with self.request("UpdateContext") as add_reply:
            acks = []
            for ack in self.stub.UpdateContext(iter(requests), timeout=TIMEOUT):
                add_reply(ack.ByteSize())
                acks.append(ack)
            check_acks(requests, acks)


class RouterUser(GrpcUser):
    """A router: requests the values of one prompt under every policy of the fleet."""

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
    parser.add_argument("--batch-min", type=int, default=64, help="Minimum prompts of a step")
    parser.add_argument("--batch-max", type=int, default=256, help="Maximum prompts of a step")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _create_fleet(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    with grpc.insecure_channel(environment.host or "") as channel:
        policies.create(channel, FLEET)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def _delete_fleet(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    with grpc.insecure_channel(environment.host or "") as channel:
        policies.delete(channel, FLEET)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _set_exit_code(environment: Environment, **_: Any) -> None:  # noqa: ANN401
    """Fail the run on unexpected errors."""
    unexpected = [
        error
        for error in environment.stats.errors.values()
        if not any(f"{code}:" in str(error.error) for code in EXPECTED)
    ]
    for error in unexpected:
        logger.error("%s %s: %d times %s", error.method, error.name, error.occurrences, error.error)
    crashed = bool(environment.runner and environment.runner.exceptions)
    environment.process_exit_code = int(bool(unexpected) or crashed)
