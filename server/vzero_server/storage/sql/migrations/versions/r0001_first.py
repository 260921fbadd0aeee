"""The first schema: policies, prompts, models, embeddings, outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "policy",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("policy_id", sa.String(256), nullable=False, unique=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("reward_sum", sa.Double, nullable=False),
        sa.Column("newest_step", sa.BigInteger),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "prompt",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("text", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "model",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
    )
    op.create_table(
        "embedding",
        sa.Column("prompt_key", _KEY, sa.ForeignKey("prompt.key"), primary_key=True),
        sa.Column("model_key", _KEY, sa.ForeignKey("model.key"), primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcome",
        sa.Column("policy_key", _KEY, sa.ForeignKey("policy.key"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("outcome_id", sa.String(128), nullable=False),
        sa.Column("prompt_key", _KEY, sa.ForeignKey("prompt.key"), nullable=False),
        sa.Column("reward", sa.Double, nullable=False),
        sa.Column("rollouts", sa.Integer, nullable=False),
        sa.Column("cost", sa.Double),
        sa.Column("step", sa.BigInteger),
        sa.Column("observed_at", sa.Double, nullable=False),
        sa.UniqueConstraint("policy_key", "outcome_id", name="outcome_once"),
        sqlite_with_rowid=False,
    )
    op.create_index("outcome_prompt", "outcome", ["prompt_key"])
