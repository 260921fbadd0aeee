"""The standard gRPC health protocol as bytes: two messages do not need a package."""

import grpc

METHOD = "/grpc.health.v1.Health/Check"
REQUEST = b""
"""A HealthCheckRequest about the whole server."""

PAUSE_SECONDS = 0.1
"""Pause between two checks."""

_SERVING = b"\x08\x01"


def is_serving(reply: bytes) -> bool:
    """Tell whether a HealthCheckResponse says SERVING."""
    return reply == _SERVING


def is_final(error: grpc.RpcError) -> bool:
    """Tell whether another check would fail in the same way, such as with a wrong token."""
    return error.code() in {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
