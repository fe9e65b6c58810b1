"""Checkpoints from which training resumes as if it had never been stopped.

nnU-Net's own checkpoints contain the network, the optimizer and the curves. The checkpoints of our trainers also
contain the position in the sequence of random thresholds. This module adds the states of all random number generators
that nnU-Net's sampling and augmentation use in the training process (``nnUNet_n_proc_DA=0``). The next batches are
therefore the same as without the stop.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["make_resumable"]

KEY = "study"  # key in the checkpoint


def make_resumable(trainer: Any, save_every: int = 1) -> list[int]:
    """Make a trainer write checkpoints that can be resumed exactly, and load the last checkpoint if there is one.

    Call this function once, before ``run_training``. Incomplete checkpoints never appear under their final name.

    Args:
        trainer: nnU-Net trainer on one device, with augmentation in the training process.
        save_every: number of epochs between two checkpoints.

    Returns:
        The number of completed epochs at each resumption; empty if training was never stopped.
    """
    trainer.save_every = save_every
    resumed: list[int] = []
    state: dict[str, Any] = {}
    save_checkpoint, on_train_start = trainer.save_checkpoint, trainer.on_train_start

    def save(filename: str) -> None:
        partial = f"{filename}.part"
        save_checkpoint(partial)
        checkpoint = torch.load(partial, map_location="cpu", weights_only=False)
        torch.save({**checkpoint, KEY: {"random": _random_state(), "resumed": resumed}}, partial)
        os.replace(partial, filename)

    def start() -> None:
        on_train_start()  # fills the data loaders and thus draws random numbers
        if state:
            _restore(state)

    trainer.save_checkpoint, trainer.on_train_start = save, start
    folder = Path(trainer.output_folder)
    for path in (folder / "checkpoint_final.pth", folder / "checkpoint_latest.pth"):
        if path.is_file():
            trainer.load_checkpoint(str(path))
            kept = torch.load(path, map_location="cpu", weights_only=False)[KEY]
            resumed += kept["resumed"]
            state |= kept["random"]
            if path.stem == "checkpoint_latest":
                resumed.append(trainer.current_epoch)
            break
    return resumed


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
