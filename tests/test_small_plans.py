"""The plans for machines without a GPU."""

from __future__ import annotations

import pytest

from scripts.study.small_plans import TARGET, find_dataset, shrink


def plans(strides):
    network = {
        "n_stages": len(strides),
        "features_per_stage": [32 * 2**i for i in range(len(strides))],
        "strides": strides,
        "kernel_sizes": [[3] * len(strides[0])] * len(strides),
        "n_conv_per_stage": [2] * len(strides),
        "n_conv_per_stage_decoder": [2] * (len(strides) - 1),
    }
    config = {"patch_size": [32, 96, 96], "batch_size": 2, "architecture": {"arch_kwargs": network}}
    config["data_identifier"] = "nnUNetPlans_3d_fullres"
    return {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": config, "2d": {}}}


def test_shrunk_plans_fit_together():
    full = plans([[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]])
    shrunk = shrink(full, "3d_fullres", [15, 41, 500], [4, 8, 16], batch_size=3)
    config = shrunk["configurations"]["3d_fullres"]
    network = config["architecture"]["arch_kwargs"]
    assert config["patch_size"] == [16, 44, 96]  # rounded up to strides 2, 4, 4; never beyond the plan
    assert [network["n_stages"], network["features_per_stage"]] == [3, [4, 8, 16]]
    assert [len(network[k]) for k in ("strides", "kernel_sizes", "n_conv_per_stage")] == [3, 3, 3]
    assert len(network["n_conv_per_stage_decoder"]) == 2
    assert [config["batch_size"], config["data_identifier"]] == [3, "nnUNetPlans_3d_fullres"]
    assert shrunk["plans_name"] == TARGET and list(shrunk["configurations"]) == ["3d_fullres"]
    assert (
        shrink(full, "3d_fullres", [16, 16, 16], [4, 8, 16], 2, "nnUNetPlans_mine")["plans_name"] == "nnUNetPlans_mine"
    )
    assert full["plans_name"] == "nnUNetPlans" and full["configurations"]["3d_fullres"]["batch_size"] == 2


def test_errors():
    full = plans([[1, 1, 1], [2, 2, 2], [2, 2, 2]])
    # With two stages nnU-Net's weights of deep supervision are 0 / 0.
    for features in ([4, 8], [4, 8, 16, 32]):
        with pytest.raises(ValueError, match=rf"features must name 3 to 3 stages\. Got: \[{str(features)[1:-1]}\]"):
            shrink(full, "3d_fullres", [16, 16, 16], features, 2)
    with pytest.raises(ValueError, match=r"patch_size must have 3 axes\. Got: \[16, 16\]"):
        shrink(full, "3d_fullres", [16, 16], [4, 8, 16], 2)


def test_the_data_set_is_found_by_its_number(tmp_path):
    (tmp_path / "Dataset007_Bond").mkdir()
    assert find_dataset(tmp_path, 7).name == "Dataset007_Bond"
    with pytest.raises(SystemExit, match="must hold one Dataset008_"):
        find_dataset(tmp_path, 8)
