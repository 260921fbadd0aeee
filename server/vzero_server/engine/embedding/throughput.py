"""How fast the device embeds prompts."""

# Weight that earlier batches keep with every new one: some twenty batches count.
_DECAY = 0.95


class Throughput:
    """Recent speed of the device, as decayed sums over its batches.

    Measured by tokens: the length of prompts changes from call to call.
    """

    def __init__(self) -> None:
        # A prior of a hundred prompts a second.
        self._prompts, self._tokens, self._seconds = 100.0, 5000.0, 1.0

    @property
    def prompts_per_second(self) -> float:
        """Prompts of recent length per second."""
        return self._prompts / self._seconds

    def seconds(self, tokens: int, prompts: int) -> float:
        """Estimate the time for ``tokens``, and for ``prompts`` whose tokens are unknown."""
        tokens_of_prompts = prompts * self._tokens / self._prompts
        return (tokens + tokens_of_prompts) * self._seconds / self._tokens

    def record(self, prompts: int, tokens: int, seconds: float) -> None:
        """Add a batch."""
        # Sums, not a mean of rates: the rate of a small batch says little about a large one.
        self._prompts = _DECAY * self._prompts + prompts
        self._tokens = _DECAY * self._tokens + tokens
        self._seconds = _DECAY * self._seconds + seconds
