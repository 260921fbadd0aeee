"""The encoder called in-process, as a reference for the server."""

import time

import numpy as np
import numpy.typing as npt
import torch

from load_tests.prompts import PromptSource
from vzero_server.app import load_models
from vzero_server.model.length_batches import length_batches
from vzero_server.model.loading import default_thread_count
from vzero_server.model.prompt_encoder import TokenisedPrompt
from vzero_server.settings import Settings
from vzero_server.types import Features


class InProcessModel:
    """The encoder of a server with the same settings, called in this process.

    Attributes:
        encoder: The encoder.
    """

    def __init__(self) -> None:
        """Load the encoder and warm it up."""
        settings = Settings.load(None)
        torch.set_num_threads(settings.threads or default_thread_count())
        self.encoder = load_models(settings).encoder
        self._batch_tokens = settings.max_batch_tokens
        self.milliseconds(1, 0.1, -1)

    def milliseconds(self, waiting: int, seconds: float, number: int) -> float:
        """Time per new prompt in ms, if ``waiting`` prompts always wait for the model.

        Args:
            waiting: Number of prompts that are embedded together; see ``seconds``.
            seconds: Minimum duration of the measurement.
            number: Number of the round; different rounds embed different prompts.
        """
        source = PromptSource(f"model-{waiting}-{number}", repeated=0.0)
        count, elapsed = 0, 0.0
        while elapsed < seconds:
            elapsed += self.seconds(source.take(waiting))
            count += waiting
        return 1000 * elapsed / count

    def seconds(self, prompts: list[str]) -> float:
        """Time to tokenise prompts, sort them by length, and embed them, in seconds."""
        began = time.perf_counter()
        for batch in self.batches(prompts):
            self.encoder.embed(batch)
        return time.perf_counter() - began

    def features(self, prompts: list[str]) -> Features:
        """Features of prompts for the head, ``[len(prompts), columns]``."""
        tokenised = self.encoder.tokenize(prompts)
        vectors = np.empty((len(prompts), self.encoder.columns), np.float16)
        for batch in self._positions(tokenised):
            vectors[batch] = self.encoder.embed([tokenised[position] for position in batch])
        return vectors[:, self.encoder.pooled :]

    def batches(self, prompts: list[str]) -> list[list[TokenisedPrompt]]:
        """Prompts tokenised, sorted by length and cut into full batches."""
        tokenised = self.encoder.tokenize(prompts)
        return [[tokenised[position] for position in batch] for batch in self._positions(tokenised)]

    def _positions(self, prompts: list[TokenisedPrompt]) -> list[npt.NDArray[np.int64]]:
        return length_batches([len(prompt) for prompt in prompts], self._batch_tokens)
