"""Faults inside a server, and misbehaving callers."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.server_metrics import metric
from tests.api.admin import get
from tests.api.calls import Stubs, detail, refused
from tests.api.faulty_server import (
    HANG_CONTEXT,
    HANG_DEVICE,
    HANG_HEAD,
    HANG_TOKENISER,
    HANG_WRITER,
    HOLD_DEVICE,
    KILL_WRITER,
    POISON_DEVICE,
    POISON_HEAD,
    POISON_TOKENISER,
    REWARDS,
    FaultyServer,
)
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.observability.watchdog import FAULT_EXIT_CODE
from vzero_server.testing.local_server import LocalServer


def rewards_of(name: str) -> value_pb2.UpdateContextRequest:
    """A chunk whose rewards identify the policy to parts that do not see its name."""
    rows = [outcome(str(i), f"p{i}", reward=REWARDS[name]) for i in range(10)]
    return chunk(name, rows)


@pytest.fixture
def faulty(tmp_path: Path, tiny_model: Path) -> Iterator[FaultyServer]:
    settings = {"head": "none", "peers": 0, "hang_timeout": 2.0, "drain_timeout": 1.0}
    with FaultyServer(tmp_path / "data", backbone=tiny_model, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Stubs]:
    folder = tmp_path_factory.mktemp("poisoned") / "data"
    with FaultyServer(folder, backbone=tiny_model, head="none", peers=0) as running:
        stubs = Stubs(running)
        stubs.update(chunk("p", sums(20)), rewards_of(POISON_HEAD))
        yield stubs
        assert running.running


# A failing prompt or query.


@pytest.mark.parametrize(
    ("policy", "prompt"),
    [("p", POISON_TOKENISER), ("p", POISON_DEVICE), (POISON_HEAD, "a good prompt")],
)
def test_only_the_call_with_the_failing_prompt_fails(
    poisoned: Stubs, policy: str, prompt: str
) -> None:
    good = [
        poisoned.values.Predict.future(
            value_pb2.PredictRequest(policy_id="p", prompts=[f"{prompt} {i}"]), timeout=60
        )
        for i in range(20)
    ]
    with refused(grpc.StatusCode.INTERNAL) as caught:
        poisoned.predict(policy, [prompt, "a good prompt of the same call"])
    assert all(len(call.result().values) == 1 for call in good)
    info = detail(caught[0], error_details_pb2.ErrorInfo)
    error_id = info.metadata["error_id"]  # type: ignore[attr-defined]
    assert re.fullmatch("[0-9a-f]{32}", error_id)
    assert error_id in caught[0].details()
    # Prompts of the same batch are not affected.
    assert len(poisoned.predict("p", ["a good prompt of the same call"]).values) == 1


@pytest.mark.parametrize("prompt", [POISON_TOKENISER, POISON_DEVICE])
def test_a_stored_prompt_that_cannot_be_embedded_is_skipped(poisoned: Stubs, prompt: str) -> None:
    """It was acknowledged; values rest on the other outcomes of the policy."""
    policy = f"of {prompt}"
    rows = [*sums(20), outcome("bad", prompt)]
    poisoned.update(chunk(policy, rows))
    reply = poisoned.predict(policy, ["a good prompt"])
    assert reply.context.rows == 20
    assert reply.context.version == 21
    assert poisoned.predict(policy, ["another"]).context.rows == 20


# Parts that hang or have died.


@pytest.mark.parametrize(
    ("policy", "prompt", "part"),
    [
        ("p", HANG_TOKENISER, "tokenise"),
        ("p", HANG_DEVICE, "engine"),
        (HANG_HEAD, "x", "estimator"),
        (HANG_CONTEXT, "x", "context"),
        (HANG_WRITER, None, "writer"),
        (KILL_WRITER, None, "writer"),
    ],
)
def test_a_failed_part_ends_the_process(
    faulty: FaultyServer, policy: str, prompt: str | None, part: str
) -> None:
    stubs = Stubs(faulty)
    stubs.update(chunk("p", sums(20)))
    assert get(faulty, "/readyz")[0] == 200
    watch = health_pb2_grpc.HealthStub(stubs.channel).Watch(
        health_pb2.HealthCheckRequest(service="vzero.v1.ValueService"), timeout=120
    )
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    if prompt is None:
        rows = [outcome("0", "x", reward=0.5)]
        stuck = stubs.values.UpdateContext(iter([chunk(policy, rows)]), timeout=120)
    else:
        if policy != "p":
            stubs.update(rewards_of(policy))
        # Too many for a query that runs inline, on the event loop.
        prompts = [prompt, *map(str, range(8))]
        request = value_pb2.PredictRequest(policy_id=policy, prompts=prompts)
        stuck = stubs.values.Predict.future(request, timeout=120)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    status, reason = get(faulty, "/readyz")
    assert status == 503
    assert reason.startswith(part)
    assert get(faulty, "/healthz")[0] == 200
    with pytest.raises(grpc.RpcError):
        list(stuck) if prompt is None else stuck.result()
    assert faulty.wait_for_exit() == FAULT_EXIT_CODE
    log = faulty.log.read_text()
    assert f"{part} has " in log
    assert "stacks of all threads" in log
    # Acknowledged outcomes are stored after a restart.
    faulty.start()
    assert Stubs(faulty).predict("p", ["y"]).context.version == 20


def test_a_call_that_is_late_or_cancelled_ends(poisoned: Stubs) -> None:
    """Both reach the handler, which drops the queued prompts and queries of the call."""
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        request = value_pb2.PredictRequest(policy_id="p", prompts=["late"], min_version=10_000)
        poisoned.values.Predict(request, timeout=0.2)
    call = poisoned.values.Predict.future(
        value_pb2.PredictRequest(policy_id="p", prompts=["gone"], min_version=10_000)
    )
    time.sleep(0.1)
    call.cancel()
    assert len(poisoned.predict("p", ["on time"]).values) == 1


def test_prompts_of_an_expired_call_do_not_count_against_the_limit(
    tmp_path: Path, tiny_model: Path
) -> None:
    """They leave the queue with their call, even while the device is busy."""
    settings = {"head": "none", "peers": 0, "max_queued_prompts": 64}
    release = tmp_path / "release"
    with FaultyServer(tmp_path / "data", backbone=tiny_model, **settings) as server:
        stubs = Stubs(server)
        stubs.update(chunk("p", sums(20)))
        stubs.predict("p", ["warm"])

        def call(name: str, count: int, timeout: float = 300.0) -> grpc.Future:
            prompts = [f"{name} {i}" for i in range(count)]
            request = value_pb2.PredictRequest(policy_id="p", prompts=prompts)
            return stubs.values.Predict.future(request, timeout=timeout)

        def wait_for_queued(prompts: int) -> None:
            while metric(server, "vzero_queued_prompts") != prompts:
                time.sleep(0.01)

        try:
            held = stubs.values.Predict.future(
                value_pb2.PredictRequest(policy_id="p", prompts=[f"{HOLD_DEVICE}{release}"]),
                timeout=300,
            )
            wait_for_queued(1)
            expiring = call("expiring", 63, timeout=2.0)
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
                expiring.result()
            wait_for_queued(1)
            staying = call("staying", 63)
            wait_for_queued(64)
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
                call("too many", 1).result()
        finally:
            release.touch()
        assert [len(reply.result().values) for reply in (held, staying)] == [1, 63]


# Callers that neither read nor write.


async def test_ten_thousand_idle_streams(tmp_path: Path, tiny_model: Path) -> None:
    """As many as the limit stay open; others are rejected with a retry delay."""
    with LocalServer(tmp_path / "data", backbone=tiny_model, max_open_streams=500) as server:
        stubs = Stubs(server)
        await asyncio.to_thread(stubs.update, chunk("p", sums(20)))
        before = memory(server)
        channel = grpc.aio.insecure_channel(server.address)
        stub = value_pb2_grpc.ValueServiceStub(channel)
        calls = [stub.UpdateContext() for _ in range(10_000)]
        codes: list[grpc.StatusCode] = []
        delays: list[float] = []

        async def follow(call: grpc.aio.StreamStreamCall) -> None:
            codes.append(await call.code())
            for key, value in await call.trailing_metadata() or ():
                if key == "grpc-retry-pushback-ms":
                    delays.append(float(value))

        following = [asyncio.create_task(follow(call)) for call in calls]
        async with asyncio.timeout(120):
            while len(codes) < 9_500:
                await asyncio.sleep(0.1)
        assert len(codes) == 9_500
        assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(delays) == len(codes)
        assert min(delays) > 0
        # Unary calls have a separate limit.
        reply = await asyncio.to_thread(stubs.predict, "p", ["x"])
        assert reply.context.version == 20
        assert await asyncio.to_thread(metric, server, "vzero_streams_open") == 500
        rejects = await asyncio.to_thread(
            lambda: metric(server, "vzero_rejects_total", reason="TOO_MANY_STREAMS")
        )
        assert rejects == 9_500
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            await asyncio.to_thread(stubs.update, chunk("p", sums(1)))
        assert detail(caught[0], error_details_pb2.RetryInfo).retry_delay.seconds > 0  # type: ignore[attr-defined]
        assert memory(server) - before < 200 << 20
        for call in calls:
            call.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await channel.close()
        # Their slots are free again.
        async with asyncio.timeout(30):
            while await asyncio.to_thread(metric, server, "vzero_streams_open"):
                await asyncio.sleep(0.1)
        assert (await asyncio.to_thread(stubs.update, chunk("p", sums(21))))[-1].version == 21


async def test_a_caller_that_never_reads_acks(tmp_path: Path, tiny_model: Path) -> None:
    """It is not served further; memory stays bounded and other calls are served."""
    with LocalServer(tmp_path / "data", backbone=tiny_model) as server:
        stubs = Stubs(server)
        await asyncio.to_thread(stubs.update, chunk("p", sums(20)))
        before = memory(server)
        # With small windows, acks fill the buffers after some thousand chunks.
        options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        channel = grpc.aio.insecure_channel(server.address, options)
        call = value_pb2_grpc.ValueServiceStub(channel).UpdateContext()
        request = chunk("q", [outcome("same", "a prompt " * 1000)])
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(20_000):
                await call.write(request)
                sent += 1

        sending = asyncio.create_task(send())
        seen = -1
        async with asyncio.timeout(60):
            while sent != seen:
                seen = sent
                await asyncio.sleep(1.5)
        assert 0 < sent < 20_000
        reply = await asyncio.to_thread(stubs.predict, "p", ["x"])
        assert reply.context.version == 20
        assert (await asyncio.to_thread(stubs.update, chunk("p", sums(21))))[-1].version == 21
        assert memory(server) - before < 200 << 20
        sending.cancel()
        call.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await channel.close()
        assert await asyncio.to_thread(server.terminate) == 0


def test_unary_calls_have_a_separate_limit(tmp_path: Path, tiny_model: Path) -> None:
    settings = {"max_concurrent_calls": 2, "max_open_streams": 1}
    with LocalServer(tmp_path / "data", backbone=tiny_model, **settings) as server:
        stubs = Stubs(server)
        stubs.update(chunk("p", sums(20)))
        waiting = [
            stubs.values.Predict.future(
                value_pb2.PredictRequest(policy_id="p", prompts=["x"], min_version=21), timeout=60
            )
            for _ in range(2)
        ]
        while metric(server, "vzero_calls_running") < 2:
            time.sleep(0.01)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            stubs.predict("p", ["y"])
        info = detail(caught[0], error_details_pb2.ErrorInfo)
        assert info.reason == "TOO_MANY_CALLS"  # type: ignore[attr-defined]
        assert detail(caught[0], error_details_pb2.RetryInfo).retry_delay.seconds > 0  # type: ignore[attr-defined]
        # A further stream is accepted, and releases the calls.
        stubs.update(chunk("p", sums(21)))
        assert [call.result().context.version for call in waiting] == [21, 21]
        health = health_pb2_grpc.HealthStub(stubs.channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1


def memory(server: LocalServer) -> int:
    """Resident bytes of a server."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * 4096
