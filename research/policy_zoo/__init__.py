"""Tiny language models trained with GRPO, and their measured success rates."""
