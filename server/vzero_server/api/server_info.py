"""A description of the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The version of a server and what it has loaded.

    Attributes:
        estimators: Names of the estimators in order of preference; the first is the default.
        backbone: The backbone that embeds prompts, as the setting names it.
        device: The device that runs the models.
        version: Version of the package.
    """

    estimators: Sequence[str]
    backbone: str
    device: str
    version: str = version("vzero")
