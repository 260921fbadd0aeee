"""Addresses, headers and the service config."""

import json

import grpc
import pytest

from vzero._transport.endpoint import Endpoint, service_config


def endpoint(address: str = "h:1", *, token: str | None = None, **options: object) -> Endpoint:
    arguments: dict[str, object] = {
        "timeout": 1.0,
        "secure": False,
        "root_certificates": None,
        "credentials": None,
        **options,
    }
    return Endpoint.of(address, token=token, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["", "host", "http://host:1", "grpc://host:1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        endpoint(address)


@pytest.mark.parametrize("address", ["host:1", "[::1]:1", "unix:/run/vzero", "unix:///run/vzero"])
def test_addresses(address: str) -> None:
    assert endpoint(address).address == address


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_are_positive(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        endpoint(timeout=timeout)


def test_headers_are_ascii() -> None:
    headers = dict(endpoint(token="secret").metadata("llama 3/ü\ud800"))
    assert headers == {
        "x-vzero-policy": "llama%203%2F%C3%BC%3F",
        "authorization": "Bearer secret",
    }
    assert endpoint().metadata() == ()


def test_tls_when_asked() -> None:
    assert endpoint().credentials is None
    assert isinstance(endpoint(secure=True).credentials, grpc.ChannelCredentials)
    assert isinstance(endpoint(root_certificates=b"pem").credentials, grpc.ChannelCredentials)


def test_only_reads_are_sent_again() -> None:
    (config,) = json.loads(service_config())["methodConfig"]
    assert {name["method"] for name in config["name"]} == {
        "Predict",
        "AllocateBudget",
        "RankModels",
        "GetPolicy",
        "ListPolicies",
        "GetFleet",
        "ListFleets",
        "GetServerInfo",
    }
