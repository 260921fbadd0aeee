"""Tokens, costs, prices and labels of policies; fleets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns, sum the costs of stored outcomes, create the tables of fleets."""
    op.add_column("outcome", sa.Column("tokens", sa.Double))
    op.add_column("outcome", sa.Column("decision_id", sa.String(128)))
    for name in ("cost", "token"):
        total = sa.Column(f"{name}_sum", sa.Double, nullable=False, server_default="0")
        op.add_column("policy", total)
        count = sa.Column(f"{name}_outcomes", sa.BigInteger, nullable=False, server_default="0")
        op.add_column("policy", count)
    op.add_column("policy", sa.Column("price", sa.Double))
    op.add_column("policy", sa.Column("price_unit", sa.String(16)))
    labels = sa.Column("labels", sa.Text, nullable=False, server_default="{}")
    op.add_column("policy", labels)
    op.execute(
        "UPDATE policy SET "
        "cost_sum = (SELECT coalesce(sum(cost), 0) FROM outcome WHERE policy_key = policy.key), "
        "cost_outcomes = (SELECT count(cost) FROM outcome WHERE policy_key = policy.key)"
    )
    op.create_table(
        "fleet",
        sa.Column("key", _KEY, primary_key=True),
        sa.Column("name", sa.String(256), nullable=False, unique=True),
    )
    op.create_table(
        "fleet_member",
        sa.Column("fleet_key", _KEY, sa.ForeignKey("fleet.key"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("policy_key", _KEY, sa.ForeignKey("policy.key"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("fleet_member_policy", "fleet_member", ["policy_key"])
