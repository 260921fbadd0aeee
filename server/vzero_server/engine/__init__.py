"""From prompts to values, fast."""
