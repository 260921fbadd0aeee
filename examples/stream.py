"""Stream the outcomes of a training step, then predict success on prompts of the next one.

Start a server with `vzero serve`, then run `python examples/stream.py`.
"""

import argparse
from collections.abc import Sequence

import numpy as np

import vzero

ROLLOUTS = 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:50051", help="address of the server")
    parser.add_argument("--policy", default="example-stream", help="name of the policy")
    options = parser.parse_args(arguments)

    # A simulated policy: it adds well, multiplies badly and proves nothing.
    generator = np.random.default_rng(0)
    kinds = {
        "What is {} plus 3?": 0.9,
        "What is {} times 17?": 0.4,
        "Prove that {} is prime.": 0.05,
    }
    with vzero.Client(options.address, timeout=60.0) as client:
        client.wait_ready()
        with client.stream(options.policy, step=100) as stream:
            for number in range(100):
                for kind, success_rate in kinds.items():
                    rewards = generator.random(ROLLOUTS) < success_rate
                    stream.add(kind.format(number), rewards.mean(), rollouts=ROLLOUTS)

        prompts = [kind.format(number) for kind in kinds for number in (1234, 4321)]
        values = client.predict(options.policy, prompts)

    for prompt, mean, lower, upper in zip(
        prompts, values.mean, values.lower, values.upper, strict=True
    ):
        print(f"{mean:.2f} [{lower:.2f}, {upper:.2f}]  {prompt}")


if __name__ == "__main__":
    main()
