"""The evidence of peers on the prompts of a call, and values corrected by it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from vzero_server.types import BoolArray, FloatArray
from vzero_server.values.beta import Values, inside, logits
from vzero_server.values.peer_correction import PeerCorrection, correct


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """How peers correct values under one context, and their rewards on the prompts of a call.

    Attributes:
        correction: Fitted to the context.
        rewards: Rewards of the peers on the prompts, ``[P, m]``, NaN where a peer does not know a
            prompt.
    """

    correction: PeerCorrection
    rewards: FloatArray

    @property
    def known(self) -> BoolArray:
        """Which prompts a peer knows, ``[m]``."""
        return np.logical_not(np.isnan(self.rewards).all(axis=0))


def apply_peers(values: Sequence[Values], evidence: Sequence[PeerEvidence | None]) -> list[Values]:
    """Correct values by the evidence of peers, where there is any.

    Args:
        values: Under each context, of the same m prompts.
        evidence: Of the peers of each context.
    """
    corrected = [
        position for position, peer_evidence in enumerate(evidence) if peer_evidence is not None
    ]
    adjusted = list(values)
    if not corrected:
        return adjusted
    chosen = [peer_evidence for peer_evidence in evidence if peer_evidence is not None]
    corrected_logits = correct(
        [peer_evidence.correction for peer_evidence in chosen],
        [logits(values[position].mean) for position in corrected],
        [peer_evidence.rewards for peer_evidence in chosen],
    )
    for position, peer_evidence, query_logits in zip(
        corrected, chosen, corrected_logits, strict=True
    ):
        before, known = values[position], peer_evidence.known
        mean = np.where(known, expit(query_logits), before.mean)
        adjusted[position] = replace(
            before,
            mean=mean,
            centre=np.where(known, inside(mean), before.centre),
            effective_sample_size=np.where(
                known, peer_evidence.correction.kappa, before.effective_sample_size
            ),
        )
    return adjusted
