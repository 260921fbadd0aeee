"""Decisions made from values: allocation of rollouts and ranking of policies."""
