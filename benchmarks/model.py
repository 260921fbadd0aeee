"""What the model costs without a server around it."""

import os
import time

import torch

from load_tests.prompts import PromptSource
from vzero_server.config import Settings
from vzero_server.model.backbone import Backbone


class InProcessModel:
    """The backbone of a server with the same settings, called directly."""

    def __init__(self) -> None:
        """Load it."""
        settings = Settings.load(None)
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        self._backbone = Backbone.load(
            settings.backbone, device=settings.device, dtype=settings.dtype
        )
        self._batch_tokens = settings.max_batch_tokens
        self.milliseconds(1, 0.1, -1)

    def milliseconds(self, waiting: int, seconds: float, number: int) -> float:
        """Time per new prompt in ms, when always ``waiting`` prompts wait for the model.

        Args:
            waiting: Prompts that are tokenised, sorted by length and embedded together.
            seconds: For how long to repeat it; at least once.
            number: Rounds of different numbers embed different prompts.
        """
        source = PromptSource(f"model-{waiting}-{number}", repeated=0.0)
        count, spent = 0, 0.0
        while spent < seconds:
            prompts = source.take(waiting)
            began = time.perf_counter()
            for batch in self._batches(prompts):
                self._backbone.embed(batch)
            spent += time.perf_counter() - began
            count += waiting
        return 1000 * spent / count

    def _batches(self, prompts: list[str]) -> list[list[list[int]]]:
        batches: list[list[list[int]]] = []
        for tokens in sorted(self._backbone.tokenize(prompts), key=len):
            if not batches or len(tokens) * (len(batches[-1]) + 1) > self._batch_tokens:
                batches.append([])
            batches[-1].append(tokens)
        return batches
