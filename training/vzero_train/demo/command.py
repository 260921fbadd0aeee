"""``vzero demo``: a server learns from recorded outcomes, is killed, and recovers."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from vzero_server.testing.local_server import LocalServer
from vzero_train.data.zoo import zoo
from vzero_train.demo.checkpoints import load_checkpoints
from vzero_train.demo.learning import learn, score_table
from vzero_train.demo.recovery import recovery_table, restart

# Prompts whose values are compared before and after the restart.
_COMPARED = 200


def demo(
    policies: Annotated[int, typer.Option(help="Policies to stream.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the choice of prompts.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Outcomes (parquet); the policy zoo by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Stream outcomes of real policies to a server and compare its values with observed rewards.

    Starts a server on a free loopback port with a temporary data folder; leaves nothing behind.
    """
    console = Console(stderr=as_json)
    checkpoints = load_checkpoints(data or zoo(), policies)
    with tempfile.TemporaryDirectory(prefix="vzero-demo-") as folder:
        # Peers are read for every call, and batches of any size round alike, so that a restart
        # changes no value.
        server = LocalServer(Path(folder) / "data", peer_refresh=0, dtype="float32")
        with console.status("starting a server ..."):
            server.start()
        console.print(f"server on {server.address}, process {server.pid}, data in {folder}")
        with server:
            scores, streamed = learn(server, checkpoints, np.random.default_rng(seed), console)
            if not as_json:
                console.print(score_table(scores))
            recovery = restart(server, checkpoints, streamed[:_COMPARED], console)
    if as_json:
        print(
            json.dumps(
                {"scores": [asdict(score) for score in scores], "recovery": asdict(recovery)}
            )
        )
    else:
        console.print(recovery_table(recovery))
