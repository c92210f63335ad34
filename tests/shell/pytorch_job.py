"""A small PyTorch training with smdebug's own hook: `python -m tests.shell.pytorch_job FOLDER`.

Losses, weights and gradients are saved in alternating modes, each with its own step count. Gradients are
saved only as reductions, weights as values and some reductions.
"""

from __future__ import annotations

import sys

import torch
from smdebug.core.modes import ModeKeys
from smdebug.core.reduction_config import ReductionConfig
from smdebug.core.save_config import SaveConfig, SaveConfigMode
from smdebug.pytorch import Hook


def main(folder: str) -> None:
    torch.manual_seed(0)
    hook = Hook(
        out_dir=folder,
        save_config=SaveConfig(
            {
                ModeKeys.TRAIN: SaveConfigMode(save_interval=2),
                ModeKeys.EVAL: SaveConfigMode(save_interval=1),
                ModeKeys.PREDICT: SaveConfigMode(save_interval=3),
            }
        ),
        include_collections=["losses", "weights", "gradients", "biases", "relu_output"],
    )
    hook.get_collection("relu_output").include(".*relu_output")
    hook.get_collection("gradients").reduction_config = ReductionConfig(
        reductions=["mean", "min"], abs_reductions=["max"], norms=["l2"]
    )
    hook.get_collection("weights").reduction_config = ReductionConfig(
        reductions=["std"], abs_norms=["l1"], save_raw_tensor=True
    )
    model = torch.nn.Sequential()
    model.add_module("fc", torch.nn.Linear(8, 5))
    model.add_module("relu", torch.nn.ReLU())
    model.add_module("out", torch.nn.Linear(5, 3))
    loss = torch.nn.CrossEntropyLoss()
    hook.register_module(model)
    hook.register_loss(loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        hook.set_mode(ModeKeys.TRAIN)
        for _ in range(6):
            optimizer.zero_grad()
            loss(model(torch.randn(16, 8)), torch.randint(0, 3, (16,))).backward()
            optimizer.step()
        hook.set_mode(ModeKeys.EVAL)
        with torch.no_grad():
            for _ in range(3):
                loss(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
    hook.set_mode(ModeKeys.PREDICT)
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(2, 8))
    hook.close()


if __name__ == "__main__":
    main(sys.argv[1])
