"""The commands of the training package, and the entry point of ``python -m training``."""

import sys

from training.base.command_line import Command, Program, run_command

__all__ = ["COMMANDS", "GROUPS", "TRAINING"]

GROUPS = {"operators": "Solve eigenvalue problems of known answer by the objective that trains encoders."}

COMMANDS = (
    Command(
        "fit",
        "training.commands:fit",
        "Train a model on sketches and photos, or adapt one to photos alone.",
        "svdraw fit --data pairs --out model",
        extra="training",
    ),
    Command(
        "evaluate",
        "training.commands:evaluate",
        "Measure the retrieval of a model on classes it was not trained on.",
        "svdraw evaluate --model model --data pairs",
        extra="training",
    ),
    Command(
        "calibrate",
        "training.commands:calibrate",
        "Fit the relevance of results on classes that a model was not trained on.",
        "svdraw calibrate --model model --data pairs",
        extra="training",
    ),
    Command(
        "quantize",
        "training.commands:quantize",
        "Find how a model runs in eight bits on CPUs, and measure what that keeps.",
        "svdraw quantize --model model --data pairs",
        extra="training",
    ),
    Command(
        "push",
        "training.commands:push",
        "Publish a model on a hub, for use by hf://organisation/name.",
        "svdraw push --model model --to hf://organisation/name",
        extra="training,hub",
    ),
    Command(
        "demo-data",
        "training.commands:demo_data",
        "Render a small data set of line drawings and pictures from emoji fonts.",
        "svdraw demo-data --out pairs",
        extra="training,demo",
    ),
    Command(
        "operators hydrogen",
        "training.operators.commands:hydrogen",
        "Compute the first 16 states of the hydrogen atom in two dimensions.",
        "svdraw operators hydrogen --out hydrogen",
        extra="training",
    ),
    Command(
        "operators langevin",
        "training.operators.commands:langevin",
        "Compute the 8 slowest modes of overdamped Langevin dynamics.",
        "svdraw operators langevin --out langevin",
        extra="training",
    ),
)

TRAINING = Program(
    "python -m training", "Train and evaluate models, or solve operators by the same objective.", COMMANDS, GROUPS
)

if __name__ == "__main__":
    sys.exit(run_command(TRAINING))
