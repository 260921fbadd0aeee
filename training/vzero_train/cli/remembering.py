"""``vzero eval history``."""

import time
from pathlib import Path

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli.inputs import Setup, stages


def run(path: Path | None, setup: Setup, *, out: Path) -> None:
    """Judge values that remember, and write a page.

    Args:
        path: Outcomes of policies along their steps; None for the policy zoo. The page of other
            outcomes bears the name of their file.
        setup: Backbone, head, cache, seed.
        out: Folder of the page.

    Raises:
        BadInput: A file cannot be used, or no prompt comes back.
    """
    from vzero_server.demo import zoo
    from vzero_train.experiments import history

    started = time.monotonic()
    given = setup.judged(path or zoo())
    with stages(setup.quiet) as report:
        try:
            written = history.run(
                given.outcomes,
                given.checkpoint,
                given.columns.features,
                out,
                label=path.stem if path is not None else "",
                seed=setup.seed,
                progress=report,
            )
        except ValueError as error:
            raise BadInput(f"{path or 'the policy zoo'}: {error}") from error
    if setup.quiet:
        printed.document(written)
    else:
        printed.line(f"history: {time.monotonic() - started:.0f} s, written to {out}")
