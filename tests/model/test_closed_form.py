import torch

from vzero_server.model.closed_form import blend, fit_experts, squared_distances


def make_problem(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    points = torch.randn(1, count, 3, dtype=torch.float64)
    kernel = torch.exp(-squared_distances(points, points, points.square().sum(-1))).unsqueeze(1)
    return kernel, torch.randn(1, 1, count, dtype=torch.float64)


def test_leave_one_out_predictions_equal_a_fit_without_the_row() -> None:
    kernel, targets = make_problem()
    noise = torch.full((1, 1), 0.3, dtype=torch.float64)
    mask = torch.ones(1, 12, dtype=torch.bool)
    _, loo_logits = fit_experts(kernel, targets, noise, mask)
    for row in range(12):
        rest = mask.clone()
        rest[0, row] = False
        dual, _ = fit_experts(kernel, targets, noise, rest)
        expected = (kernel[0, 0, row] * dual[0, 0]).sum()
        torch.testing.assert_close(loo_logits[0, 0, row], expected)


def test_gradients_are_exact() -> None:
    kernel, targets = make_problem(6)
    noise = torch.full((1, 1), 0.3, dtype=torch.float64)
    mask = torch.arange(6).unsqueeze(0) < 5

    def fit(root: torch.Tensor, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return fit_experts(root @ root.transpose(-1, -2), given, noise, mask)

    inputs = (kernel.requires_grad_(), targets.requires_grad_())
    assert torch.autograd.gradcheck(fit, inputs)


def test_without_evidence_the_blend_is_the_prior() -> None:
    prior = torch.tensor([0.5, -0.2])
    weights = blend(
        torch.zeros(3, 2, 7), torch.ones(3, 7), torch.full((3,), 0.25), prior, torch.ones(2)
    )
    torch.testing.assert_close(weights, prior.expand(3, -1))


def test_with_much_evidence_the_useful_expert_gets_the_weight() -> None:
    torch.manual_seed(0)
    skill, noise = torch.randn(1, 4000), torch.randn(1, 4000)
    success = (torch.rand(1, 4000) < torch.sigmoid(skill)).float()
    weights = blend(
        torch.stack([skill, noise], 1),
        success - success.mean(),
        torch.full((1,), 0.25),
        torch.tensor([0.0, 1.0]),
        torch.full((2,), 10.0),
    )
    assert weights[0, 0] > 0.6
    assert weights[0, 1].abs() < 0.15


def test_large_problems_are_solved_exactly() -> None:
    # More rows than the solver handles without splitting, and not a multiple.
    kernel, targets = make_problem(150)
    noise = torch.full((1, 1), 0.3, dtype=torch.float64)
    dual, loo_logits = fit_experts(kernel, targets, noise, torch.ones(1, 150, dtype=torch.bool))
    gram = kernel + (0.3 + 1e-3) * torch.eye(150, dtype=torch.float64)
    inverse = torch.linalg.inv(gram)
    torch.testing.assert_close(dual, (inverse @ targets.unsqueeze(-1)).squeeze(-1))
    expected = targets - dual / inverse.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(loo_logits, expected)
