"""What a server says of itself while a benchmark calls it."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from vzero_server.local import LocalServer


@dataclass(slots=True)
class Mean:
    """The mean of a histogram's observations, once they are over."""

    value: float = float("nan")


@contextmanager
def mean_of(server: LocalServer, histogram: str) -> Iterator[Mean]:
    """The mean of what a server observes in the meantime.

    Args:
        server: The server.
        histogram: Name of the metric, without labels.
    """
    mean = Mean()
    count, total = _totals(server, histogram)
    yield mean
    last_count, last_total = _totals(server, histogram)
    mean.value = (last_total - total) / max(last_count - count, 1.0)


def _totals(server: LocalServer, histogram: str) -> tuple[float, float]:
    """Count and sum of all observations so far."""
    with urllib.request.urlopen(f"http://{server.admin_address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found = {f"{histogram}_count": 0.0, f"{histogram}_sum": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    return found[f"{histogram}_count"], found[f"{histogram}_sum"]
