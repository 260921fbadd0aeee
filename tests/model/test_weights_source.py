from pathlib import Path

import pytest

from vzero_server.model.weights_source import Source, WeightsError


def test_a_source_is_a_local_path_or_on_the_hub(tmp_path: Path) -> None:
    checksum = "0" * 64
    assert Source.parse(str(tmp_path)).local == tmp_path
    assert Source.parse("./not/there.pt").local == Path("not/there.pt")
    assert Source.parse("~/x").local == Path.home() / "x"
    assert Source.parse(f"{tmp_path}#{checksum}").checksum == checksum
    source = Source.parse(f"some/body/deep/adapter.pt@v1#{checksum}")
    assert (source.repository, source.path) == ("some/body", "deep/adapter.pt")
    assert (source.revision, source.checksum, source.local) == ("v1", checksum, None)
    assert Source.parse("some/body").revision == "main"


@pytest.mark.parametrize(
    "text", ["", "name", "some/body@", "some/body#123", "a b/c", "~nobody-of-that-name/x", "a\0b"]
)
def test_malformed_sources_are_refused(text: str) -> None:
    with pytest.raises(WeightsError):
        Source.parse(text)
