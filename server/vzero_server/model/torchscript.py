"""TorchScript: functions of tensors that run without the Python interpreter."""

import logging
import warnings
from collections.abc import Callable, Sequence

import torch

logger = logging.getLogger(__name__)

Tensors = tuple[torch.Tensor, ...]
TensorFunction = Callable[..., Tensors]
"""A function from tensors to tensors."""

# Outputs of a traced function and of the original differ by rounding only.
_TOLERANCE = 1e-3


def trace(function: TensorFunction, examples: Sequence[Tensors], name: str) -> TensorFunction:
    """Trace a function with TorchScript, for tensors of any size.

    A forward pass is about a thousand operations, and Python takes the interpreter lock for each
    of them. Beside threads that hold the lock, the pass takes twice as long. A traced function
    releases the lock for all operations, and costs less per operation. PyTorch deprecates
    TorchScript, but its successor needs a compiler on the machine that serves.

    A function that cannot be traced is returned unchanged, with a warning in the log.

    Args:
        function: Function to trace. Its weights must not require gradients.
        examples: Arguments of different sizes. The first are traced; for the others, the traced
            function must return the same as the original.
        name: Name of the function in log lines.
    """
    try:
        with warnings.catch_warnings():
            # Warnings about deprecation, and about sizes that may have become constants; the
            # other examples check the latter.
            warnings.simplefilter("ignore")
            traced: TensorFunction = torch.jit.trace(  # type: ignore[no-untyped-call]
                function, examples[0], check_trace=False
            )
        for example in examples[1:]:
            torch.testing.assert_close(
                traced(*example), function(*example), rtol=_TOLERANCE, atol=_TOLERANCE
            )
    except Exception as error:  # The code of a model may raise anything.
        reason = str(error).splitlines()[0]
        logger.warning("%s cannot be traced and slows down under concurrency: %s", name, reason)
        return function
    return traced
