"""Copy nnU-Net's plans of a preprocessed dataset with a smaller patch and network, for machines without a GPU.

    python scripts/study/small_plans.py ID CONFIGURATION [--patch-size 48 48 48] [--features 8 16 32] [--batch-size 2]

Writes nnUNetPlans_small.json next to nnUNetPlans.json; use it with ``-p nnUNetPlans_small``. Both plans share
the preprocessed data. The small plans are for demonstrations and tests. For real models, use nnU-Net's own plans.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE, TARGET = "nnUNetPlans", "nnUNetPlans_small"
PER_STAGE = ("kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")


def shrink(
    plans: dict[str, Any],
    configuration: str,
    patch_size: Sequence[int],
    features: Sequence[int],
    batch_size: int,
    name: str = TARGET,
) -> dict[str, Any]:
    """Plans with a single configuration, with a smaller patch and network.

    Args:
        plans: nnU-Net's plans.
        configuration: configuration to shrink; all others are removed.
        patch_size: patch size in voxels, rounded up to a multiple of the network's strides and limited to the planned
            patch size.
        features: number of features in each remaining stage of the network.
        batch_size: batch size of the training.
        name: name of the new plans.

    Raises:
        KeyError: if the plans do not contain the configuration.
        ValueError: if there are more stages than planned or fewer than 3 (nnU-Net's deep-supervision weights would then
            be 0 / 0), or if the number of axes is wrong.
    """
    shrunk: dict[str, Any] = json.loads(json.dumps(plans))
    config = shrunk["configurations"][configuration]
    network = config["architecture"]["arch_kwargs"]
    stages = len(features)
    if not 3 <= stages <= network["n_stages"]:
        raise ValueError(f"features must name 3 to {network['n_stages']} stages. Got: {list(features)}")
    if len(patch_size) != len(config["patch_size"]):
        raise ValueError(f"patch_size must have {len(config['patch_size'])} axes. Got: {list(patch_size)}")
    network["n_stages"], network["features_per_stage"] = stages, list(features)
    for key in PER_STAGE:
        if key in network:
            network[key] = network[key][:stages]
    network["n_conv_per_stage_decoder"] = network["n_conv_per_stage_decoder"][: stages - 1]
    factors = [math.prod(axis) for axis in zip(*network["strides"], strict=True)]
    config["patch_size"] = [
        min(-(-want // factor) * factor, planned)
        for want, factor, planned in zip(patch_size, factors, config["patch_size"], strict=True)
    ]
    config["batch_size"] = batch_size
    shrunk["configurations"] = {configuration: config}
    shrunk["plans_name"] = name
    return shrunk


def find_dataset(preprocessed: Path, dataset_id: int) -> Path:
    """The folder of a dataset in the preprocessed data."""
    found = sorted(preprocessed.glob(f"Dataset{dataset_id:03d}_*"))
    if len(found) != 1:
        raise SystemExit(f"{preprocessed} must hold one Dataset{dataset_id:03d}_*. Got: {[p.name for p in found]}")
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_id", type=int)
    parser.add_argument("configuration", help="2d, 3d_fullres, ...")
    parser.add_argument("--patch-size", type=int, nargs="+", help="default: 48 in 3D, 128 in 2D")
    parser.add_argument("--features", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--batch-size", type=int, default=2)
    args = parser.parse_args()
    if "nnUNet_preprocessed" not in os.environ:
        raise SystemExit("nnUNet_preprocessed is not set")
    folder = find_dataset(Path(os.environ["nnUNet_preprocessed"]), args.dataset_id)
    plans = json.loads((folder / f"{SOURCE}.json").read_text())
    if args.configuration not in plans["configurations"]:
        raise SystemExit(f"configuration must be one of {list(plans['configurations'])}. Got: {args.configuration}")
    axes = len(plans["configurations"][args.configuration]["patch_size"])
    patch_size = args.patch_size or [128 if axes == 2 else 48] * axes
    shrunk = shrink(plans, args.configuration, patch_size, args.features, args.batch_size)
    (folder / f"{TARGET}.json").write_text(json.dumps(shrunk, indent=4) + "\n")
    config = shrunk["configurations"][args.configuration]
    print(f"{folder / TARGET}.json: patch {config['patch_size']}, features {args.features}, batch {args.batch_size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
