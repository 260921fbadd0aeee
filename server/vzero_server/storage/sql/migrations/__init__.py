"""How data folders of older versions become current (Alembic)."""
