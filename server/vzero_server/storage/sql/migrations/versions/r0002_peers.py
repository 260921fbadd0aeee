"""An index that covers queries for the rewards of policies on a prompt."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Widen the index on prompts by policy and reward."""
    op.drop_index("outcome_prompt", "outcome")
    op.create_index("outcome_prompt", "outcome", ["prompt_key", "policy_key", "reward"])
