"""Metrics of several servers in one process, and their names."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from vzero_server.observability.metrics import Metrics


def test_servers_in_one_process_have_separate_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.accepted.inc(3)
    first.read("queued_prompts", "Prompts.", lambda: 7.0)
    second.read("queued_prompts", "Prompts.", lambda: 9.0)
    labels = {"result": "accepted"}
    assert first.registry.get_sample_value("vzero_outcomes_total", labels) == 3
    assert second.registry.get_sample_value("vzero_outcomes_total", labels) == 0
    assert second.registry.get_sample_value("vzero_queued_prompts") == 9


def test_metrics_use_base_units_and_only_labels_with_few_values() -> None:
    metrics = Metrics()
    metrics.request_seconds.labels("Predict", "OK").observe(0.01)
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        assert not family.name.endswith(("_ms", "_milliseconds", "_mib", "_kb"))
        for sample in family.samples:
            allowed = {"method", "code", "reason", "queue", "cache", "result", "le"}
            assert set(sample.labels) <= allowed, sample
