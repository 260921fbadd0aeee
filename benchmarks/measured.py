"""What a server says of itself while a benchmark calls it."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from vzero_server.testing.local_server import LocalServer


@dataclass(slots=True)
class Mean:
    """The mean of a histogram's observations, once they are over."""

    value: float = float("nan")


@contextmanager
def mean_of(server: LocalServer, histogram: str) -> Iterator[Mean]:
    """The mean of what a server observes in the meantime.

    Args:
        server: The server.
        histogram: Name of the metric, which has no labels.
    """
    mean = Mean()
    count, total = (metric(server, f"{histogram}_{part}") for part in ("count", "sum"))
    yield mean
    last_count, last_total = (metric(server, f"{histogram}_{part}") for part in ("count", "sum"))
    mean.value = (last_total - total) / max(last_count - count, 1.0)


def metric(server: LocalServer, name: str, **labels: str) -> float:
    """The value of one sample; 0 if it is not there."""
    with urllib.request.urlopen(f"http://{server.admin_address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    return 0.0
