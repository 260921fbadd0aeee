"""Requests to the admin port."""

import urllib.error
import urllib.request

from vzero_server.testing.local_server import LocalServer


def get(server: LocalServer, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(f"http://{server.admin_address}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
