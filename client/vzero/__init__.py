"""Client of vzero: how likely is a policy to succeed on a prompt, before any rollout?"""

from importlib.metadata import PackageNotFoundError, version

from vzero import errors
from vzero._options import ReadOptions, ValueOptions
from vzero.aio import AsyncClient, AsyncStream
from vzero.client import Client
from vzero.decisions import Allocation, Ranking
from vzero.errors import VzeroError
from vzero.stream import Stream
from vzero.values import KEEP, Ack, Context, Fleet, History, Policy, Price, ServerInfo, Values

__all__ = [
    "KEEP",
    "Ack",
    "Allocation",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "Context",
    "Fleet",
    "History",
    "Policy",
    "Price",
    "Ranking",
    "ReadOptions",
    "ServerInfo",
    "Stream",
    "ValueOptions",
    "Values",
    "VzeroError",
    "__version__",
    "errors",
]

try:
    __version__ = version("vzero")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"
