"""One process of a distributed training run, for ``torchrun -m``: address and folder."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.integrations.tiny_training import TOTAL, trainer_of
from vzero import Client
from vzero.integrations.budget import Budget


def main(address: str, folder: Path) -> None:
    """Train, and write the batches of this process."""
    with Client(address) as client:
        trainer = trainer_of(
            Budget(client, "trl-processes", timeout=120.0),
            folder,
            per_device_train_batch_size=TOTAL // 2,
            max_steps=6,
        )
        trainer.train()
    rank = trainer.accelerator.process_index
    (folder / f"{rank}.json").write_text(json.dumps([asdict(batch) for batch in trainer.batches]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
