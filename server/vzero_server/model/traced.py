"""A pass of a backbone as one program of torch: it runs without Python, and without its lock."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch

log = logging.getLogger(__name__)

Batch = Mapping[str, torch.Tensor]
Pass = Callable[[Batch, Sequence[int]], tuple[torch.Tensor, torch.Tensor]]
Program = Callable[..., tuple[torch.Tensor, torch.Tensor]]

# Numbers of a program and of the pass it was traced from differ by rounding at most.
_TOLERANCE = 1e-3


class TracedPasses:
    """Traces a pass, once for each set of layers, the sizes of a batch left open.

    A pass is some thousand operations, and each of them takes the interpreter's lock to begin:
    beside other threads that hold it, the pass takes twice as long. A traced one takes it once.
    TorchScript does this; torch deprecates it, and what is to follow it needs a compiler where
    the server runs. A pass that cannot be traced is run as it is.
    """

    def __init__(self, forward: Pass, examples: Sequence[Batch]) -> None:
        """Take a pass.

        Args:
            forward: The pass: a batch and which layers, to embeddings and layer means. Its
                weights need no gradient.
            examples: Batches of unlike sizes with the same parts: the first is traced, and the
                program must agree with the pass on the others.
        """
        self._forward = forward
        self._examples = examples
        self._programs: dict[tuple[int, ...], Program] = {}

    def __call__(self, batch: Batch, layers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and layer means of a batch."""
        key = tuple(layers)
        if key not in self._programs:
            self._programs[key] = self._program(key)
        return self._programs[key](*batch.values())

    def _program(self, layers: tuple[int, ...]) -> Program:
        names = list(self._examples[0])

        def run(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self._forward(dict(zip(names, parts, strict=True)), layers)

        try:
            program = _traced(run, self._examples[0])
            for example in self._examples[1:]:
                # A number that the trace took for a constant shows here.
                found, expected = program(*example.values()), run(*example.values())
                torch.testing.assert_close(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
        except Exception as error:  # Whatever a model's code may raise.
            reason = str(error).splitlines()[0]
            log.warning("passes are not traced, and slower beside other threads: %s", reason)
            return run
        return program


def _traced(run: Program, example: Batch) -> Program:
    with warnings.catch_warnings():
        # Of being deprecated, and of sizes that might have become constants: that is looked at.
        warnings.simplefilter("ignore")
        traced: Program = torch.jit.trace(  # type: ignore[no-untyped-call]
            run, tuple(example.values()), check_trace=False
        )
    return traced
