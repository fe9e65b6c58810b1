"""The curves of the terms: registered, logged once per epoch, padded on resume, written as table and picture."""

from __future__ import annotations

import csv
import math

import matplotlib
import pytest
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_ici.trainers.history import TermHistory

TERMS = ["global", "instance"]
TAKEN = {"global": -0.5, "instance": 0.25, "label_instances": 8, "missed_instances": 2,
         "predicted_instances": 7, "false_instances": 2, "lesion_dice": 3.0}  # fmt: skip


def log(history, epoch, taken=TAKEN):
    history.add_training(taken)
    history.add_validation(taken)
    return history.log_epoch(epoch, draws=3 * (epoch + 1))


@pytest.fixture
def logger(tmp_path):
    return MetaLogger(str(tmp_path), False)


def test_an_epoch_in_logger_line_table_and_picture(logger, tmp_path):
    history = TermHistory(logger, TERMS)
    assert history.draws == 0
    line = log(history, 0)
    assert line == (
        "train terms: global -0.5000, instance 0.2500; val terms: global -0.5000, instance 0.2500; "
        "val: 2 of 8 label instances missed, 2 of 7 predicted instances false; "
        "lesion F1 0.7500, exponential mean 0.7500; lesion-wise Dice 0.3000, exponential mean 0.3000"
    )
    assert logger.get_value("ici_val_instance", step=-1) == 0.25 and history.draws == 3
    history.write(str(tmp_path))
    with open(tmp_path / "terms_ici.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row["epoch"], row["train_global"], row["val_missed_instances"]] == ["0", "-0.5", "2"]
    assert (tmp_path / "progress_ici.png").stat().st_size > 10_000
    assert not (tmp_path / "terms_ici.csv.tmp").exists()


def test_the_exponential_mean_is_that_of_nnunet(logger):
    history = TermHistory(logger, TERMS)
    nothing = dict.fromkeys(TAKEN, 0)
    for epoch, taken in enumerate([nothing, TAKEN, TAKEN | {"lesion_dice": 8.0}, nothing]):
        log(history, epoch, taken)
        logger.log("mean_fg_dice", (taken["lesion_dice"] or 3.0) / 10, epoch)
    means = logger.get_value("ici_ema_lesion_dice", step=None)
    assert math.isnan(means[0]) and means[1:] == pytest.approx([0.3, 0.35, 0.35])  # an epoch without lesions is none
    assert logger.get_value("ema_fg_dice", step=2) == pytest.approx(means[2])
    assert math.isnan(logger.get_value("ici_val_lesion_f1", step=3))


def test_a_checkpoint_without_terms_is_padded(logger, tmp_path):
    history = TermHistory(logger, TERMS)
    logger.load_checkpoint({"train_losses": [1.0, 2.0]})  # as nnU-Net's own trainer leaves it
    history.pad(2)
    assert math.isnan(logger.get_value("ici_train_global", step=-1)) and history.draws == 0
    log(history, 2)
    lists = logger.local_logger.my_fantastic_logging
    assert {len(values) for key, values in lists.items() if key.startswith("ici_")} == {3}
    history.write(str(tmp_path))
    with open(tmp_path / "terms_ici.csv", newline="") as file:
        assert [row["train_instance"] for row in csv.DictReader(file)] == ["nan", "nan", "0.25"]


def test_our_own_checkpoint_continues(logger):
    history = TermHistory(logger, TERMS)
    log(history, 0)
    stored = {key: list(values) for key, values in logger.get_checkpoint().items()}
    log(history, 1)
    logger.load_checkpoint(stored)
    history.pad(1)
    assert history.draws == 3 and len(logger.get_value("ici_train_global", step=None)) == 1


def test_the_picture_does_not_depend_on_earlier_drawings(logger, tmp_path):
    history = TermHistory(logger, TERMS)
    log(history, 0)
    pictures = []
    for size in (10, 30):
        with matplotlib.rc_context({"font.size": size, "axes.labelsize": size, "legend.fontsize": size}):
            history.write(str(tmp_path))
        pictures.append((tmp_path / "progress_ici.png").read_bytes())
    assert pictures[0] == pictures[1]
