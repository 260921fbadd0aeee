"""Spans of calls to a server, exported to memory."""

import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.outcomes import chunk, sums
from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.api.server import ApiServer
from vzero_server.api.server_info import ServerInfo
from vzero_server.api.workers import EdgeWorkers
from vzero_server.app import running_predictor
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces, is_recording, message_trace, record
from vzero_server.settings import Settings
from vzero_server.storage.opening import open_store

TRACE = "0af7651916cd43dd8448eb211c80319c"


@asynccontextmanager
async def traced(
    folder: Path, model: Path, exporter: InMemorySpanExporter
) -> AsyncIterator[value_pb2_grpc.ValueServiceStub]:
    """A stub of a server in this process that exports its spans."""
    settings = Settings.load(
        None, backbone=str(model), head="none", device="cpu", threads=1, port=0, drain_timeout=1.0
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    metrics, traces = Metrics(), Traces(provider)
    store = open_store(folder, metrics=metrics)
    workers = EdgeWorkers()
    server = ApiServer(settings, metrics, workers, traces)
    port = await server.listen()
    try:
        async with running_predictor(settings, store, metrics) as predictor:
            info = ServerInfo(predictor.estimators, settings.backbone, "cpu")
            await server.serve(store, predictor, folder, info)
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    yield value_pb2_grpc.ValueServiceStub(channel)
            finally:
                await server.drain()
    finally:
        workers.close()
        store.close()
        traces.close()


def context_of(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


async def test_a_call_has_a_span_for_every_stage_it_waits_for(
    tmp_path: Path, tiny_model: Path
) -> None:
    exporter = InMemorySpanExporter()
    async with traced(tmp_path / "data", tiny_model, exporter) as stub:
        stream = stub.UpdateContext(iter([chunk("p", sums(20)), chunk("p", sums(30))]))
        assert len([ack async for ack in stream]) == 2
        await stub.Predict(value_pb2.PredictRequest(policy_id="p", prompts=["warm"]))
        exporter.clear()
        await stub.Predict(
            value_pb2.PredictRequest(policy_id="p", prompts=["new", "newer"]),
            metadata=[("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")],
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Predict(value_pb2.PredictRequest(policy_id="unknown", prompts=["new"]))
    call, unknown = (
        span for span in exporter.get_finished_spans() if span.name.endswith("/Predict")
    )
    assert context_of(call)[0] == int(TRACE, 16)
    assert (call.attributes or {})["rpc.grpc.status_code"] == 0
    assert (unknown.attributes or {})["rpc.grpc.status_code"] == 5
    parts = [
        span
        for span in exporter.get_finished_spans()
        if span.parent is not None and span.parent.span_id == context_of(call)[1]
    ]
    assert [part.name for part in parts] == [
        "tokenise",
        "embedding queue",
        "embedding",
        "estimator queue",
        "estimator",
    ]
    assert call.start_time is not None
    assert call.end_time is not None
    times = [call.start_time]
    for part in parts:
        assert part.start_time is not None
        assert part.end_time is not None
        times += [part.start_time, part.end_time]
    times.append(call.end_time)
    # In sequence; the clocks are read at different times, so that a millisecond is allowed.
    assert all(b >= a - 1_000_000 for a, b in itertools.pairwise(times)), times


async def test_each_chunk_of_a_stream_has_a_trace(tmp_path: Path, tiny_model: Path) -> None:
    exporter = InMemorySpanExporter()
    async with traced(tmp_path / "data", tiny_model, exporter) as stub:
        stream = stub.UpdateContext(iter([chunk("p", sums(20)), chunk("p", sums(30))]))
        assert len([ack async for ack in stream]) == 2
    spans = exporter.get_finished_spans()
    (call,) = (span for span in spans if span.name.endswith("/UpdateContext"))
    chunks = [span for span in spans if span.name == "append"]
    assert len({context_of(span)[0] for span in chunks}) == 2
    for span in chunks:
        assert span.parent is None
        assert [link.context.span_id for link in span.links] == [context_of(call)[1]]
        (commit,) = (
            other
            for other in spans
            if other.parent is not None and other.parent.span_id == context_of(span)[1]
        )
        assert commit.name == "commit"


def test_spans_are_not_recorded_outside_a_traced_call() -> None:
    assert not is_recording()
    record("embedding", 0.0, 1.0)
    with message_trace("append"):
        assert not is_recording()


def test_without_an_endpoint_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys, vzero_server.app\n"
        "from vzero_server.observability.tracing import Traces\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "sys.modules['opentelemetry.exporter'] = None\n"
        "print(Traces.to('http://127.0.0.1:4317'))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert process.stdout.split() == ["[]", "None"]
    assert "vzero[otel] is not installed" in process.stderr
