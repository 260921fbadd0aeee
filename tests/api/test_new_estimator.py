"""A new estimator is one file, served without a change of proto, client or command line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vzero
from vzero.cli import main
from vzero_server.testing.local_server import LocalServer
from vzero_train.evaluation.metrics import auc

PROMPTS = [f"prompt {i}" for i in range(120)]
# The texts of prompts do not tell which are easy.
EASY = np.random.default_rng(0).random(len(PROMPTS)) < 0.5
CONTEXT, QUERIES = slice(0, 60), slice(60, 120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[LocalServer]:
    """A server with the estimator, and two peers with outcomes of the queries of a policy."""
    data = tmp_path_factory.mktemp("logistic") / "data"
    settings = {
        "backbone": tiny_model,
        "peer_refresh": 0,
        "estimator_modules": "tests.api.logistic_estimator",
    }
    with LocalServer(data, **settings) as running, vzero.Client(running.address) as client:
        client.update("policy", PROMPTS[CONTEXT], EASY[CONTEXT].astype(float), step=1)
        for peer in ("peer-1", "peer-2"):
            client.update(peer, PROMPTS, EASY.astype(float))
        yield running


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[vzero.Client]:
    with vzero.Client(server.address) as opened:
        yield opened


def test_its_name_is_accepted_in_any_case(client: vzero.Client) -> None:
    values = client.predict("policy", PROMPTS[QUERIES], estimator="Logistic", with_peers=False)
    assert set(values.basis) == {"LOGISTIC"}
    assert ((values.lower <= values.mean) & (values.mean <= values.upper)).all()
    # It is not the default estimator.
    assert set(client.predict("policy", PROMPTS[QUERIES]).basis) == {"KNN"}


def test_peers_correct_its_values(client: vzero.Client) -> None:
    corrected = client.predict("policy", PROMPTS[QUERIES], estimator="logistic")
    uncorrected = client.predict("policy", PROMPTS[QUERIES], estimator="logistic", with_peers=False)
    assert (corrected.context.peers, uncorrected.context.peers) == (2, 0)
    assert auc(EASY[QUERIES], corrected.mean) > 0.99
    assert auc(EASY[QUERIES], uncorrected.mean) < 0.8


def test_its_values_are_combined_with_histories(client: vzero.Client) -> None:
    options = {"estimator": "logistic", "with_peers": False}
    values = client.predict("policy", PROMPTS[CONTEXT], **options)
    without = client.predict("policy", PROMPTS[CONTEXT], with_history=False, **options)
    assert values.history is not None
    assert (values.history.rollouts == 1).all()
    towards_reward = (values.mean - without.mean) * np.where(EASY[CONTEXT], 1.0, -1.0)
    assert (towards_reward > 0.0).all()


def test_a_ranking_calibrates_its_values(client: vzero.Client) -> None:
    rankings = client.rank(
        PROMPTS[QUERIES], policies=["policy", "peer-1", "peer-2"], estimator="logistic"
    )
    assert {basis for ranking in rankings for basis in ranking.basis} == {"LOGISTIC"}


def test_the_error_for_an_unknown_name_lists_the_known_names(client: vzero.Client) -> None:
    with pytest.raises(vzero.errors.InvalidArgument, match="auto, icl, knn, logistic, tabpfn"):
        client.predict("policy", PROMPTS[:1], estimator="logistics")


def test_the_command_line_accepts_it(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--estimator", "LOGISTIC", "--address", server.address, "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", "policy", PROMPTS[0], *options])
    assert ended.value.code == 0
    assert "LOGISTIC" in capsys.readouterr().out
