"""Train a language model with TRL's GRPO; vzero divides the rollouts among the prompts.

Install `vzero[server,trl]`, start a server with `vzero serve`, then run
`python examples/trl_grpo.py`. The default model is downloaded from the Hugging Face Hub.
"""

import argparse
from collections.abc import Sequence

from datasets import Dataset
from trl import GRPOConfig

import vzero
from vzero.integrations.budget import Budget
from vzero.integrations.trl import BudgetedGRPOTrainer


def exact_match(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """Reward 1 for a completion that contains the answer, else 0."""
    return [float(expected in text) for text, expected in zip(completions, answer, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:50051", help="address of the server")
    parser.add_argument("--policy", default="example-trl", help="name of the policy")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=50, help="training steps")
    parser.add_argument("--out", default="trl-grpo", help="folder of TRL's output")
    options = parser.parse_args(arguments)

    pairs = [(a, b) for a in range(2, 40) for b in range(2, 40)]
    questions = Dataset.from_list(
        [{"prompt": f"{a} times {b} is", "answer": str(a * b)} for a, b in pairs]
    )
    with vzero.Client(options.address) as client:
        client.wait_ready(60)
        trainer = BudgetedGRPOTrainer(
            model=options.model,
            reward_funcs=exact_match,
            train_dataset=questions,
            args=GRPOConfig(
                output_dir=options.out,
                num_generations=4,  # the average of a prompt
                per_device_train_batch_size=16,
                max_completion_length=8,
                max_steps=options.steps,
                logging_steps=1,
                report_to="none",
                use_cpu=True,
            ),
            budget=Budget(client, options.policy, maximum=12),
        )
        trainer.train()
        policy = client.policy(options.policy)
    print(f"{policy.policy_id}: mean reward {policy.mean_reward:.3f} at step {policy.newest_step}")


if __name__ == "__main__":
    main()
