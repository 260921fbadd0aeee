import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from benchmarks.server_metrics import metric
from tests.api.calls import Stubs, detail, refused
from tests.api.conftest import LoadingServer
from tests.outcomes import chunk, outcome, sums
from tests.waiting import wait_until
from vzero.v1 import server_pb2, value_pb2
from vzero_server.api.server import ApiServer
from vzero_server.api.workers import EdgeWorkers
from vzero_server.observability.metrics import Metrics
from vzero_server.settings import Settings
from vzero_server.testing.local_server import LocalServer


def test_health_is_reported_per_service(stubs: Stubs) -> None:
    health = health_pb2_grpc.HealthStub(stubs.channel)
    for service in (
        "",
        "vzero.v1.ValueService",
        "vzero.v1.PolicyService",
        "vzero.v1.ServerService",
    ):
        reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    with refused(grpc.StatusCode.NOT_FOUND):
        health.Check(health_pb2.HealthCheckRequest(service="else"), timeout=60)


def test_reflection_and_channelz_answer(stubs: Stubs) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(stubs.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="vzero.v1.ValueService"),
    ]
    listed, described = reflection.ServerReflectionInfo(iter(requests), timeout=60)
    names = {service.name for service in listed.list_services_response.service}
    assert {"vzero.v1.ValueService", "vzero.v1.PolicyService", "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto
    channelz = channelz_pb2_grpc.ChannelzStub(stubs.channel)
    assert channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=60).server


def test_the_server_describes_itself(stubs: Stubs) -> None:
    info = stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=60)
    assert info.version == version("vzero")
    assert [(one.name, one.is_default) for one in info.estimators] == [
        ("icl", True),
        ("knn", False),
    ]
    assert info.backbone == "packaged"
    assert info.device in {"cpu", "cuda"}


async def test_health_reflection_and_channelz_reply_while_the_server_starts() -> None:
    """They pass the same interceptors as other calls: they are counted, and always admitted."""
    metrics, workers = Metrics(), EdgeWorkers()
    server = ApiServer(Settings.load(None, port=0, drain_timeout=1.0), metrics, workers)
    port = await server.listen()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            status = await health.Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert status.status == health_pb2.HealthCheckResponse.NOT_SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            listing = reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
            )
            assert (await listing.read()).list_services_response.service
            channelz = channelz_pb2_grpc.ChannelzStub(channel)
            assert (await channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=60)).server
            assert server.not_serving_because == "the server is starting"
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary("/vzero.v1.ValueService/Predict")(b"", timeout=60)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.drain()
        workers.close()

    def counted(method: str) -> float | None:
        labels = {"method": method, "code": "OK"}
        return metrics.registry.get_sample_value("vzero_request_seconds_count", labels)

    assert (counted("Check"), counted("GetServers")) == (1, 1)


def test_calls_before_the_model_is_loaded_are_unavailable(loading_server: LoadingServer) -> None:
    stubs = Stubs(loading_server)
    grpc.channel_ready_future(stubs.channel).result(timeout=120)
    health = health_pb2_grpc.HealthStub(stubs.channel)
    reply = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    with refused(grpc.StatusCode.UNAVAILABLE) as caught:
        stubs.predict("p", ["x"])
    assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert detail(caught[0], error_details_pb2.RetryInfo).retry_delay.seconds > 0  # type: ignore[attr-defined]
    loading_server.finish_loading()
    loading_server.wait()
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == (
        health_pb2.HealthCheckResponse.SERVING
    )
    assert loading_server.terminate() == 0


def test_sigterm_drains(server: LocalServer) -> None:
    """Running calls finish, streams are acknowledged and ended, new calls are refused, exit 0."""
    stubs = Stubs(server)
    stubs.update(chunk("p", sums(20)))
    slow = [f"slow prompt {i} " + "word " * 60 for i in range(150)]
    ended: dict[str, object] = {}
    acked, watching = threading.Event(), threading.Event()

    def predict() -> None:
        ended["values"] = len(stubs.predict("p", slow).values)

    def stream() -> None:
        def chunks() -> "object":
            yield chunk("p", sums(30))
            time.sleep(60)

        try:
            for ack in stubs.values.UpdateContext(chunks(), timeout=60):
                ended["version"] = ack.version
                acked.set()
        except grpc.RpcError as error:
            ended["stream"] = error.code()

    def watch() -> None:
        health = health_pb2_grpc.HealthStub(stubs.channel)
        statuses: list[int] = []
        ended["health"] = statuses
        with contextlib.suppress(grpc.RpcError):
            for reply in health.Watch(health_pb2.HealthCheckRequest(), timeout=60):
                statuses.append(reply.status)
                watching.set()

    threads = [threading.Thread(target=target, daemon=True) for target in (predict, stream, watch)]
    for thread in threads:
        thread.start()
    acked.wait()
    watching.wait()
    wait_until(lambda: metric(server, "vzero_calls_running") == 1)
    assert server.terminate() == 0
    for thread in threads:
        thread.join()
    assert ended == {
        "values": 150,
        "version": 30,
        "stream": grpc.StatusCode.UNAVAILABLE,
        "health": [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        ],
    }
    assert "Traceback" not in server.log.read_text()
    server.start()
    assert Stubs(server).predict("p", ["x"]).context.version == 30


def test_a_full_queue_rejects_calls_with_a_retry_delay(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "data", max_queued_prompts=64) as server:
        stubs = Stubs(server)
        stubs.update(chunk("p", sums(10)))
        stubs.predict("p", ["warm"])
        calls = [
            stubs.values.Predict.future(
                value_pb2.PredictRequest(
                    policy_id="p", prompts=[f"{i} {j} " + "word " * 60 for j in range(32)]
                ),
                timeout=60,
            )
            for i in range(8)
        ]
        codes = [call.code() for call in calls]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        refusal = next(call.exception() for call in calls if call.code() is not grpc.StatusCode.OK)
        assert detail(refusal, error_details_pb2.ErrorInfo).reason == "QUEUE_FULL"  # type: ignore[attr-defined]
        delay = detail(refusal, error_details_pb2.RetryInfo).retry_delay  # type: ignore[attr-defined]
        assert 0 < delay.seconds + delay.nanos * 1e-9 <= 30
        assert len(stubs.predict("p", ["after"]).values) == 1


def test_with_a_full_disk_updates_are_rejected_and_values_are_served(
    tmp_path: Path, tiny_model: Path
) -> None:
    """The size limit makes SQLite report the error of a full disk."""
    folder = tmp_path / "data"
    with LocalServer(folder, max_database_bytes=1_000_000, backbone=tiny_model) as server:
        stubs = Stubs(server)
        acked = 0
        for number in range(1000):
            rows = [outcome(f"{number}-{i}", f"{number} {i} " + "long " * 40) for i in range(100)]
            try:
                acked = stubs.update(chunk("p", rows))[-1].version
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert detail(error, error_details_pb2.ErrorInfo).reason == "STORAGE_FULL"  # type: ignore[attr-defined]
                break
        else:
            pytest.fail("the limit was not reached")
        assert acked > 0
        assert stubs.predict("p", ["after the restart"], min_version=acked).context.version == acked
        server.kill()
        server.start()
        assert Stubs(server).predict("p", ["after the restart"]).context.version == acked


# At start-up: one line, exit code 1.


def refused_start(*arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vzero_server", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vzero serve: ")
    return lines[0]


def test_a_second_server_on_the_folder_is_rejected(shared_server: LocalServer) -> None:
    message = refused_start("--port", 0, "--data-dir", shared_server.data_dir)
    assert "in use by another server" in message


def test_a_port_that_is_taken_is_refused(shared_server: LocalServer, tmp_path: Path) -> None:
    port = shared_server.address.partition(":")[2]
    assert "cannot listen on" in refused_start("--port", port, "--data-dir", tmp_path)


def test_errors_can_be_printed_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vzero_server", "--json", "--port", "99999"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "setting port" in json.loads(done.stderr)["error"]


def test_a_folder_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    assert "newer vzero" in refused_start("--port", 0, "--data-dir", tmp_path)


def test_a_backbone_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = refused_start(
        "--port",
        0,
        "--data-dir",
        tmp_path / "data",
        "--backbone",
        "no/such-model",
        HF_HUB_OFFLINE="1",
    )
    assert "'no/such-model'" in message


def test_bad_settings_are_named(tmp_path: Path) -> None:
    assert "setting port" in refused_start("--port", 99999)
    assert "setting knn_k" in refused_start(VZERO_KNN_K="0")
    assert "no such file" in refused_start("--config", tmp_path / "missing.toml")
    config = tmp_path / "vzero.toml"
    config.write_text("prot = 1\n")
    assert "setting prot" in refused_start("--config", config)
    config.write_text("port = \n")
    assert "vzero.toml" in refused_start("--config", config)
