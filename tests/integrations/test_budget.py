"""Budgets of rollouts, with a server and without."""

import logging
from pathlib import Path

import numpy as np
import pytest

from vzero import Client
from vzero.errors import InvalidArgument
from vzero.integrations.budget import Budget
from vzero_server.testing.local_server import LocalServer

SUMS = [f"What is {i} plus {i + 3}?" for i in range(20)]
PROOFS = [f"Prove theorem {i} of Euclid." for i in range(20)]


def report_outcomes(budget: Budget) -> None:
    """Report sums with a success rate of one half, and proofs with none."""
    for sum_, proof in zip(SUMS[:15], PROOFS[:15], strict=True):
        budget.report(sum_, 0.5, rollouts=8, step=3)
        budget.report(proof, 0.0, rollouts=8, step=3)


def test_rollouts_follow_the_values(shared_server: LocalServer) -> None:
    prompts = SUMS[15:] + PROOFS[15:]
    with Client(shared_server.address) as client:
        budget = Budget(client, "budget-sums", timeout=30.0)
        with budget.reporting():
            first = budget.divide(prompts, 80)
            report_outcomes(budget)
            # Reported outcomes are used at once.
            second = budget.divide(prompts, 80)
        context = client.predict("budget-sums", prompts).context
    assert first.rollouts == [8] * 10
    assert first.values is None
    assert sum(second.rollouts) == 80
    assert min(second.rollouts) >= 2
    assert second.values is not None
    assert second.values.shape == (10,)
    assert np.mean(second.values[:5]) > np.mean(second.values[5:]) + 0.1
    assert len(set(second.rollouts)) > 1
    assert (context.version, context.newest_step) == (30, 3)


def test_rollouts_stay_within_minimum_and_maximum(shared_server: LocalServer) -> None:
    with Client(shared_server.address) as client:
        budget = Budget(
            client, "budget-limits", minimum=3, maximum=12, objective="utility", timeout=30.0
        )
        with budget.reporting():
            report_outcomes(budget)
            division = budget.divide(SUMS + PROOFS, 320)
    assert sum(division.rollouts) == 320
    assert 3 <= min(division.rollouts) < max(division.rollouts) <= 12


def test_rollouts_are_divided_evenly_while_the_server_is_unreachable(
    server: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(server.address) as client, caplog.at_level(logging.WARNING, "vzero.integrations"):
        budget = Budget(client, "budget-unreachable", spool_dir=tmp_path / "spool", timeout=4.0)
        with budget.reporting():
            server.kill()
            report_outcomes(budget)
            unreachable = [budget.divide(SUMS, 40), budget.divide(SUMS, 40)]
            server.start()
            client.wait_ready(60)
            restarted = budget.divide(SUMS, 40)
        # The next run delivers the outcomes that the pause after a failure left undelivered.
        with Budget(
            client, "budget-unreachable", spool_dir=tmp_path / "spool", timeout=30.0
        ).reporting():
            pass
        assert client.policy("budget-unreachable").version == 30
    assert all(
        division.rollouts == [2] * 20 and division.values is None for division in unreachable
    )
    assert sum(restarted.rollouts) == 40
    warnings = [record.getMessage() for record in caplog.records]
    assert len([text for text in warnings if "divided evenly" in text]) == 1
    assert len([text for text in warnings if "answers again" in text]) == 1


def test_without_a_spool_undelivered_outcomes_are_lost_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Client("127.0.0.1:1") as client, caplog.at_level(logging.WARNING, "vzero.integrations"):
        budget = Budget(client, "budget-lost", timeout=0.2)
        with budget.reporting():
            report_outcomes(budget)
    assert "not all delivered" in caplog.text


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("minimum", {"minimum": 1}),
        ("maximum", {"maximum": 1}),
        ("objective", {"objective": "most"}),
        ("timeout", {"timeout": 0.0}),
        ("policy_id", {"policy_id": ""}),
    ],
)
def test_invalid_settings_are_named_in_the_error(field: str, settings: dict[str, object]) -> None:
    with Client() as client, pytest.raises(InvalidArgument) as raised:
        Budget(client, **{"policy_id": "budget-bad", **settings})  # type: ignore[arg-type]
    assert [name for name, _ in raised.value.violations] == [field]


def test_read_options_are_checked_and_passed_on(shared_server: LocalServer) -> None:
    with Client(shared_server.address) as client:
        with pytest.raises(TypeError, match="'with_peer'"):
            Budget(client, "budget-options", with_peer=False)  # type: ignore[call-arg]
        with pytest.raises(InvalidArgument, match="as_of_step"):
            Budget(client, "budget-options", as_of_step=-1)
        budget = Budget(client, "budget-options", timeout=30.0, min_version=30, with_peers=False)
        with budget.reporting():
            report_outcomes(budget)
            assert budget.divide(SUMS, 80).values is not None


def test_rejected_calls_raise(shared_server: LocalServer) -> None:
    with Client(shared_server.address) as client:
        budget = Budget(client, "budget-refused", minimum=8, timeout=30.0)
        with budget.reporting():
            report_outcomes(budget)
            with pytest.raises(InvalidArgument, match="total"):
                budget.divide(SUMS, 40)
            with pytest.raises(InvalidArgument, match="reward"):
                budget.report(SUMS[0], 1.5, rollouts=8, step=3)
        with pytest.raises(RuntimeError, match="reporting"):
            budget.report(SUMS[0], 0.5, rollouts=8, step=3)
