"""Input files, line by line."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vzero.cli import _lines as lines
from vzero.cli.errors import BadInput


def test_prompts_are_lines() -> None:
    file = io.BytesIO('one\n\n  \r\ntwo ü\r\n{"three"}'.encode())
    assert lines.read_prompts(file, as_json=False) == ["one", "two ü", '{"three"}']


def test_prompts_of_json_lines() -> None:
    file = io.BytesIO(b'"one\\nline"\n{"prompt": "two", "x": 1}\n')
    assert lines.read_prompts(file, as_json=True) == ["one\nline", "two"]


@pytest.mark.parametrize("bad", [b"1", b"{}", b"{", b'{"prompt": 3}', b"\xff"])
def test_bad_prompts_name_their_line(bad: bytes) -> None:
    with pytest.raises(BadInput, match="line 2: "):
        lines.read_prompts(io.BytesIO(b'"good"\n' + bad), as_json=True)


def test_an_outcome() -> None:
    line = {
        "policy_id": "p",
        "prompt": "x",
        "reward": 0.5,
        "rollouts": 8,
        "cost": None,
        "step": 3,
        "observed_at": "2026-01-02T03:04:05Z",
    }
    assert lines.parse_outcome(json.dumps(line), 1, "p") == {
        "prompt": "x",
        "reward": 0.5,
        "rollouts": 8,
        "step": 3,
        "observed_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"prompt": "x"}', "has no reward"),
        ('{"reward": 1}', "has no prompt"),
        ('{"prompt": "x", "reward": 1, "rollout": 2}', "unknown field 'rollout'"),
        ('{"prompt": "x", "reward": 1, "policy_id": "q"}', "is of policy 'q', not 'p'"),
        ('{"prompt": "x", "reward": 1, "observed_at": "noon"}', "no ISO 8601 time"),
        ('{"prompt": "x", "reward": 1, "observed_at": "2026-01-01T00:00:00"}', "no time zone"),
        ('{"prompt": "x", "reward": 1, "observed_at": true}', "seconds or ISO 8601"),
    ],
)
def test_the_error_for_an_invalid_outcome_states_the_reason(bad: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        lines.parse_outcome(bad, 12, "p")
    assert caught.value.message.startswith("line 12: ")
    assert problem in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"), lines.open_input(str(tmp_path / "no")):
        pass
