"""Metrics of a running server, for benchmarks and tests."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from vzero_server.testing.local_server import LocalServer


@dataclass(slots=True)
class Mean:
    """Mean of the observations of a histogram; NaN until the measurement ends."""

    value: float = float("nan")


@contextmanager
def mean_of(server: LocalServer, histogram: str) -> Iterator[Mean]:
    """Measure the mean of a histogram's observations within a ``with`` block.

    Args:
        server: The server.
        histogram: Name of a histogram without labels.
    """
    mean = Mean()
    count, total = (metric(server, f"{histogram}_{part}") for part in ("count", "sum"))
    yield mean
    last_count, last_total = (metric(server, f"{histogram}_{part}") for part in ("count", "sum"))
    mean.value = (last_total - total) / max(last_count - count, 1.0)


def metric(server: LocalServer, name: str, **labels: str) -> float:
    """Value of a sample by name and labels; 0 if missing."""
    with urllib.request.urlopen(f"http://{server.admin_address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    return 0.0
