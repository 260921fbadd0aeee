import threading
import time

import grpc

from benchmarks.server_metrics import metric
from tests.api.calls import Stubs, refused
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import value_pb2
from vzero_server.testing.local_server import LocalServer


def test_values_come_in_order_with_their_context(stubs: Stubs, policy: str) -> None:
    acks = stubs.update(chunk(policy, sums(30)), chunk(policy, sums(40)))
    assert [(ack.version, ack.accepted, ack.duplicates) for ack in acks] == [
        (30, 30, 0),
        (40, 10, 30),
    ]
    prompts = ["What is 2 plus 2?", "Name a river.", "What is 2 plus 2?"]
    reply = stubs.predict(policy, prompts)
    assert len(reply.values) == 3
    assert reply.values[0] == reply.values[2]
    for value in reply.values:
        assert 0 <= value.lower <= value.mean <= value.upper <= 1
        assert value.effective_sample_size > 0
        assert value.basis == "icl"
    assert (reply.context.version, reply.context.rows, reply.context.newest_step) == (40, 40, 3)
    assert 0 <= reply.context.age.seconds < 60


def test_chunks_of_several_policies_share_a_stream(stubs: Stubs, policy: str) -> None:
    other = policy + "-other"
    acks = stubs.update(
        chunk(policy, sums(3)), chunk(other, sums(2)), chunk(policy, sums(2, start=3))
    )
    assert [(ack.policy_id, ack.version) for ack in acks] == [(policy, 3), (other, 2), (policy, 5)]


def test_an_ack_means_visible(stubs: Stubs, policy: str) -> None:
    """After each ack, ``Predict`` on another connection uses the acknowledged rows."""
    sent = threading.Semaphore(1)

    def chunks() -> "object":
        for start in range(0, 50, 10):
            sent.acquire()
            yield chunk(policy, sums(10, start=start))

    for ack in stubs.values.UpdateContext(chunks(), timeout=60):
        assert stubs.predict(policy, ["x"]).context.version >= ack.version
        sent.release()


def test_few_rows_have_a_wide_prior(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(2)))
    value = stubs.predict(policy, ["x"]).values[0]
    assert value.basis == "prior"
    assert value.upper - value.lower > 0.6


def test_as_of_step(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(60)))
    context = stubs.predict(policy, ["x"], as_of_step=2).context
    assert (context.rows, context.newest_step, context.version) == (30, 2, 60)
    nothing = stubs.predict(policy, ["x"], as_of_step=0)
    assert nothing.context.rows == 10


def test_min_version_waits_until_the_deadline(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(10)))
    request = value_pb2.PredictRequest(policy_id=policy, prompts=["x"], min_version=20)
    started = time.monotonic()
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        stubs.values.Predict(request, timeout=0.5)
    assert time.monotonic() - started > 0.4
    waiting = stubs.values.Predict.future(request, timeout=60)
    stubs.update(chunk(policy, sums(10, start=10)))
    assert waiting.result().context.version == 20


def test_an_unknown_policy_is_not_found(stubs: Stubs) -> None:
    with refused(grpc.StatusCode.NOT_FOUND) as caught:
        stubs.predict("unknown", ["x"])
    assert "'unknown'" in str(caught[0].details())


def test_an_estimator_that_is_not_loaded(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(10)))
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        stubs.predict(policy, ["x"], estimator="tabpfn")


def test_the_error_for_an_unknown_estimator_lists_the_known_names(
    stubs: Stubs, policy: str
) -> None:
    stubs.update(chunk(policy, sums(10)))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "estimator") as caught:
        stubs.predict(policy, ["x"], estimator="best")
    assert "icl, knn, tabpfn" in str(caught[0].details())


def test_estimators_are_named_in_any_case(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(10)))
    bases = {
        name: stubs.predict(policy, ["x"], estimator=name).values[0].basis
        for name in ("", "auto", "AUTO", "ICL", "knn", "KNN")
    }
    assert bases == {
        "": "icl",
        "auto": "icl",
        "AUTO": "icl",
        "ICL": "icl",
        "knn": "knn",
        "KNN": "knn",
    }


def test_a_stream_cut_in_the_middle_keeps_what_was_acked(stubs: Stubs, policy: str) -> None:
    def chunks() -> "object":
        yield chunk(policy, sums(10))
        time.sleep(30)

    call = stubs.values.UpdateContext(chunks(), timeout=60)
    assert next(call).version == 10
    call.cancel()
    assert stubs.predict(policy, ["x"]).context.version == 10
    assert stubs.update(chunk(policy, sums(12)))[0].duplicates == 10


def test_an_expired_call_does_not_delay_others(
    stubs: Stubs, shared_server: LocalServer, policy: str
) -> None:
    """A call for thousands of new prompts is dropped with its deadline."""
    stubs.update(chunk(policy, sums(10)))
    before = metric(shared_server, "vzero_embedding_batch_prompts_sum")
    many = [f"expiring {i} " + "words " * 40 for i in range(4000)]
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        stubs.values.Predict(value_pb2.PredictRequest(policy_id=policy, prompts=many), timeout=1.0)
    assert len(stubs.predict(policy, ["a new prompt after it"]).values) == 1
    # It did not wait for all 4,000.
    assert metric(shared_server, "vzero_embedding_batch_prompts_sum") - before < 4000


def test_an_outcome_keeps_its_time(stubs: Stubs, policy: str) -> None:
    request = chunk(policy, [outcome("1")])
    request.outcomes[0].observed_at.seconds = int(time.time()) - 5000
    stubs.update(request)
    assert 4990 < stubs.predict(policy, ["x"]).context.age.seconds < 5100
