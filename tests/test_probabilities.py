"""nnU-Net's probabilities: channels of labels and of regions, and faulty files."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_ici.evaluation.labels import FOREGROUND, LabelScheme
from nnunet_ici.evaluation.probabilities import (
    has_regions,
    label_values,
    plain_masks,
    probability_of,
    read_probabilities,
)

LABELS = LabelScheme({"edema": (2,), "core": (1,)}, ignore=3)
REGIONS = LabelScheme({"whole": (1, 2), "core": (2,)})


def save(path, array, key="probabilities"):
    np.savez_compressed(path, **{key: array})
    return path


def softmax(rng, channels, shape):
    odds = rng.random((channels, *shape)).astype(np.float32)
    return odds / odds.sum(axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
def test_labels(tmp_path, rng, dtype, shape):
    prob = softmax(rng, 3, shape).astype(dtype)
    stored = prob if len(shape) == 3 else prob[:, None]  # nnU-Net writes 2D images as (C, 1, H, W)
    path = save(tmp_path / "a.npz", stored)
    read = read_probabilities(path, LABELS, shape)
    assert read.dtype == np.float32 and read.shape == (3, *shape)
    np.testing.assert_array_equal(read, prob.astype(np.float32))
    # edema is declared first, and has the value 2
    np.testing.assert_array_equal(probability_of(read, LABELS, "edema"), read[2])
    np.testing.assert_array_equal(probability_of(read, LABELS, "core"), read[1])


def test_regions_in_the_order_of_dataset_json(tmp_path, rng):
    prob = rng.random((2, 3, 4, 5)).astype(np.float32)
    path = save(tmp_path / "a.npz", prob)
    read = read_probabilities(path, REGIONS, (3, 4, 5))
    np.testing.assert_array_equal(probability_of(read, REGIONS, "whole"), prob[0])
    np.testing.assert_array_equal(probability_of(read, REGIONS, "core"), prob[1])
    masks = plain_masks(prob, REGIONS)
    np.testing.assert_array_equal(masks["whole"], prob[0] > 0.5)
    np.testing.assert_array_equal(masks["core"], prob[1] > 0.5)


def test_without_classes_all_but_the_background_counts(rng):
    prob = softmax(rng, 4, (6, 7))
    np.testing.assert_allclose(probability_of(prob, FOREGROUND, "foreground"), 1 - prob[0], atol=1e-6)
    np.testing.assert_array_equal(probability_of(prob[:2], FOREGROUND, "foreground"), prob[1])
    np.testing.assert_array_equal(plain_masks(prob, FOREGROUND)["foreground"], prob.argmax(0) > 0)


def test_plain_masks_of_labels_by_hand():
    prob = np.array([[0.4, 0.2, 0.5], [0.3, 0.5, 0.5], [0.3, 0.3, 0.0]], np.float32)  # 3 labels, 3 voxels
    masks = plain_masks(prob, LABELS)
    assert masks["core"].tolist() == [False, True, False]  # the tie goes to the background, as with argmax
    assert masks["edema"].tolist() == [False, False, False]


def test_regions_are_where_nnunet_sees_them():
    assert has_regions(REGIONS) and not has_regions(LABELS) and not has_regions(FOREGROUND)
    assert not has_regions(LabelScheme({"a": (1,), "b": (2,)}))
    assert label_values(LABELS, 3) == [0, 1, 2] and label_values(FOREGROUND, 2) == [0, 1]


def test_the_same_as_nnunets_label_manager(rng):
    manager = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling").LabelManager
    prob = softmax(rng, 3, (3, 4, 5))
    labels = manager({"background": 0, "edema": 2, "core": 1, "ignore": 3}, None)
    assert labels.num_segmentation_heads == 3 and labels.all_labels == label_values(LABELS, 3)
    written = labels.convert_probabilities_to_segmentation(prob)
    for name, mask in plain_masks(prob, LABELS).items():
        np.testing.assert_array_equal(mask, written == LABELS.classes[name][0])
    regions = manager({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
    assert regions.num_segmentation_heads == 2 and regions.foreground_regions == list(REGIONS.classes.values())
    prob = rng.random((2, 3, 4, 5)).astype(np.float32)
    prob[1] = np.minimum(prob[1], prob[0])
    written = regions.convert_probabilities_to_segmentation(prob)
    for name, mask in plain_masks(prob, REGIONS).items():
        np.testing.assert_array_equal(mask, np.isin(written, REGIONS.classes[name]))


def test_rounding_is_cut_off(tmp_path):
    path = save(tmp_path / "a.npz", np.array([[[[-1e-7]]], [[[1 + 1e-6]]]], np.float32))
    assert read_probabilities(path, FOREGROUND, (1, 1, 1)).ravel().tolist() == [0, 1]


def test_an_image_without_voxels(tmp_path):
    path = save(tmp_path / "a.npz", np.zeros((2, 0, 4, 4), np.float32))
    assert read_probabilities(path, FOREGROUND, (0, 4, 4)).shape == (2, 0, 4, 4)


@pytest.mark.parametrize(
    ("array", "scheme", "message"),
    [
        (
            np.zeros((3, 2, 2, 2)),
            FOREGROUND,
            r"differs in shape from its label map. Expected: \(C, \*\(2, 2\)\). Got: ",
        ),
        (np.zeros((2, 2, 3)), FOREGROUND, "differs in shape from its label map"),
        (np.zeros((1, 1, 2, 2)), FOREGROUND, "Expected: 2 or more, the background first, for foreground .* Got: 1$"),
        (np.zeros((2, 1, 2, 2)), LABELS, "Expected: 3, one per label including the background, for edema .* Got: 2$"),
        (np.zeros((3, 1, 2, 2)), REGIONS, "Expected: 2, one per region, for whole .* Got: 3$"),
        (np.zeros((2, 1, 2, 2), int), FOREGROUND, "holds no probabilities. Expected: floating point"),
        (np.zeros((2, 2)), FOREGROUND, "holds no probabilities. Expected: floating point"),
        (np.full((2, 1, 2, 2), np.nan), FOREGROUND, r"Expected: values in \[0, 1\]. Got: 8 NaN"),
        (np.full((2, 1, 2, 2), 1.5), FOREGROUND, r"Expected: values in \[0, 1\]. Got: 1.5 to 1.5"),
        (np.full((2, 1, 2, 2), 0.75), FOREGROUND, "Expected: channels that add up to 1 .* Got: sums from 1.5 to 1.5"),
        (np.full((2, 1, 2, 2), -3.0), FOREGROUND, r"Expected: values in \[0, 1\]. Got: -3 to -3"),
    ],
)
def test_bad_arrays(tmp_path, array, scheme, message):
    path = save(tmp_path / "case.npz", array)
    with pytest.raises(ValueError, match=message) as error:
        read_probabilities(path, scheme, (2, 2))
    assert str(error.value).startswith(str(path))


def test_bad_files(tmp_path, rng):
    def message(path):
        with pytest.raises(
            ValueError, match=r"Expected: an npz file of nnU-Net with the key probabilities\. Got: "
        ) as error:
            read_probabilities(path, FOREGROUND, (9, 9))
        assert str(path) in str(error.value)
        return str(error.value)

    assert "the keys softmax" in message(save(tmp_path / "key.npz", np.zeros((2, 1, 9, 9)), key="softmax"))
    assert "No such file" in message(tmp_path / "none.npz")
    whole = save(tmp_path / "whole.npz", rng.random((2, 1, 9, 9))).read_bytes()
    for name, content in {
        "truncated": whole[:-100],
        "empty": b"",
        "text": b"nothing",
        "flipped": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        message(path)
    with open(tmp_path / "npy.npz", "wb") as file:
        np.save(file, np.zeros((2, 1, 9, 9)))
    assert "a single array" in message(tmp_path / "npy.npz")
