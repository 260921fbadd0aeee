"""Train the shipped head again, or judge the recipe on held-out folds.

``python -m vzero_train OUTCOMES --out DIR`` trains on all outcomes and writes a checkpoint.
With ``--fold NAME`` it holds that fold out, and prints how the head fares on it.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vzero_server.model.checkpoint import BackboneSpec, save_checkpoint
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import LAYERS, PromptEncoder
from vzero_server.model.text_columns import NAMES
from vzero_train.data.features import prompt_features
from vzero_train.data.outcomes import Outcomes, load_outcomes, pools
from vzero_train.data.protocols import unseen_everything
from vzero_train.data.questions import draw_questions
from vzero_train.evaluation.baselines import Head, default_baselines
from vzero_train.evaluation.evaluate import as_table, evaluate
from vzero_train.training.recipe import SHIPPED, load_recipe, train_head

MINILM = BackboneSpec(
    name="all-MiniLM-L6-v2",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    layers=LAYERS,
)


def main() -> None:
    """Run the command line."""
    options = _options()
    recipe = load_recipe(options.recipe)
    outcomes = load_outcomes(options.outcomes)
    encoder = PromptEncoder(Backbone.load(device=options.device), LAYERS)
    vectors = prompt_features(outcomes.texts, encoder, cache=options.out, progress=_report)
    embeddings, features = np.split(vectors, [encoder.pooled], axis=1)
    train = test = outcomes
    if options.fold:
        split = unseen_everything(outcomes, recipe.held_out(options.fold, outcomes))
        train, test = split.train, split.test
    head = train_head(
        recipe,
        train,
        features,
        device=options.device,
        state=options.out / f"state-{options.fold or 'all'}.pt",
        on_step=lambda step, loss: _report(step, recipe.trainer.steps, loss),
    )
    if not options.fold:
        path = options.out / "icl-minilm.safetensors"
        training = {
            **recipe.provenance,
            "outcomes": len(train),
            "policies": len(np.unique(train.policy)),
            "prompts": len(np.unique(train.prompt)),
            "recipe": asdict(recipe.trainer),
        }
        save_checkpoint(path, head, backbone=MINILM, training=training, metrics={})
        print(path)
        return
    text = features[:, -len(NAMES) :].astype(np.float32)
    text = (text - text.mean(0)) / (text.std(0) + 1e-6)
    estimators = {
        **default_baselines(embeddings.astype(np.float32), text[:, 0], text, train.prompt, train.reward),
        "icl": Head(head, features),
    }
    for size in options.sizes:
        questions = draw_questions(pools(test, 96), size, np.random.default_rng(size))
        if questions:
            print(f"\nN = {size}, {len(questions)} contexts\n")
            print(as_table(evaluate(estimators, questions, "icl", difficulty=_difficulty(test))))


def _difficulty(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    """Mean reward of every prompt over the test policies; 0 where there are none."""
    size = len(outcomes.texts)
    sums = np.bincount(outcomes.prompt, weights=outcomes.reward, minlength=size)
    means: npt.NDArray[np.float64] = sums / np.bincount(outcomes.prompt, minlength=size).clip(1)
    return means


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vzero_train", description=__doc__)
    parser.add_argument("outcomes", type=Path, help="Parquet file of outcomes")
    parser.add_argument("--out", type=Path, required=True, help="folder for features and results")
    parser.add_argument("--recipe", type=Path, default=SHIPPED)
    parser.add_argument("--fold", help="hold this fold out and judge on it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def _report(done: int, total: int, loss: float | None = None) -> None:
    if sys.stderr.isatty() or done % 100 == 0:
        suffix = "" if loss is None else f"  loss {loss:.4f}"
        print(f"\r{done}/{total}{suffix}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
