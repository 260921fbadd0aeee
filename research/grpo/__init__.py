"""GRPO under equal budgets: does it pay to ask vzero how many rollouts each prompt gets?"""
