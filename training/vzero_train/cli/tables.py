"""``vzero eval tables``: the tables and figures of the paper, measured here."""

import inspect
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli.inputs import Setup, chosen, outcomes_of, stages

NAMES = (
    *("table1", "table2", "table4", "table5", "table6", "table9", "figure4", "figure6"),
    "lineage",
)
"""Modules of ``vzero_train.experiments``."""

_WITH_TABPFN = ("table6",)


def run(
    path: Path | None,
    setup: Setup,
    *,
    only: Sequence[str] | None,
    out: Path,
    tabpfn: Path | None = None,
) -> None:
    """Write tables and figures into a folder.

    Args:
        path: Outcomes; None for the policy zoo. The pages of other outcomes bear the name of
            their file.
        setup: Backbone, head, cache, seed.
        only: Names of ``NAMES``.
        out: The folder.
        tabpfn: Weights of a TabPFN, for the tables that can use them.

    Raises:
        BadInput: A file or a name cannot be used, or the outcomes are no GRPO runs.
    """
    from vzero_server.demo import zoo
    from vzero_server.model.checkpoint import CheckpointError

    names = chosen(only, NAMES, "--only")
    if tabpfn is not None and not set(names) & set(_WITH_TABPFN):
        raise BadInput(f"--tabpfn is for {', '.join(_WITH_TABPFN)}, not for {', '.join(names)}")
    outcomes = outcomes_of(path or zoo())
    backbone = setup.load_backbone()
    written = {}
    for name in names:
        run_one = import_module(f"vzero_train.experiments.{name}").run
        started = time.monotonic()
        with stages(setup.quiet) as report:
            settings: dict[str, Any] = {
                "checkpoint": setup.checkpoint,
                "label": path.stem if path is not None else "",
                "seed": setup.seed,
                "progress": report,
                "tabpfn": tabpfn,
            }
            if setup.cache is not None:
                settings["cache"] = setup.cache
            # Those that train everything themselves take no checkpoint.
            known = inspect.signature(run_one).parameters
            settings = {key: value for key, value in settings.items() if key in known}
            try:
                written[name] = run_one(outcomes, backbone, out, **settings)
            except (CheckpointError, ValueError) as error:
                raise BadInput(f"{name}: {error}") from error
        if not setup.quiet:
            printed.line(f"{name}: {time.monotonic() - started:.0f} s, written to {out}")
    if setup.quiet:
        printed.document(written)
