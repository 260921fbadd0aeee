"""``vzero allocate``, ``rank``, ``fleet`` and ``policies price`` against a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import vzero
from tests.client.cli.conftest import Run, as_json
from vzero_server.testing.local_server import LocalServer

PROMPTS = ["What is 9 plus 9?", "[red]What is 8 plus 8?", "What is 7 plus 7?"]


@pytest.fixture(scope="module")
def models(shared_server: LocalServer) -> Iterator[list[str]]:
    """Three policies, of which better ones cost more, and their fleet."""
    names = ["cli-decide/large", "cli-decide/middle", "cli-decide/small"]
    prompts = [f"What is {i} plus {i % 7}?" for i in range(40)]
    with vzero.Client(shared_server.address) as client:
        for name, reward, cost in zip(names, (0.9, 0.6, 0.2), (70.0, 14.0, 1.0), strict=True):
            client.update(name, prompts, reward, rollouts=10, cost=cost)
        client.update_fleet("cli-decide", names)
    yield names


def test_allocate(run: Run, models: list[str]) -> None:
    result = run("allocate", models[1], "60", *PROMPTS)
    assert (result.code, result.err) == (0, "")
    assert "[red]What is 8 plus 8?" in result.out
    assert "spent 60, utility" in result.out

    printed = as_json(run("allocate", models[1], "60", *PROMPTS, "--json"))
    assert [row["prompt"] for row in printed["allocation"]] == PROMPTS
    assert sum(row["rollouts"] for row in printed["allocation"]) == printed["spent"] == 60
    assert 0 < printed["utility"] <= printed["upper_bound"]
    assert printed["decision_id"]
    assert printed["context"]["rows"] == 40


def test_options_of_allocate(run: Run, models: list[str], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    arguments = [
        "allocate", models[1], "2000", "--prompts-file", str(file), "--minimum", "4",
        "--maximum", "16", "--multiple-of", "4", "--objective", "nonzero_gradient",
        "--skip", "--uncertain-minimum", "8", "--uncertain-width", "0", "--exact",
        "--estimator", "knn", "--min-version", "40", "--no-peers", "--no-history", "--json",
    ]  # fmt: skip
    printed = as_json(run(*arguments, "--token-cost", "50"))
    counts = [row["rollouts"] for row in printed["allocation"]]
    assert set(counts) <= {8, 12, 16}
    assert printed["spent"] == 50 * sum(counts) <= 2000
    costs = ["--token-cost", "10", "--token-cost", "10", "--token-cost", "200"]
    printed = as_json(run(*arguments, *costs))
    assert [row["rollouts"] for row in printed["allocation"]] == [16, 16, 8]


def test_rank(run: Run, models: list[str]) -> None:
    result = run("rank", PROMPTS[1], "--fleet", "cli-decide", "--beta", "1", "--beta", "0")
    assert (result.code, result.err) == (0, "")
    assert "[red]What is 8 plus 8?" in result.out
    places = [line.split("│") for line in result.out.splitlines() if "cli-decide/" in line]
    assert [cells[1].strip() for cells in places] == models
    assert [cells[-2].strip() for cells in places] == ["3", "2", "1"]

    printed = as_json(run("rank", *PROMPTS, "--fleet", "cli-decide", "--beta", "1", "--json"))
    assert [ranking["prompt"] for ranking in printed["rankings"]] == PROMPTS
    for ranking in printed["rankings"]:
        assert [candidate["policy_id"] for candidate in ranking["candidates"]] == models
        assert [order["policies"] for order in ranking["orders"]] == [models]
        assert ranking["candidates"][0]["expected_cost"] == pytest.approx(70.0)


def test_options_of_rank(run: Run, models: list[str]) -> None:
    arguments = ["rank", PROMPTS[0], "--json"]
    for name in models[1:]:
        arguments += ["--policy", name]
    printed = as_json(
        run(
            *arguments, "--cost", f"{models[1]}=0.5", "--mode", "paper", "--min-value", "0.4",
            "--max-cost", "9", "--estimator", "knn", "--no-peers", "--no-history",
        )
    )  # fmt: skip
    (ranking,) = printed["rankings"]
    assert [candidate["policy_id"] for candidate in ranking["candidates"]] == models[1:]
    assert [candidate["eligible"] for candidate in ranking["candidates"]] == [True, False]
    assert ranking["candidates"][0]["expected_cost"] == 0.5
    labelled = as_json(run(*arguments, "--label", "region=eu"))["rankings"][0]
    assert not any(candidate["eligible"] for candidate in labelled["candidates"])


def test_fleets(run: Run, models: list[str]) -> None:
    assert run("fleet", "set", "cli-fleet", *models[:2]).out == "cli-fleet: 2 policies\n"
    assert run("fleet", "show", "cli-fleet").out.split() == models[:2]
    assert "cli-fleet" in run("fleet").out
    stored = {"name": "cli-fleet", "policies": models[1:]}
    assert as_json(run("fleet", "set", "cli-fleet", *models[1:], "--json")) == stored
    assert as_json(run("fleet", "show", "cli-fleet", "--json")) == stored
    assert stored in as_json(run("fleet", "--json"))["fleets"]
    assert run("fleet", "delete", "cli-fleet").out == "cli-fleet: deleted\n"
    gone = run("fleet", "delete", "cli-fleet", "--json")
    assert gone.code == 1
    assert json.loads(gone.err)["error"]["reason"] == "UNKNOWN_FLEET"


def test_prices(run: Run) -> None:
    printed = as_json(run("policies", "price", "cli/priced", "--params", "7", "--json"))
    assert printed["price"] == {"per_token": 7.0, "unit": "params"}
    shown = run("policies", "price", "cli/priced", "--money", "0.5", "--label", "a=b=c").out
    assert "0.5 per token, in money" in shown
    assert "a=b=c" in shown
    labelled = as_json(run("policies", "price", "cli/priced", "--label", "x=y", "--json"))
    assert labelled["labels"] == {"x": "y"}
    assert labelled["price"] == {"per_token": 0.5, "unit": "money"}
    assert "0.5 per token" in run("policies", "show", "cli/priced").out
    assert as_json(run("policies", "price", "cli/priced", "--none", "--json"))["price"] is None


def test_outcomes_carry_tokens_and_decisions(run: Run) -> None:
    row = {"prompt": "x", "reward": 1, "tokens": 8, "decision_id": "d"}
    run("update", "cli/tokens", "-", stdin=json.dumps(row).encode())
    assert as_json(run("policies", "show", "cli/tokens", "--json"))["mean_tokens"] == 8.0


@pytest.mark.parametrize(
    "arguments",
    [
        ("allocate", "p"),
        ("allocate", "p", "8"),
        ("allocate", "p", "many", "x"),
        ("allocate", "p", "-8", "x"),
        ("allocate", "p", "8", "x", "--objective", "best"),
        ("allocate", "p", "8", "x", "--token-cost", "0"),
        ("allocate", "p", "8", "x", "--uncertain-width", "2"),
        ("rank",),
        ("rank", "x"),
        ("rank", "x", "--fleet", "f", "--policy", "p"),
        ("rank", "x", "--policy", "p", "--policy", "p"),
        ("rank", "x", "--policy", "p", "--beta", "1.1"),
        ("rank", "x", "--policy", "p", "--cost", "p"),
        ("rank", "x", "--policy", "p", "--cost", "p=dear"),
        ("rank", "x", "--policy", "p", "--label", "=b"),
        ("rank", "x", "--policy", "p", "--mode", "slow"),
        ("fleet", "set", "f"),
        ("fleet", "set", "f", "p", "p"),
        ("fleet", "shwo", "f"),
        ("policies", "price", "p"),
        ("policies", "price", "p", "--params", "7", "--money", "1"),
        ("policies", "price", "p", "--params", "-7"),
        ("policies", "price", "p", "--label", "a=1", "--label", "a=2"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", [["allocate"], ["rank"], ["fleet"], ["policies", "price"]])
def test_help(run: Run, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.code == 0
    assert "Usage" in result.out
