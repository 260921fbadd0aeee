"""What a token of a policy costs."""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a price is counted in."""

    PARAMS = "params"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one token.

    Attributes:
        per_token: At least 0. In ``PARAMS`` the policy's size in comparison with others: 7 for
            7 billion parameters (paper, F.2).
        unit: What it is counted in.
    """

    per_token: float
    unit: Unit
