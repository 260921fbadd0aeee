"""Metrics, traces, liveness and the admin port."""
