"""``vzero info``."""

from dataclasses import asdict

from vzero.cli import output
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    Timeout,
    connect,
)


def info(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Describe the server: its version, estimators, backbone and device."""
    with connect(address, timeout) as client:
        server = client.server_info()
    if as_json:
        output.document(asdict(server))
        return
    estimators = [
        f"{name} (default)" if name == server.default_estimator else name
        for name in server.estimators
    ]
    output.line(f"{'version':<12} {server.version}")
    output.line(f"{'estimators':<12} {', '.join(estimators) or '-'}")
    output.line(f"{'backbone':<12} {server.backbone}")
    output.line(f"{'device':<12} {server.device}")
