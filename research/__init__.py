"""Experiments behind vzero: the paper's tables, connectors, TabPFN, GRPO and the policy zoo."""
