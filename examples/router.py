"""Route prompts to the cheapest model that is likely to answer them.

Start a server with `vzero serve`, then run `python examples/router.py`.
"""

import argparse
from collections.abc import Sequence

import numpy as np

import vzero

# Success rates on easy and hard prompts, and prices in dollars per million tokens.
MODELS = {"small": (0.9, 0.1, 0.1), "large": (0.95, 0.8, 2.0)}
KINDS = ("Say the word {}.", "Prove that {} is prime.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:50051", help="address of the server")
    parser.add_argument("--prefix", default="example-router/", help="start of the models' names")
    options = parser.parse_args(arguments)

    generator = np.random.default_rng(0)
    known = [kind.format(number) for number in range(128) for kind in KINDS]
    policies = [options.prefix + name for name in MODELS]
    with vzero.Client(options.address, timeout=60.0) as client:
        client.wait_ready()
        # Outcomes of an evaluation: one graded answer of 200 tokens per prompt and model.
        for policy, (easy, hard, dollars) in zip(policies, MODELS.values(), strict=True):
            success_rates = np.tile([easy, hard], len(known) // 2)
            rewards = (generator.random(len(known)) < success_rates).astype(float)
            client.update(policy, known, rewards, tokens=200)
            client.update_policy(policy, price=vzero.Price(dollars / 1e6, "money"))

        # beta weighs success against cost: 1 ignores the cost, 0 ignores success.
        prompts = [kind.format(999) for kind in KINDS]
        rankings = client.rank(prompts, policies=policies, betas=0.7)

    for prompt, ranking in zip(prompts, rankings, strict=True):
        cost = ranking.expected_cost[0]
        print(f"{ranking.best}  p = {ranking.mean[0]:.2f}  {cost:.6f} USD  {prompt}")


if __name__ == "__main__":
    main()
