"""The load generator against a server."""

import json

import grpc
import pytest

from load_tests import generator
from vzero.v1 import policy_pb2, policy_pb2_grpc
from vzero_server.testing.local_server import LocalServer


def run(capsys: pytest.CaptureFixture[str], server: LocalServer, *arguments: str) -> dict:
    generator.main(["--address", server.address, "--warmup", "0", "--json", *arguments])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return json.loads(printed)


def load_policies(server: LocalServer) -> list[str]:
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        reply = stub.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=1000), timeout=10)
    return [policy.policy_id for policy in reply.policies if policy.policy_id.startswith("load-")]


def test_the_counts_of_router_calls_add_up(
    shared_server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run(
        capsys, shared_server, "--concurrency", "1,4", "--seconds", "0.5", "--repeated", "1"
    )
    assert [level["concurrency"] for level in results["levels"]] == [1, 4]
    for level in results["levels"]:
        assert level["errors"] == {}
        assert 0 < level["answered"] == level["requests"] == level["prompts"]
        assert level["rpcs"]["Predict"]["answered"] == level["answered"]
        assert 0 < level["p50_ms"] <= level["p90_ms"] <= level["p99_ms"]
        rate = level["answered"] / level["seconds"]
        assert level["requests_per_s"] == pytest.approx(rate, rel=0.01)
    assert load_policies(shared_server) == []


def test_trainers_report_outcomes_of_the_prompts_they_queried(shared_server: LocalServer) -> None:
    policies = ("load-trainer-a", "load-trainer-b")
    load = generator.Load(
        shared_server.address, "trainer", policies, seconds=30.0, warmup=0.0, most_calls=8,
        repeated=1.0, pool=32, batch=(4, 8),
    )  # fmt: skip
    (level,) = generator.levels(load, [2], temporary_policies=True)
    assert level["errors"] == {}
    assert level["answered"] == level["requests"] == 8
    answered = {rpc: figures["answered"] for rpc, figures in level["rpcs"].items()}
    assert sum(answered.values()) == 8
    # Each trainer requests values before it sends outcomes, and may have stopped in between.
    assert 0 <= answered["Predict"] - answered["UpdateContext"] <= 2
    assert 8 * 4 <= level["prompts"] <= 8 * 8
    assert load_policies(shared_server) == []


@pytest.mark.parametrize("rate", [None, "100"])
def test_calls_about_an_unknown_policy_are_counted_as_not_found(
    shared_server: LocalServer, capsys: pytest.CaptureFixture[str], rate: str | None
) -> None:
    arguments = ["--policies", "unknown", "--concurrency", "2", "--seconds", "0.3"]
    arguments += ["--most-calls", "10"]
    arguments += [] if rate is None else ["--rate", rate]
    (level,) = run(capsys, shared_server, *arguments)["levels"]
    assert level["errors"] == {"NOT_FOUND": level["requests"]}
    assert level["requests"] == 10
    assert level["answered"] == level["prompts"] == 0
    assert level["p50_ms"] is None


def test_an_open_loop_sends_calls_at_its_rate(
    shared_server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rate", "40", "--concurrency", "16", "--seconds", "1", "--repeated", "1"]
    (level,) = run(capsys, shared_server, *arguments)["levels"]
    assert level["errors"] == {}
    assert level["requests"] + level["unsent"] == 40
    assert level["answered"] == level["requests"]


def test_options_out_of_range_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--concurrency=0", "--concurrency=9999", "--seconds=1e9", "--mix=poet"):
        with pytest.raises(SystemExit):
            generator.main(["--address", "127.0.0.1:1", option])
    assert "must be in" in capsys.readouterr().err
