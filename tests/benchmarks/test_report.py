"""Reports of benchmarks."""

import json

import pytest

from benchmarks import report


def test_the_last_line_of_a_report_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--json"]):
        figures = report.Report(
            "name", report.parser("Description.").parse_args(["--quick", *options])
        )
        figures.add("rows_per_s.known.4", "known rows", "rows/s", [10.0, 30.0, 20.0])
        figures.add("single_ms", "single call", "ms", [0.123456])
        figures.print()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 or not options
        printed = json.loads(lines[-1])
        assert printed["rows_per_s"] == {"known": {"4": 20.0}}
        assert printed["single_ms"] == 0.1235
        assert printed["spread"]["rows_per_s.known.4"] == [10.0, 30.0]
        assert printed["quick"] is True


def test_rounds_alternate_between_measurements() -> None:
    order = []

    def measure(name: str, number: int) -> dict[str, float]:
        order.append((name, number))
        return {name: float(number)}

    values = report.rounds(2, lambda n: measure("a", n), lambda n: measure("b", n))
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert values == {"a": [0.0, 1.0], "b": [0.0, 1.0]}
