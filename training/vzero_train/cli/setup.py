"""The models and settings that all evaluations and trainings share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vzero.cli.errors import BadInput
from vzero_train.cli.inputs import outcomes_of
from vzero_train.cli.progress import progress

if TYPE_CHECKING:
    from vzero_server.model.backbone import Backbone
    from vzero_server.model.checkpoint import Checkpoint
    from vzero_server.model.prompt_encoder import PromptEncoder
    from vzero_train.data.columns import Columns
    from vzero_train.data.outcomes import Outcomes


@dataclass(frozen=True)
class Evaluated:
    """Outcomes, the head to evaluate on them, and the features of their prompts."""

    outcomes: "Outcomes"
    checkpoint: "Checkpoint"
    columns: "Columns"


@dataclass(frozen=True)
class Setup:
    """Models and settings of an evaluation or a training.

    Attributes:
        backbone: Name of the backbone.
        device: Torch device, or ``auto``.
        checkpoint: File of a head; None for the shipped one.
        cache: Folder of encoded prompts.
        seed: Seed of all random draws.
        quiet: Show no progress, and print JSON instead of tables.
    """

    backbone: str = "packaged"
    device: str = "cpu"
    checkpoint: Path | None = None
    cache: Path | None = None
    seed: int = 0
    quiet: bool = False

    def load_backbone(self) -> "Backbone":
        """Load the backbone.

        Raises:
            BadInput: There is no backbone of this name, or its files are not a model.
        """
        from vzero_server.model.backbone import Backbone, BackboneError

        try:
            return Backbone.load(self.backbone, device=self.device)
        except BackboneError as error:
            raise BadInput(str(error)) from error

    def load_head(self, backbone: "Backbone") -> "Checkpoint":
        """Load the head.

        Raises:
            BadInput: The file cannot be used, or was made for another backbone.
        """
        from vzero_server.model.checkpoint import SHIPPED, CheckpointError, load_checkpoint

        try:
            return load_checkpoint(self.checkpoint or SHIPPED, backbone_sha256=backbone.weights)
        except CheckpointError as error:
            raise BadInput(str(error)) from error

    def encode(self, outcomes: "Outcomes", encoder: "PromptEncoder") -> "Columns":
        """Encode the prompts of outcomes, with a progress bar."""
        from vzero_train.data.columns import Columns
        from vzero_train.data.features import prompt_features

        with progress("prompts encoded", self.quiet) as report:
            vectors = prompt_features(outcomes.texts, encoder, cache=self.cache, progress=report)
        return Columns.of(vectors, encoder)

    def load(self, path: Path) -> Evaluated:
        """Read outcomes, load the head and encode the prompts.

        Raises:
            BadInput: One of them cannot be used, or the head was made for another backbone.
        """
        from vzero_server.model.prompt_encoder import PromptEncoder

        outcomes = outcomes_of(path)
        backbone = self.load_backbone()
        head = self.load_head(backbone)
        encoder = PromptEncoder(backbone, head.backbone.layers)
        return Evaluated(outcomes, head, self.encode(outcomes, encoder))
