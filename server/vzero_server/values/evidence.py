"""What an estimator knows of the rows of a context, for whoever corrects its estimates."""

from dataclasses import dataclass

from vzero_server.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ContextEvidence:
    """The rows of a context, and what the estimator says of each when it is left out.

    Corrections by peers, by the fleet and by history are fitted to these numbers, whichever
    estimator they come from.

    Attributes:
        prompts: Keys of the prompts, ``[N]``, oldest row first.
        rewards: In [0, 1], ``[N]``.
        rollouts: Attempts behind each reward, ``[N]``, at least 1.
        loo_logits: Leave-one-out logits: of each row, as predicted from the others, ``[N]``.
        offset: Logit of the policy's level now.
        drift: By how much ``offset`` differs from the logit of the context's mean reward; 0
            where rows have no steps, or show no drift.
        kappa: Concentration of success rates around the estimates, positive.
        kappa_fitted: Whether ``kappa`` was estimated from the rows; False for a context of so few
            rows that it is a prior.
    """

    prompts: IntArray
    rewards: FloatArray
    rollouts: IntArray
    loo_logits: FloatArray
    offset: float
    drift: float
    kappa: float
    kappa_fitted: bool = True
