"""Routers evaluated on a fleet over a sweep of preferences, with bootstrap intervals.

The bootstrap draws prompts and splits, since the choice of the known prompts is random as well. The
outcomes of a prompt under all policies are drawn together, in every split and for every router
alike, so that differences between routers are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vzero_server.decisions.costs import normalised_costs
from vzero_server.decisions.ranking import decomposed_scores, eligible, rank
from vzero_server.types import FloatArray, IntArray
from vzero_train.data.fleet import Fleet
from vzero_train.evaluation.frontier import Frontier
from vzero_train.evaluation.resampling import Interval
from vzero_train.evaluation.routers import Router, Task

BETAS: tuple[float, ...] = (
    0.0,
    *(1.0 / (1.0 + 10.0**exponent) for exponent in np.linspace(3.0, -3.0, 49)),
    1.0,
)
"""Preferences of a sweep: the odds of reward against cost from 1:1000 to 1000:1."""

FIGURES = {
    "aiq": "AIQ",
    "to_oracle": "area to oracle",
    "accuracy": "accuracy",
    "gap": "gap to oracle",
    "cpt50": "CPT(50 %)",
    "cpt80": "CPT(80 %)",
    "cost": "cost of the best single's accuracy",
}
"""Titles of the figures of a ``Report``, in order."""

PAPER_BETAS: tuple[float, ...] = (0.0, *(float(x) for x in BETAS[9:42:4]), 1.0)
"""Preferences of the paper's mode, which reads every context again for each of them."""

Scorer = Callable[[Task, FloatArray, Sequence[float]], FloatArray]
"""Scores ``[b, Q, P]`` of a task, normalised costs ``[P]`` and preferences ``[b]``."""


@dataclass(frozen=True, eq=False)
class Routed:
    """The choices of routers for the asked prompts of one split.

    Attributes:
        task: The split.
        picks: Position of the chosen policy by router, ``[b, Q]``.
    """

    task: Task
    picks: Mapping[str, IntArray]


@dataclass(frozen=True)
class Report:
    """Figures of a router; means over splits.

    Attributes:
        name: Name of the router.
        figures: By the names of ``FIGURES``.
        leads: AIQ of each judged router less that of this one.
        curve: Mean cost and mean reward at each preference, ``[b]`` pairs.
    """

    name: str
    figures: Mapping[str, Interval]
    leads: Mapping[str, Interval]
    curve: tuple[tuple[float, float], ...]

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; undefined figures are None."""
        return {
            "name": self.name,
            **{name: _plain(figure) for name, figure in self.figures.items()},
            "aiq_leads": {name: _plain(lead) for name, lead in self.leads.items()},
            "curve": [[round(cost, 4), round(reward, 5)] for cost, reward in self.curve],
        }


def splits_of(fleet: Fleet, rows: int, splits: int, seed: int = 0) -> list[Task]:
    """Return random splits into ``rows`` known prompts and the others, which are asked."""
    tasks = []
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(fleet))
        known, asked = order[:rows], order[rows:]
        tasks.append(Task(known, fleet.rewards[known], asked, seed + split))
    return tasks


@dataclass(frozen=True, eq=False)
class Sweep:
    """A router and the preferences it is swept over."""

    scores: Scorer
    betas: tuple[float, ...] = BETAS


def decomposed(router: Router) -> Sweep:
    """Return a sweep that predicts values once and combines them with costs."""

    def scores(task: Task, cost: FloatArray, betas: Sequence[float]) -> FloatArray:
        return decomposed_scores(router(task), cost, betas)

    return Sweep(scores)


def route(
    fleet: Fleet,
    tasks: Sequence[Task],
    sweeps: Mapping[str, Sweep],
    progress: Callable[[int, int], None] | None = None,
) -> list[Routed]:
    """Choose a policy for every asked prompt, with every router and preference."""
    routed = []
    for done, task in enumerate(tasks):
        cost = normalised_costs(fleet.costs[task.known].mean(0).tolist())
        picks = {}
        for number, (name, sweep) in enumerate(sweeps.items()):
            scores = sweep.scores(task, cost, sweep.betas)
            passed = eligible(scores[0], [None] * len(cost))
            picks[name] = rank(scores, cost, passed).order[..., 0]
            if progress:
                progress(done * len(sweeps) + number + 1, len(tasks) * len(sweeps))
        routed.append(Routed(task, picks))
    return routed


def judge(
    fleet: Fleet,
    routed: Sequence[Routed],
    judged: Sequence[str],
    oracle: str,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> list[Report]:
    """Compute figures of all routers, with 95 % intervals over prompts and splits.

    Args:
        fleet: The fleet.
        routed: Choices by split.
        judged: Routers whose leads are computed.
        oracle: Router to which gaps are measured.
        resamples: Number of resamples of the bootstrap.
        seed: Seed of its draws.
    """
    rng = np.random.default_rng(seed)
    weights = _draws(len(fleet), resamples, rng)
    shares = _draws(len(routed), resamples, rng) / len(routed)
    names = list(routed[0].picks)
    replicates_of = {
        name: {figure: np.zeros(resamples + 1) for figure in FIGURES} for name in names
    }
    curves = {name: np.zeros((len(picks), 2)) for name, picks in routed[0].picks.items()}
    for choices, share in zip(routed, shares.T, strict=True):
        sample = _Sample.of(fleet, choices.task, weights)
        points = {name: sample.points(fleet, picks) for name, picks in choices.picks.items()}
        for name, (costs, rewards) in points.items():
            curves[name] += np.stack([costs[0], rewards[0]], axis=1) / len(routed)
            for figure, replicates in _figures(sample, costs, rewards).items():
                replicates_of[name][figure] += replicates * share
    for figures in replicates_of.values():
        best = replicates_of[oracle]
        figures["to_oracle"] = best["aiq"] - figures["aiq"]
        figures["gap"] = best["accuracy"] - figures["accuracy"]
    return [
        Report(
            name=name,
            figures={figure: Interval.of(values) for figure, values in figures.items()},
            leads={
                rival: Interval.of(replicates_of[rival]["aiq"] - figures["aiq"]) for rival in judged
            },
            curve=tuple((float(cost), float(reward)) for cost, reward in curves[name]),
        )
        for name, figures in replicates_of.items()
    ]


def _draws(count: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return counts of draws, ``[1 + resamples, count]``; the first row is all ones."""
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    return np.concatenate([np.ones((1, count)), drawn.astype(np.float64)])


@dataclass(frozen=True, eq=False)
class _Sample:
    """Resamples of the asked prompts of a split; S = 1 + resamples.

    Attributes:
        asked: Prompts, ``[Q]``.
        shares: Share of each prompt in each resample, ``[S, Q]``; rows sum to 1.
        costs: Mean cost of each policy, ``[S, P]``.
        rewards: Mean reward of each, ``[S, P]``.
        best: The policy with the highest mean reward on the known prompts.
    """

    asked: IntArray
    shares: FloatArray
    costs: FloatArray
    rewards: FloatArray
    best: int

    @classmethod
    def of(cls, fleet: Fleet, task: Task, weights: FloatArray) -> "_Sample":
        shares = weights[:, task.asked]
        shares = shares / shares.sum(1, keepdims=True)
        return cls(
            task.asked,
            shares,
            shares @ fleet.costs[task.asked],
            shares @ fleet.rewards[task.asked],
            int(task.rewards.mean(0).argmax()),
        )

    def points(self, fleet: Fleet, picks: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return mean costs and mean rewards, ``[S, b]`` each, of choices ``[b, Q]``."""
        costs = fleet.costs[self.asked, picks]
        rewards = fleet.rewards[self.asked, picks]
        return self.shares @ costs.T, self.shares @ rewards.T


def _figures(sample: _Sample, costs: FloatArray, rewards: FloatArray) -> dict[str, FloatArray]:
    """Return replicates, ``[S]``, of the figures of one router."""
    rows = []
    for router_costs, router_rewards, policy_costs, policy_rewards in zip(
        costs, rewards, sample.costs, sample.rewards, strict=True
    ):
        cheapest, best = int(policy_costs.argmin()), sample.best
        weak = (float(policy_costs[cheapest]), float(policy_rewards[cheapest]))
        strong = (float(policy_costs[best]), float(policy_rewards[best]))
        # Any router can send all prompts to the cheapest or to the best policy.
        frontier = Frontier.of([weak[0], *router_costs], [weak[1], *router_rewards])
        full = Frontier.of([*frontier.costs, strong[0]], [*frontier.rewards, strong[1]])
        rows.append(
            (
                frontier.mean_reward(weak[0], float(policy_costs.max())),
                router_rewards[-1],
                full.threshold(0.5, weak, strong),
                full.threshold(0.8, weak, strong),
                full.cost_of(strong[1]) / strong[0] if strong[0] else np.nan,
            )
        )
    names = ("aiq", "accuracy", "cpt50", "cpt80", "cost")
    return dict(zip(names, np.array(rows).T, strict=True))


def _plain(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None or not np.isfinite(interval.estimate):
        return None
    return {
        name: round(value, 6) if np.isfinite(value) else None
        for name, value in asdict(interval).items()
    }
