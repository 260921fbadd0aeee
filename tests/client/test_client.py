"""The blocking client against a server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import vzero
from vzero import errors
from vzero._concurrency import sleep
from vzero._messages import batches, policies
from vzero._sync import value_calls
from vzero_server.testing.local_server import LocalServer

UNUSED_ADDRESS = "127.0.0.1:1"


@pytest.fixture(scope="module")
def client(shared_server: LocalServer) -> Iterator[vzero.Client]:
    with vzero.Client(shared_server.address) as connected:
        connected.wait_ready(60)
        yield connected


def sums(n: int, start: int = 0) -> list[str]:
    return [f"What is {i} plus {i % 7}?" for i in range(start, start + n)]


def test_update_then_predict(client: vzero.Client) -> None:
    prompts = np.array(sums(60))
    rewards = np.arange(60) % 2 == 0
    ack = client.update(
        "client/update", prompts, rewards, rollouts=np.full(60, 8), step=np.arange(60), cost=1.5
    )
    assert ack == vzero.Ack("client/update", 60, 60, 0)
    values = client.predict("client/update", prompts[:5], estimator="knn", min_version=60)
    assert len(values) == 5
    assert np.all((values.lower <= values.mean) & (values.mean <= values.upper))
    assert set(values.basis) == {"KNN"}
    assert values.context.version == 60
    assert values.context.newest_step == 59
    assert values.context.age_seconds is not None
    assert 0 <= values.context.age_seconds < 60
    early = client.predict("client/update", ["x"], as_of_step=9)
    assert early.context.rows == 10


def test_known_ids_are_not_stored_again(client: vzero.Client) -> None:
    ids = [f"id-{i}" for i in range(10)]
    first = client.update("client/ids", sums(10), 1, outcome_ids=ids)
    again = client.update("client/ids", sums(10), 1, outcome_ids=ids)
    assert (first.accepted, first.duplicates) == (10, 0)
    assert (again.accepted, again.duplicates, again.version) == (0, 10, 10)


def test_more_than_one_request_holds(client: vzero.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_ITEMS", 7)
    ack = client.update("client/many", sums(30), np.linspace(0, 1, 30))
    assert (ack.accepted, ack.version) == (30, 30)
    cut = client.predict("client/many", sums(30))
    monkeypatch.undo()
    whole = client.predict("client/many", sums(30))
    np.testing.assert_allclose(cut.mean, whole.mean, atol=1e-5)
    assert cut.basis.tolist() == whole.basis.tolist()


def test_errors_of_the_server(client: vzero.Client) -> None:
    with pytest.raises(errors.NotFound) as unknown:
        client.predict("client/unknown", ["x"])
    assert unknown.value.reason
    client.update("client/errors", ["x"], 1)
    with pytest.raises(errors.FailedPrecondition):
        client.predict("client/errors", ["x"], estimator="tabpfn")
    with pytest.raises(errors.DeadlineExceeded):
        client.predict("client/errors", ["x"], min_version=1000, timeout=0.3)
    with pytest.raises(errors.NotFound):
        client.policy("client/unknown")
    with pytest.raises(errors.NotFound):
        client.delete("client/unknown")
    with pytest.raises(errors.InvalidArgument):
        client.policy("")


def test_policies(client: vzero.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"client/list/{letter} ü%" for letter in "cab"]
    for i, name in enumerate(names):
        client.update(name, ["x", "y"], [0, 1], step=i)
    monkeypatch.setattr(policies, "PAGE_SIZE", 2)
    listed = [policy for policy in client.policies() if policy.policy_id in names]
    assert [policy.policy_id for policy in listed] == sorted(names)
    policy = client.policy(names[0])
    assert policy == listed[-1]
    assert (policy.version, policy.outcomes, policy.newest_step) == (2, 2, 0)
    assert policy.mean_reward == 0.5
    assert policy.created_at <= policy.updated_at
    assert policy.created_at.tzinfo is not None
    assert [client.delete(name) for name in names] == [2, 2, 2]
    with pytest.raises(errors.NotFound):
        client.policy(names[0])


def test_export_and_import(client: vzero.Client, tmp_path: Path) -> None:
    client.update("client/export", sums(20), 0.5, step=3, observed_at=np.datetime64("2026-01-01"))
    bundle = tmp_path / "bundle"
    client.export("client/export", bundle)
    copy = client.import_(bundle, policy_id="client/copy")
    assert copy == vzero.Ack("client/copy", 20, 20, 0)
    again = client.import_(str(bundle))
    assert (again.policy_id, again.accepted, again.duplicates) == ("client/export", 0, 20)
    assert client.policy("client/copy").newest_step == 3


def test_failed_transfers_leave_nothing(client: vzero.Client, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        client.export("client/unknown", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
    for damaged in (b"", b"no bundle at all"):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(errors.InvalidArgument):
            client.import_(tmp_path / "damaged", policy_id="client/damaged")
    with pytest.raises(errors.NotFound):
        client.policy("client/damaged")
    with pytest.raises(FileNotFoundError):
        client.import_(tmp_path / "missing")


def test_threads_share_a_client(client: vzero.Client) -> None:
    client.update("client/threads", sums(10), 0.5)
    with ThreadPoolExecutor(8) as pool:
        sizes = pool.map(lambda n: len(client.predict("client/threads", sums(n + 1))), range(16))
        assert list(sizes) == list(range(1, 17))


def test_no_server_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def counted_sleep(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(value_calls, "sleep", counted_sleep)
    with vzero.Client(UNUSED_ADDRESS, timeout=5) as client:
        with pytest.raises(errors.Unavailable):
            client.predict("p", ["x"])
        with pytest.raises(errors.Unavailable):
            client.delete("p")
        with pytest.raises(errors.Unavailable, match="no server is ready"):
            client.wait_ready(0.3)
        assert not pauses
        with pytest.raises(errors.Unavailable):
            client.update("p", ["x"], 1, timeout=1.0)
        assert pauses, "it is sent again until the timeout"
