"""The standard health protocol, spoken in bytes: a client needs no package for two messages."""

import grpc

METHOD = "/grpc.health.v1.Health/Check"
REQUEST = b""
"""A HealthCheckRequest for the whole server."""

PAUSE = 0.1
"""Seconds between two checks."""

_SERVING = b"\x08\x01"


def is_serving(response: bytes) -> bool:
    """Read a HealthCheckResponse."""
    return response == _SERVING


def is_final(error: grpc.RpcError) -> bool:
    """Tell whether asking again cannot change the answer, such as for a wrong token."""
    return error.code() in {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
