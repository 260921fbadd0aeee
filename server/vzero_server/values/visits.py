"""Visits: when a policy came past a prompt, and what it earned there.

The outcomes of one prompt at one step are one visit; an outcome that names no step is a visit of
its own. Ages count visits, the newest is 1: how long ago a visit was says less of what it is still
worth (`docs/history.md` has the figures), and no unit of time has to be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray

MOST_VISITS = 32
"""Newest visits of a prompt that count."""


@dataclass(frozen=True)
class Past:
    """Past visits of n prompts, k in all, in any order.

    Attributes:
        owner: Which prompt each is of, ``[k]``, from 0 to n - 1.
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
    def known(self) -> BoolArray:
        """Which prompts have a past, ``[n]``."""
        return np.bincount(self.owner, minlength=self.prompts) > 0

    def of(self, chosen: IntArray) -> "Past":
        """The past of some of the prompts, each named once, numbered anew."""
        place = np.full(self.prompts, -1)
        place[chosen] = np.arange(len(chosen))
        kept = place[self.owner] >= 0
        return Past(
            place[self.owner[kept]],
            self.rewards[kept],
            self.rollouts[kept],
            self.ages[kept],
            len(chosen),
        )

    def apart(self) -> "list[Past]":
        """That of each prompt by itself; for a past that names one prompt after the other."""
        sizes = np.bincount(self.owner, minlength=self.prompts)
        ends = np.cumsum(sizes).tolist()
        return [
            Past(
                np.zeros(end - begin, np.int64),
                self.rewards[begin:end],
                self.rollouts[begin:end],
                self.ages[begin:end],
                1,
            )
            for begin, end in zip([0, *ends[:-1]], ends, strict=True)
        ]

    @classmethod
    def together(cls, pasts: "Sequence[Past]") -> "Past":
        """That of prompts whose pasts are known one by one."""
        if len(pasts) == 1:
            return pasts[0]
        return cls(
            np.repeat(np.arange(len(pasts)), [len(past.owner) for past in pasts]),
            np.concatenate([past.rewards for past in pasts]),
            np.concatenate([past.rollouts for past in pasts]),
            np.concatenate([past.ages for past in pasts]),
            len(pasts),
        )


@dataclass(frozen=True, slots=True)
class _Visits:
    """Rows put together, prompt by prompt, oldest first.

    Attributes:
        prompts: ``[k]``.
        rewards: ``[k]``.
        rollouts: ``[k]``.
        rows: Which visit each row belongs to, ``[n]``.
    """

    prompts: IntArray
    rewards: FloatArray
    rollouts: FloatArray
    rows: IntArray


def past_of(
    owner: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray, prompts: int
) -> Past:
    """What prompts have behind them, one prompt after the other.

    Args:
        owner: Which prompt each outcome is of, ``[m]``, from 0 to ``prompts - 1``; those of one
            prompt are in order, oldest first.
        steps: Step of each, -1 where none was named, ``[m]``.
        rewards: ``[m]``, in [0, 1].
        rollouts: ``[m]``, at least 1.
        prompts: How many there are.
    """
    visits = _visits(owner, steps, rewards, rollouts)
    size = np.bincount(visits.prompts, minlength=prompts)
    end = np.cumsum(size)[visits.prompts]
    ages = end - np.arange(len(visits.prompts))
    kept = ages <= MOST_VISITS
    return Past(
        visits.prompts[kept],
        visits.rewards[kept],
        visits.rollouts[kept],
        ages[kept].astype(np.float64),
        prompts,
    )


def past_of_rows(
    prompts: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray
) -> Past:
    """What each row of a log has behind it: the visits of its prompt before its own.

    Args:
        prompts: Keys, ``[n]``, oldest row first.
        steps: Step of each, -1 where none was named, ``[n]``.
        rewards: ``[n]``, in [0, 1].
        rollouts: ``[n]``, at least 1.
    """
    visits = _visits(prompts, steps, rewards, rollouts)
    owner, earlier, ages = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for age in range(1, MOST_VISITS + 1):
        before = visits.rows - age
        rows = np.flatnonzero(
            (before >= 0) & (visits.prompts[before] == visits.prompts[visits.rows])
        )
        if not len(rows):
            break
        owner.append(rows)
        earlier.append(before[rows])
        ages.append(np.full(len(rows), float(age)))
    found = np.concatenate(earlier)
    return Past(
        np.concatenate(owner),
        visits.rewards[found],
        visits.rollouts[found],
        np.concatenate(ages),
        len(prompts),
    )


def _visits(
    prompts: IntArray, steps: IntArray, rewards: FloatArray, rollouts: FloatArray
) -> _Visits:
    order = np.argsort(prompts, kind="stable")
    keys, at = prompts[order], steps[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (keys[1:] != keys[:-1]) | (at[1:] != at[:-1]) | (at[1:] < 0)
    number = np.cumsum(begins) - 1
    attempts = np.bincount(number, rollouts[order]).astype(np.float64)
    earned = np.bincount(number, (rewards * rollouts)[order])
    rows = np.empty(len(order), np.int64)
    rows[order] = number
    return _Visits(keys[begins], (earned / attempts).clip(0.0, 1.0), attempts, rows)
