"""The admin port as an operator's tools use it."""

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from vzero_server.local import LocalServer


def get(server: LocalServer, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(f"http://{server.admin_address}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(server: LocalServer, name: str, **labels: str) -> float:
    """The value of one sample; 0 if it is not there."""
    for family in text_string_to_metric_families(get(server, "/metrics")[1]):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    return 0.0
