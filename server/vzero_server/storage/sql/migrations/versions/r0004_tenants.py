"""Tenants of policies and fleets; a count of outcomes apart from the version."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Alembic's name for the unnamed constraints of the first schemas.
_NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}


def upgrade() -> None:
    """Add the columns and make names unique within a tenant."""
    connection = op.get_bind()
    key_sequence = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'policy'")
    last_key = connection.scalar(key_sequence)
    for table, name, options in (
        ("policy", "policy_id", {"sqlite_autoincrement": True}),
        ("fleet", "name", {}),
    ):
        with op.batch_alter_table(table, naming_convention=_NAMES, table_kwargs=options) as batch:
            tenant = sa.Column("tenant", sa.String(64), nullable=False, server_default="default")
            batch.add_column(tenant)
            if table == "policy":
                outcomes = sa.Column("outcomes", sa.BigInteger, nullable=False, server_default="0")
                batch.add_column(outcomes)
            batch.drop_constraint(f"uq_{table}_{name}", type_="unique")
            batch.create_unique_constraint(f"{table}_once", ["tenant", name])
    # Until now, the version was the number of outcomes.
    op.execute("UPDATE policy SET outcomes = version")
    # The table was rebuilt, but keys of deleted policies must not be reused.
    if last_key is not None:
        op.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'policy'"))
        op.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('policy', :seq)").bindparams(
                seq=last_key
            )
        )
