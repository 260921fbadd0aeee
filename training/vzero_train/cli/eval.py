"""``vzero eval``: how good values are, on outcomes of your own and in the paper's tables."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli.lines import BadInput
from vzero_train.cli import folds, judging, remembering, routing, tables
from vzero_train.cli.inputs import Setup

_ROUTING = ("--source", "--prompts", "--splits", "--sized")

# Options that one of them has no use for.
_UNFIT = {
    "tables": ("--estimators", "--sizes", "--hold-out", "--config", *_ROUTING),
    "history": (
        "--estimators",
        "--sizes",
        "--hold-out",
        "--config",
        "--only",
        "--tabpfn",
        *_ROUTING,
    ),
    "folds": ("--hold-out", "--checkpoint", "--only", "--tabpfn", *_ROUTING),
    "routing": ("--hold-out", "--only", "--config", "--tabpfn"),
    "": ("--only", "--out", "--config", "--tabpfn", *_ROUTING),
}


def eval_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="OUTCOMES | tables | history | folds | routing",
            help="Outcomes to judge on (Parquet); or 'tables', 'history', 'folds', 'routing'.",
            show_default=False,
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUTCOMES]",
            help="Outcomes for tables, history, routing (the policy zoo) and folds.",
        ),
    ] = None,
    estimators: Annotated[
        list[str] | None,
        typer.Option(
            help="Which to judge, with commas between them; all by default.", show_default=False
        ),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            help="Context sizes; 32,64,128,256,512,1024 by default; routing: 512.",
            show_default=False,
        ),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge these benchmarks alone; prompt-difficulty learns from the others.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of the head; the shipped ones by default.")
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="'packaged' (MiniLM), a folder, or a hub name with @revision or without."
        ),
    ] = "packaged",
    device: Annotated[str, typer.Option(help="Torch device, or auto.")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps encoded prompts between runs.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.", min=0)] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="tables: which of them, such as table1,figure4; all by default.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="tables, history: where they go, docs/results by default; folds: where heads are "
            "kept; routing: where pages go, none by default."
        ),
    ] = None,
    tabpfn: Annotated[
        Path | None,
        typer.Option(
            help="tables: weights of a TabPFN; table6 tells what tuning does before it, too."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="folds: the recipe (TOML); the shipped one by default.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="routing: outcomes of this source alone.")
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(help="routing: at most so many, drawn at random; 3000 by default.", min=66),
    ] = None,
    splits: Annotated[
        int | None, typer.Option(help="routing: how many; 5 by default.", min=1, max=100)
    ] = None,
    sized: Annotated[
        bool, typer.Option("--sized", help="routing: only policies whose params_b is known.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Judge values against what was observed.

    OUTCOMES: judge the head and the baselines on a Parquet file with columns prompt, policy,
    reward and maybe benchmark, source, step, n_rollouts.

    tables: write the tables and figures of the paper, measured here.

    history: write how well values do that remember their prompts, on outcomes along steps.

    folds: train a head for each fold of the recipe without it, and judge each on policies,
    prompts and benchmarks it never saw.

    routing: choose a policy for each prompt, and compare accuracy and cost with other routers.
    """
    setup = Setup(backbone, device, checkpoint, cache, seed, quiet=as_json)
    given = {
        "--estimators": estimators,
        "--sizes": sizes,
        "--hold-out": hold_out,
        "--checkpoint": checkpoint,
        "--only": only,
        "--out": out,
        "--tabpfn": tabpfn,
        "--config": config,
        "--source": source,
        "--prompts": prompts,
        "--splits": splits,
        "--sized": sized or None,
    }
    unfit = [name for name in _UNFIT.get(what, _UNFIT[""]) if given[name] is not None]
    if unfit:
        raise BadInput(f"{unfit[0]} does not go with 'vzero eval {what}'")
    if what == "tables":
        tables.run(file, setup, only=only, out=out or Path("docs/results"), tabpfn=tabpfn)
    elif what == "history":
        remembering.run(file, setup, out=out or Path("docs/results"))
    elif what == "folds":
        if file is None or out is None:
            raise BadInput("vzero eval folds needs OUTCOMES and --out")
        folds.run(file, setup, config=config, out=out, estimators=estimators, sizes=sizes)
    elif what == "routing":
        routing.run(
            file,
            setup,
            routers=estimators,
            sizes=sizes,
            source=source,
            prompts=prompts or 3000,
            splits=splits or 5,
            sized=sized,
            out=out,
        )
    elif file is not None:
        raise BadInput(f"one file of outcomes can be judged at a time, not {what} and {file}")
    else:
        judging.run(Path(what), setup, estimators=estimators, sizes=sizes, hold_out=hold_out)
