"""What became of the calls of one measurement."""

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
        """Calls that ended, well or not."""
        return sum(len(one) for one in self._latencies.values()) + self._errors.total()

    def answered(self, rpc: str, seconds: float, prompts: int) -> None:
        """Count a call that was answered after ``seconds``."""
        self._latencies[rpc].append(seconds)
        self._prompts += prompts

    def failed(self, code: str) -> None:
        """Count a call that failed, by the name of its status code."""
        self._errors[code] += 1

    def summary(self, seconds: float) -> dict[str, Any]:
        """All figures as JSON values; latencies in ms, None when no call was answered.

        Args:
            seconds: How long the calls took all together.
        """
        every = [latency for one in self._latencies.values() for latency in one]
        return {
            "seconds": round(seconds, 3),
            "requests": len(self),
            "answered": len(every),
            "prompts": self._prompts,
            "requests_per_s": round(len(every) / seconds, 2),
            "prompts_per_s": round(self._prompts / seconds, 2),
            **_percentiles(every),
            "rpcs": {
                rpc: {"answered": len(one), **_percentiles(one)}
                for rpc, one in sorted(self._latencies.items())
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
