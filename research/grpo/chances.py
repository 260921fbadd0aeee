"""How likely a policy is to solve a task: computed, not sampled."""

import torch

from research.policy_zoo.model import PAD, CharacterModel, encode_answers, encode_prompts
from research.policy_zoo.tasks import Task
from vzero_server.types import FloatArray

_CHUNK = 250


@torch.no_grad()
def chances(model: CharacterModel, tasks: list[Task]) -> FloatArray:
    """Success rates of a policy at temperature 1, in [0, 1], (N,).

    A task accepts one answer only, so its success rate is the probability of that answer: the
    product of the probabilities of its characters and of END. Nothing is left to chance, and
    small differences between policies can be seen.
    """
    parts = list[torch.Tensor]()
    for start in range(0, len(tasks), _CHUNK):
        part = tasks[start : start + _CHUNK]
        answers = encode_answers([task.answer for task in part])[:, None]
        logits = model(encode_prompts([task.prompt for task in part]), answers)
        logs = logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0]
        parts.append((logs * (answers != PAD)).sum(-1)[:, 0])
    return torch.cat(parts).double().exp().numpy()
