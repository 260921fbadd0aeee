"""Functions of tensors as programs of torch, which run without Python and without its lock."""

import logging
import warnings
from collections.abc import Callable, Sequence

import torch

logger = logging.getLogger(__name__)

Tensors = tuple[torch.Tensor, ...]
Program = Callable[..., Tensors]

# Numbers of a program and of the function it was traced from differ by rounding at most.
_TOLERANCE = 1e-3


def traced(function: Program, examples: Sequence[Tensors], what: str) -> Program:
    """A function as one program, the sizes of its tensors left open.

    A pass of a model is some thousand operations, and each of them takes the interpreter's lock
    to begin: beside other threads that hold it, the pass takes twice as long. A program takes it
    once, and spends less on each operation. TorchScript does this; torch deprecates it, and what
    is to follow it needs a compiler where the server runs. A function that cannot be traced is
    run as it is.

    Args:
        function: Of tensors, to tensors. Its weights need no gradient.
        examples: Arguments of unlike sizes: the first are traced, and the program must agree with
            the function on the others.
        what: Its name in the log.
    """
    try:
        with warnings.catch_warnings():
            # Of being deprecated, and of sizes that might have become constants: see below.
            warnings.simplefilter("ignore")
            program: Program = torch.jit.trace(  # type: ignore[no-untyped-call]
                function, examples[0], check_trace=False
            )
        for example in examples[1:]:
            # A number that the trace took for a constant shows here.
            torch.testing.assert_close(
                program(*example), function(*example), rtol=_TOLERANCE, atol=_TOLERANCE
            )
    except Exception as error:  # Whatever the code of a model may raise.
        reason = str(error).splitlines()[0]
        logger.warning("%s is not traced, and slower beside other threads: %s", what, reason)
        return function
    return program
