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
    """A registry of the test's own: one estimator with weights, one without, one for small."""
    monkeypatch.setattr(registry, "_entries", {})
    registry.register(EstimatorEntry("plain", 1, lambda context: NearestNeighbours()))
    registry.register(EstimatorEntry("weightless", 3, lambda context: None))
    registry.register(
        EstimatorEntry("best", 2, lambda context: Prior(), answers_small_contexts=True)
    )
    yield registry._entries


def load() -> LoadedEstimators:
    return LoadedEstimators.load(None)  # type: ignore[arg-type]


def test_the_preferred_one_that_has_weights_is_the_default() -> None:
    loaded = load()
    assert list(loaded) == ["best", "plain"]
    assert loaded.default == "best"
    for name in ("", "auto", "AUTO"):
        assert loaded.resolve(name) is loaded["best"]
    assert loaded.resolve("Plain") is loaded["plain"]
    assert loaded.small is loaded["best"]


def test_a_registered_one_without_weights_is_not_loaded() -> None:
    with pytest.raises(EstimatorNotLoadedError, match=r"'weightless' .* loaded: best, plain"):
        load().resolve("weightless")


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownEstimatorError) as refused:
        load().resolve("other")
    assert refused.value.known == ("auto", "best", "plain", "weightless")


@pytest.mark.parametrize("name", ["plain", "auto", "Upper"])
def test_a_name_that_is_taken_reserved_or_not_lower_case_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="taken, reserved, or not lower case"):
        registry.register(EstimatorEntry(name, 0, lambda context: None))


def test_without_one_for_small_contexts_they_are_answered_from_their_mean(
    entries: dict[str, EstimatorEntry],
) -> None:
    del entries["best"]
    assert isinstance(load().small, Prior)
