"""Durable storage of outcomes: one protocol, a cache, and an engine on SQLite."""
