"""Visits: the outcomes of one prompt at one step, which count together.

An outcome that names no step is a visit of its own. Ages count visits, and the newest has age 1:
the number of later visits predicts better how much a visit still says than the time since it does
(`docs/history.md` has the figures), and needs no unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray

MOST_VISITS = 32
"""Newest visits of a prompt that are used; older ones are ignored."""


@dataclass(frozen=True)
class Visits:
    """Past visits of n prompts, k in all, in any order.

    Attributes:
        owner: The prompt of each visit, ``[k]``, from 0 to n - 1.
        rewards: ``[k]``, in [0, 1].
        rollouts: Attempts behind each, ``[k]``, at least 1.
        ages: 1 for the newest visit of a prompt, 2 for the one before, ``[k]``.
        prompts: n.
    """

    owner: IntArray
    rewards: FloatArray
    rollouts: FloatArray
    ages: FloatArray
    prompts: int

    @cached_property
    def present(self) -> BoolArray:
        """Which prompts have visits, ``[n]``."""
        return np.bincount(self.owner, minlength=self.prompts) > 0

    def of(self, chosen: IntArray) -> "Visits":
        """Return the visits of some of the prompts, each named once and numbered anew."""
        numbers = np.full(self.prompts, -1)
        numbers[chosen] = np.arange(len(chosen))
        kept = numbers[self.owner] >= 0
        return Visits(
            numbers[self.owner[kept]],
            self.rewards[kept],
            self.rollouts[kept],
            self.ages[kept],
            len(chosen),
        )

    def split(self) -> "list[Visits]":
        """Return the visits of each prompt by itself; ``owner`` must be in order."""
        sizes = np.bincount(self.owner, minlength=self.prompts)
        ends = np.cumsum(sizes).tolist()
        return [
            Visits(
                np.zeros(end - begin, np.int64),
                self.rewards[begin:end],
                self.rollouts[begin:end],
                self.ages[begin:end],
                1,
            )
            for begin, end in zip([0, *ends[:-1]], ends, strict=True)
        ]

    @classmethod
    def joined(cls, parts: "Sequence[Visits]") -> "Visits":
        """Undo ``split``: join the visits of prompts that are known one by one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.repeat(np.arange(len(parts)), [len(part.owner) for part in parts]),
            np.concatenate([part.rewards for part in parts]),
            np.concatenate([part.rollouts for part in parts]),
            np.concatenate([part.ages for part in parts]),
            len(parts),
        )


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Rows grouped into visits, prompt by prompt, oldest first.

    Attributes:
        prompts: ``[k]``.
        rewards: ``[k]``.
        rollouts: ``[k]``.
        visit_of_row: The visit that each row belongs to, ``[n]``.
    """

    prompts: IntArray
    rewards: FloatArray
    rollouts: FloatArray
    visit_of_row: IntArray


def visits_of_outcomes(
    owner: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray, prompts: int
) -> Visits:
    """Group all outcomes of prompts into their visits.

    Args:
        owner: The prompt of each outcome, ``[m]``, from 0 to ``prompts - 1``; those of one prompt
            are in order, oldest first.
        steps: Step of each outcome, -1 where none was named, ``[m]``.
        rewards: ``[m]``, in [0, 1].
        rollouts: ``[m]``, at least 1.
        prompts: Number of prompts.

    Returns:
        The visits, one prompt after the other.
    """
    visits = _grouped(owner, steps, rewards, rollouts)
    size = np.bincount(visits.prompts, minlength=prompts)
    end = np.cumsum(size)[visits.prompts]
    ages = end - np.arange(len(visits.prompts))
    kept = ages <= MOST_VISITS
    return Visits(
        visits.prompts[kept],
        visits.rewards[kept],
        visits.rollouts[kept],
        ages[kept].astype(np.float64),
        prompts,
    )


def earlier_visits(
    prompts: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray
) -> Visits:
    """Return, for each row of a log, the visits of its prompt before its own visit.

    Args:
        prompts: Key of the prompt of each row, ``[n]``, oldest row first.
        steps: Step of each row, -1 where none was named, ``[n]``.
        rewards: ``[n]``, in [0, 1].
        rollouts: ``[n]``, at least 1.
    """
    visits = _grouped(prompts, steps, rewards, rollouts)
    owner, earlier, ages = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for age in range(1, MOST_VISITS + 1):
        before = visits.visit_of_row - age
        rows = np.flatnonzero(
            (before >= 0) & (visits.prompts[before] == visits.prompts[visits.visit_of_row])
        )
        if not len(rows):
            break
        owner.append(rows)
        earlier.append(before[rows])
        ages.append(np.full(len(rows), float(age)))
    chosen = np.concatenate(earlier)
    return Visits(
        np.concatenate(owner),
        visits.rewards[chosen],
        visits.rollouts[chosen],
        np.concatenate(ages),
        len(prompts),
    )


def _grouped(
    prompts: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray
) -> _Grouped:
    order = np.argsort(prompts, kind="stable")
    keys, ordered_steps = prompts[order], steps[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = keys[1:] != keys[:-1]
    begins[1:] |= (ordered_steps[1:] != ordered_steps[:-1]) | (ordered_steps[1:] < 0)
    visits = np.cumsum(begins) - 1
    attempts = np.bincount(visits, rollouts[order]).astype(np.float64)
    successes = np.bincount(visits, (rewards * rollouts)[order])
    visit_of_row = np.empty(len(order), np.int64)
    visit_of_row[order] = visits
    return _Grouped(keys[begins], (successes / attempts).clip(0.0, 1.0), attempts, visit_of_row)
