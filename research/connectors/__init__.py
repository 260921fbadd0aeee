"""Connectors between a frozen backbone and a head: variants, heads and training."""
