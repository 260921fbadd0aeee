"""The second half of the demo: the server is killed and restarted."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from vzero import Client
from vzero_server.testing.local_server import LocalServer
from vzero_train.demo.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class Recovery:
    """State of a server after SIGKILL and a restart, compared with the state before."""

    acked: int
    found_of_acked: int
    sent_again: int
    stored_twice: int
    largest_change_of_a_value: float
    seconds_to_serving: float


def restart(
    server: LocalServer,
    checkpoints: Sequence[Checkpoint],
    prompts: Sequence[str],
    console: Console,
) -> Recovery:
    """Kill the server with SIGKILL, start it again, and compare values and counts.

    Args:
        server: Running.
        checkpoints: Streamed before.
        prompts: Compared by their values. They should have outcomes: the embeddings of such
            prompts are durable, while others are computed again in batches of other sizes, which
            may round their last bit differently.
        console: Shows the progress.
    """
    names = sorted({checkpoint.policy for checkpoint in checkpoints})
    last = checkpoints[-1]
    with Client(server.address) as client:
        versions = {name: client.policy(name).version for name in names}
        # Without a version a value may come from the context of a moment before.
        before = {name: client.predict(name, prompts, min_version=versions[name]) for name in names}
        acked = sum(versions.values())
    console.print(f"killing process {server.pid} with SIGKILL ...")
    server.kill()
    started = time.perf_counter()
    with console.status("starting it again ..."):
        server.start()
    seconds = time.perf_counter() - started
    with Client(server.address) as client:
        after = {name: client.predict(name, prompts) for name in names}
        recovered = sum(values.context.version for values in after.values())
        # A client that never received the acknowledgements sends the last checkpoint again.
        ids = [f"{last.step}/{prompt_id}" for prompt_id in last.prompt_ids]
        ack = client.update(
            last.policy,
            last.prompts,
            last.rewards,
            rollouts=last.rollouts,
            cost=last.costs,
            step=last.step,
            outcome_ids=ids,
        )
        twice = client.policy(last.policy).version - after[last.policy].context.version
    change = max(float(np.abs(before[name].mean - after[name].mean).max()) for name in names)
    return Recovery(
        acked=acked,
        found_of_acked=recovered,
        sent_again=ack.duplicates,
        stored_twice=twice - ack.accepted,
        largest_change_of_a_value=change,
        seconds_to_serving=seconds,
    )


def recovery_table(recovery: Recovery) -> Table:
    """Return a table of what the restart kept."""
    table = Table(title="After SIGKILL and a restart", show_header=False)
    rows = {
        "outcomes acknowledged before": f"{recovery.acked:,}",
        "of these, present after the restart": f"{recovery.found_of_acked:,}",
        "sent again and recognised": f"{recovery.sent_again:,}",
        "stored twice": f"{recovery.stored_twice:,}",
        "largest change of a value": f"{recovery.largest_change_of_a_value:.1e}",
        "seconds to serving again": f"{recovery.seconds_to_serving:.1f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
