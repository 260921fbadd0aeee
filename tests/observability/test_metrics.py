from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from vzero_server.observability.metrics import Metrics


def test_servers_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.accepted.inc(3)
    one.read("queued_prompts", "Prompts.", lambda: 7.0)
    other.read("queued_prompts", "Prompts.", lambda: 9.0)
    labels = {"result": "accepted"}
    assert one.registry.get_sample_value("vzero_outcomes_total", labels) == 3
    assert other.registry.get_sample_value("vzero_outcomes_total", labels) == 0
    assert other.registry.get_sample_value("vzero_queued_prompts") == 9


def test_names_are_in_base_units_and_labels_few() -> None:
    metrics = Metrics()
    metrics.request_seconds.labels("Predict", "OK").observe(0.01)
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        assert not family.name.endswith(("_ms", "_milliseconds", "_mib", "_kb"))
        for sample in family.samples:
            allowed = {"method", "code", "reason", "queue", "cache", "result", "le"}
            assert set(sample.labels) <= allowed, sample
