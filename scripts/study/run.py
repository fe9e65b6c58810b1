"""A single run of the study: one trainer and one seed, from the preprocessed data to the measured cases.

Each run is a separate process (``python -m scripts.study.run``), because nnU-Net reads its folders from the environment
at import, and because all random number generators are seeded here. With ``nnUNet_n_proc_DA=0``, augmentation runs in
the same process. Two runs with the same seed therefore start with the same network and see the same batches, whatever
their loss, and a stopped run resumes exactly at its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ici.evaluation.label_maps import read_label_map
from scripts.study.case_metrics import instance_sizes, measure_case
from scripts.study.resume import make_resumable
from scripts.study.sets import ROOT
from scripts.study.small_plans import TARGET
from scripts.study.stored_runs import write_run


def build_trainer(name: str, dataset: str, configuration: str, plans: str, device: str) -> Any:
    """Create the nnU-Net trainer of the given name, or the ablation trainer of this study."""
    import torch
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from scripts.study.trainers import ABLATIONS

    folder = Path(os.environ["nnUNet_preprocessed"]) / dataset
    trainer_class = ABLATIONS.get(name) or recursive_find_trainer_class_by_name(name)
    return trainer_class(
        plans={**json.loads((folder / f"{plans}.json").read_text()), "continue_training": False},
        configuration=configuration,
        fold=0,
        dataset_json=json.loads((folder / "dataset.json").read_text()),
        device=torch.device(device),
    )


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train(trainer: Any, epochs: int, iterations: int) -> tuple[list[float], list[int]]:
    """Train to the end, starting from the last checkpoint if there is one.

    Returns:
        The duration of each epoch in seconds, and the number of completed epochs at each resumption.
    """
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = min(trainer.num_val_iterations_per_epoch, max(1, iterations // 5))
    resumed = make_resumable(trainer)
    if trainer.current_epoch < epochs:
        trainer.run_training()
    curves = trainer.logger.local_logger.my_fantastic_logging
    ends = zip(curves["epoch_start_timestamps"], curves["epoch_end_timestamps"], strict=True)
    return [end - start for start, end in ends], resumed


def predict(trainer: Any, dataset: str, small: float) -> list[dict[str, Any]]:
    """Predict and measure the validation cases and the test cases one by one, with nnU-Net's own inference.

    Mirroring is off (nnU-Net's ``--disable_tta``), because it takes four to eight times as long.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    raw = Path(os.environ["nnUNet_raw"]) / dataset
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=trainer.device.type == "cuda",
        device=trainer.device,
        verbose=False,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        None,
    )
    reader = trainer.plans_manager.image_reader_writer_class()
    ending = trainer.dataset_json["file_ending"]
    _, validation = trainer.do_split()
    parts = [("val", "Tr", name) for name in sorted(validation)]
    tests = sorted(path.name.removesuffix(ending) for path in (raw / "labelsTs").glob(f"*{ending}"))
    parts += [("test", "Ts", name) for name in tests]
    cases = []
    for split, part, name in parts:
        images = sorted(str(path) for path in (raw / f"images{part}").glob(f"{name}_[0-9][0-9][0-9][0-9]{ending}"))
        data, properties = reader.read_images(images)
        _, probabilities = predictor.predict_single_npy_array(data, properties, None, None, True)
        label = reader.read_seg(str(raw / f"labels{part}" / f"{name}{ending}"))[0][0] > 0
        foreground = 1 - np.asarray(probabilities[0], dtype=np.float32)
        label, foreground = label.squeeze(), foreground.squeeze()
        cases.append({"case": name, "split": split, **measure_case(label, foreground, small)})
    return cases


def smallest_third(dataset: str) -> float:
    """The largest size in voxels of a lesion in the smallest third of the test labels."""
    sizes: list[int] = []
    for path in sorted((Path(os.environ["nnUNet_raw"]) / dataset / "labelsTs").iterdir()):
        sizes += instance_sizes(np.greater(read_label_map(path).array, 0))
    return float(np.quantile(sizes, 1 / 3))


def main() -> int:
    """Train, predict and measure. OUT is written only when it is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="DatasetXXX_NAME")
    parser.add_argument("configuration")
    parser.add_argument("trainer")
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--plans", default=TARGET)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    import torch

    from scripts.study.machine import describe_code, describe_machine

    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    code = describe_code(ROOT)
    seed_everything(args.seed)
    trainer = build_trainer(args.trainer, args.dataset, args.configuration, args.plans, device)
    seconds, resumed = train(trainer, args.epochs, args.iterations)
    started = time.perf_counter()
    small = smallest_third(args.dataset)
    cases = predict(trainer, args.dataset, small)
    write_run(
        args.out,
        {
            "trainer": args.trainer,
            "seed": args.seed,
            "epochs": args.epochs,
            "iterations": args.iterations,
            "machine": describe_machine(trainer.device, args.threads),
            "code": code,
            "resumed_after_epochs": resumed,
            "epoch_seconds": round(statistics.median(seconds), 2),
            "predict_seconds": round(time.perf_counter() - started, 1),
            "small_voxels": small,
            "cases": cases,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
