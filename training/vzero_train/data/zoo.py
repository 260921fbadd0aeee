"""The file of the policy zoo, the outcomes that come with vzero."""

from importlib.resources import files
from pathlib import Path


def zoo() -> Path:
    """Return the path of the policy zoo's outcomes, in the installed package or the repository."""
    packaged = Path(str(files("vzero_train"))) / "datasets" / "policy_zoo.parquet"
    if packaged.exists():
        return packaged
    return Path(__file__).parents[3] / "datasets" / "policy_zoo.parquet"
