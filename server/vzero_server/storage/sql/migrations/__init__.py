"""Alembic migrations from older schemas to the current one."""
