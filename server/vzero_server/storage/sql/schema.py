"""Tables of the durable log.

These are the current tables; ``migrations/`` brings older databases here. A prompt's text is
stored once, and its embedding once per model, for all outcomes of all policies.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# SQLite assigns keys only to columns declared INTEGER.
_KEY = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

policy = Table(
    "policy",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("tenant", String(64), nullable=False, server_default="default"),
    Column("policy_id", String(256), nullable=False),
    # Counts changes: one per outcome, one per update of price or labels.
    Column("version", BigInteger, nullable=False),
    Column("outcomes", BigInteger, nullable=False, server_default="0"),
    Column("reward_sum", Double, nullable=False),
    Column("newest_step", BigInteger),
    # Over the outcomes that have a cost, or a number of tokens.
    Column("cost_sum", Double, nullable=False, server_default="0"),
    Column("cost_outcomes", BigInteger, nullable=False, server_default="0"),
    Column("token_sum", Double, nullable=False, server_default="0"),
    Column("token_outcomes", BigInteger, nullable=False, server_default="0"),
    Column("price", Double),
    Column("price_unit", String(16)),
    # A JSON object of strings.
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("tenant", "policy_id", name="policy_once"),
    # A key is never reused, so that entries of caches cannot be mixed up.
    sqlite_autoincrement=True,
)

prompt = Table(
    "prompt",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    # UTF-8 bytes: PostgreSQL, for one, refuses U+0000 in text.
    Column("text", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

model = Table(
    "model",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
)

embedding = Table(
    "embedding",
    metadata,
    Column("prompt_key", _KEY, ForeignKey("prompt.key"), primary_key=True),
    Column("model_key", _KEY, ForeignKey("model.key"), primary_key=True),
    # float16, little-endian
    Column("vector", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

outcome = Table(
    "outcome",
    metadata,
    Column("policy_key", _KEY, ForeignKey("policy.key"), primary_key=True),
    # The policy's version after this outcome: rises within a policy, with gaps at other changes.
    Column("seq", BigInteger, primary_key=True),
    Column("outcome_id", String(128), nullable=False),
    Column("prompt_key", _KEY, ForeignKey("prompt.key"), nullable=False),
    Column("reward", Double, nullable=False),
    Column("rollouts", Integer, nullable=False),
    Column("cost", Double),
    Column("step", BigInteger),
    Column("observed_at", Double, nullable=False),
    Column("tokens", Double),
    Column("decision_id", String(128)),
    UniqueConstraint("policy_key", "outcome_id", name="outcome_once"),
    Index("outcome_prompt", "prompt_key", "policy_key", "reward"),
    sqlite_with_rowid=False,
)

fleet = Table(
    "fleet",
    metadata,
    Column("key", _KEY, primary_key=True),
    Column("tenant", String(64), nullable=False, server_default="default"),
    Column("name", String(256), nullable=False),
    UniqueConstraint("tenant", "name", name="fleet_once"),
)

fleet_member = Table(
    "fleet_member",
    metadata,
    Column("fleet_key", _KEY, ForeignKey("fleet.key"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("policy_key", _KEY, ForeignKey("policy.key"), nullable=False),
    Index("fleet_member_policy", "policy_key"),
    sqlite_with_rowid=False,
)
