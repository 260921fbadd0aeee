"""Names of estimators: registered, loaded, resolved."""

from collections.abc import Iterator

import pytest

from vzero_server.engine.estimators import registry
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.estimators.registry import EstimatorEntry, LoadedEstimators
from vzero_server.errors import EstimatorNotLoadedError, UnknownEstimatorError


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, EstimatorEntry]]:
    """A registry of three: one without weights, and one that answers small contexts."""
    monkeypatch.setattr(registry, "_entries", {})
    registry.register(EstimatorEntry("plain", 1, lambda context: NearestNeighbours()))
    registry.register(EstimatorEntry("weightless", 3, lambda context: None))
    registry.register(
        EstimatorEntry("best", 2, lambda context: Prior(), answers_small_contexts=True)
    )
    yield registry._entries


def load() -> LoadedEstimators:
    return LoadedEstimators.load(None)  # type: ignore[arg-type]


def test_the_default_is_the_preferred_estimator_that_is_loaded() -> None:
    loaded = load()
    assert list(loaded) == ["best", "plain"]
    assert loaded.default == "best"
    for name in ("", "auto", "AUTO"):
        assert loaded.resolve(name) is loaded["best"]
    assert loaded.resolve("Plain") is loaded["plain"]
    assert loaded.small is loaded["best"]


def test_a_registered_estimator_without_weights_is_not_loaded() -> None:
    with pytest.raises(EstimatorNotLoadedError, match=r"'weightless' .* loaded: best, plain"):
        load().resolve("weightless")


def test_the_error_for_an_unknown_name_lists_the_known_names() -> None:
    with pytest.raises(UnknownEstimatorError) as raised:
        load().resolve("other")
    assert raised.value.known == ("auto", "best", "plain", "weightless")


@pytest.mark.parametrize("name", ["plain", "auto", "Upper"])
def test_a_name_that_is_taken_reserved_or_not_lower_case_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="taken, reserved, or not lower case"):
        registry.register(EstimatorEntry(name, 0, lambda context: None))


def test_small_contexts_are_answered_by_their_mean_if_no_estimator_offers_to(
    entries: dict[str, EstimatorEntry],
) -> None:
    del entries["best"]
    assert isinstance(load().small, Prior)
