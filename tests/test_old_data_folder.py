"""A data folder written by vzero 0.1 is migrated and gives the same values."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vzero
from vzero_server.model.checkpoint import SHIPPED
from vzero_server.storage import bundle
from vzero_server.testing.local_server import LocalServer

FOLDER = Path(__file__).parent / "fixtures" / "data-folder-0.1"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
PROMPTS = EXPECTED["hidden"][:10] + EXPECTED["seen"]
BETAS = [0.0, 0.5, 1.0]
COSTS = {"run-a": 1.0, "run-b": 2.0, "run-c": 0.5}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vzero.Client]:
    """A client of a server on a copy of the folder; tests leave the folder unchanged."""
    folder = tmp_path_factory.mktemp("old") / "data"
    folder.mkdir()
    with (
        gzip.open(FOLDER / "vzero.sqlite3.gz") as packed,
        (folder / "vzero.sqlite3").open("wb") as database,
    ):
        shutil.copyfileobj(packed, database)
    with (
        LocalServer(folder, peer_refresh=0, dtype="float32", threads=1) as server,
        vzero.Client(server.address) as client,
    ):
        client.wait_ready(60)
        yield client


def test_the_expected_values_belong_to_the_shipped_weights() -> None:
    digest = hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert digest == EXPECTED["weights_sha256"], (
        "the shipped weights have changed; if this is intended, renew expected.json"
    )


@pytest.mark.parametrize("policy_id", EXPECTED["policies"])
def test_the_fields_of_policies_are_unchanged(client: vzero.Client, policy_id: str) -> None:
    expected = EXPECTED["policies"][policy_id]
    policy = client.policy(policy_id)
    assert (policy.version, policy.outcomes) == (expected["version"], expected["version"])
    assert policy.newest_step == expected["newest_step"]
    for name in ("mean_reward", "mean_cost", "mean_tokens"):
        assert getattr(policy, name) == pytest.approx(expected[name])
    price = policy.price
    assert (None if price is None else [price.per_token, price.unit]) == expected["price"]
    assert policy.labels == expected["labels"]
    assert policy.created_at <= policy.updated_at


def test_all_policies_and_the_fleet_are_listed(client: vzero.Client) -> None:
    assert [policy.policy_id for policy in client.policies()] == sorted(EXPECTED["policies"])
    assert client.fleet("all").policies == ("run-a", "run-b", "run-c")


@pytest.mark.parametrize(
    "answer",
    EXPECTED["answers"],
    ids=lambda answer: "-".join([answer["policy"], *map(str, answer["options"].items())]),
)
def test_values_are_unchanged(client: vzero.Client, answer: dict[str, Any]) -> None:
    values = client.predict(answer["policy"], PROMPTS, **answer["options"])
    for name in ("mean", "lower", "upper", "effective_sample_size"):
        np.testing.assert_allclose(
            getattr(values, name), answer[name], rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert values.basis.tolist() == answer["basis"]
    context = values.context
    for name in ("version", "rows", "newest_step", "peers"):
        assert getattr(context, name) == answer[name], name


def test_rankings_are_unchanged(client: vzero.Client) -> None:
    prompts = EXPECTED["hidden"][:6] + EXPECTED["seen"][:6]
    rankings = client.rank(prompts, fleet="all", betas=BETAS, costs=COSTS)
    for ranking, expected in zip(rankings, EXPECTED["rankings"], strict=True):
        assert list(ranking.policies) == expected["policies"]
        np.testing.assert_allclose(ranking.scores, expected["scores"], rtol=1e-6, atol=1e-6)


def test_an_export_contains_the_same_outcomes(client: vzero.Client, tmp_path: Path) -> None:
    exported = tmp_path / "run-a.vzero"
    client.export("run-a", exported)
    assert outcomes_of(exported) == outcomes_of(FOLDER / "run-a.vzero")


def test_an_old_bundle_can_be_imported_and_extended(client: vzero.Client) -> None:
    repeated = client.import_(FOLDER / "run-a.vzero")
    assert (repeated.accepted, repeated.duplicates) == (0, 180)
    assert client.import_(FOLDER / "run-a.vzero", policy_id="copy").accepted == 180
    try:
        # Without peers, because `run-a` is a peer of `copy`.
        values, expected = (
            client.predict(policy_id, PROMPTS, with_peers=False) for policy_id in ("copy", "run-a")
        )
        np.testing.assert_allclose(values.mean, expected.mean, atol=1e-6)
        priced = client.update_policy("copy", price=vzero.Price(3.0, "params"))
        assert (priced.version, priced.outcomes) == (181, 180)
        ack = client.update("copy", ["one more prompt"], [1.0])
        assert (ack.version, ack.accepted) == (182, 1)
        context = client.predict("copy", ["x"], min_version=ack.version).context
        assert (context.version, context.rows) == (182, 181)
    finally:
        assert client.delete("copy") == 181


def outcomes_of(path: Path) -> list[object]:
    """The outcomes of a bundle."""
    with path.open("rb") as file:
        return [outcome for batch in bundle.read_batches(file) for outcome in batch]
