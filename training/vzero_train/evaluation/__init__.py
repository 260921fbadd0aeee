"""How good values are: metrics, baselines, bootstrap."""
