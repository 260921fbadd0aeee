"""Counts and latencies of the calls of one measurement."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np


class Tally:
    """Counts calls, their prompts, latencies and failures.

    Attributes:
        unsent: Calls that an open loop could not send in time.
    """

    def __init__(self) -> None:
        self.unsent = 0
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._prompts = 0
        self._errors: Counter[str] = Counter()

    def __len__(self) -> int:
        """Number of calls that ended, successful or not."""
        answered = sum(len(latencies) for latencies in self._latencies.values())
        return answered + self._errors.total()

    def answered(self, rpc: str, seconds: float, prompts: int) -> None:
        """Count a successful call that took ``seconds``."""
        self._latencies[rpc].append(seconds)
        self._prompts += prompts

    def failed(self, code: str) -> None:
        """Count a failed call, by the name of its status code."""
        self._errors[code] += 1

    def summary(self, seconds: float) -> dict[str, Any]:
        """All figures as JSON values; latencies in ms, None without successful calls.

        Args:
            seconds: Duration of the measurement.
        """
        all_latencies = [latency for rpc in self._latencies.values() for latency in rpc]
        return {
            "seconds": round(seconds, 3),
            "requests": len(self),
            "answered": len(all_latencies),
            "prompts": self._prompts,
            "requests_per_s": round(len(all_latencies) / seconds, 2),
            "prompts_per_s": round(self._prompts / seconds, 2),
            **_percentiles(all_latencies),
            "rpcs": {
                rpc: {"answered": len(latencies), **_percentiles(latencies)}
                for rpc, latencies in sorted(self._latencies.items())
            },
            "errors": dict(sorted(self._errors.items())),
            "unsent": self.unsent,
        }


def _percentiles(latencies: list[float]) -> dict[str, float | None]:
    """p50, p90 and p99 in ms of latencies in seconds."""
    names = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99}
    if not latencies:
        return dict.fromkeys(names)
    return {
        name: round(1000 * float(np.percentile(latencies, share)), 3)
        for name, share in names.items()
    }
