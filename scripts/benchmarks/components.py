"""Compare the speed of methods that label connected components. Each result is first compared with SciPy.

    python -m scripts.benchmarks.components [--device cpu|cuda] [--size 128] [--batch 2] [--repeats 9] [--json FILE]

The methods are those of nnunet_ici on the device, SciPy (on CUDA including the copies to the host and back), 250
max-poolings as in the published ICI code (run once, and marked if the result is wrong), and kornia (2D), CuPy and cuCIM
if they are installed. The masks are sparse lesions, noise with 5 to 95 % foreground, a lattice of many components, and
a snake in every fourth slice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_ici.instances import components
from scripts.benchmarks.published import label_by_max_pooling, label_by_scipy
from scripts.benchmarks.timing import (
    MASKS,
    lattice,
    lesion_labels,
    peak_extra_bytes,
    summarize,
    take_turns,
    write_report,
)

Labelling = Callable[[Tensor], Tensor]
MAX_POOLING = "250 max-poolings"


def snake(size: int) -> np.ndarray:
    """A mask, bool (size, size, size). Every fourth slice contains a path that winds through every second row."""
    flat = np.zeros((size, size), bool)
    flat[::2] = True
    flat[1::4, -1] = flat[3::4, 0] = True
    volume = np.zeros((size,) * 3, bool)
    volume[::4] = flat
    return volume


def masks_for(args: argparse.Namespace, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The masks by name, bool (batch, *spatial). All masks are 3D except one in 2D."""
    shape = (args.batch, *(args.size,) * 3)
    masks = {"lesions": lesion_labels(args.masks, args.size, args.batch, rng)[0]}
    for density in (0.05, 0.5, 0.95):
        masks[f"noise {density:.0%}"] = rng.random(shape) < density
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 1, 1, 1))
    masks["smoothed noise 50%"] = smooth > 0
    count = min(100_000, ((args.size + 1) // 2) ** 3)
    masks[f"lattice of {count}"] = np.stack([lattice(count, args.size, rng) for _ in range(args.batch)])
    masks["snakes"] = np.stack([snake(args.size)] * args.batch)
    edge = round((args.size**3) ** 0.5)
    masks["2D, smoothed noise 50%"] = (
        ndimage.gaussian_filter(rng.standard_normal((args.batch, edge, edge), dtype=np.float32), (0, 2, 2)) > 0
    )
    return masks


def methods_for(device: torch.device, axes: int) -> dict[str, Labelling]:
    """The methods for a batch (B, *spatial) on a device, by name. Component ids start at 1 in each image."""

    def backend(name: str) -> Labelling:
        return lambda mask: components._BACKENDS[name](mask, False)[0]

    def image_by_image(label: Labelling) -> Labelling:
        return lambda mask: torch.stack([label(image) for image in mask])

    names = ["cc3d"] if device.type == "cpu" else ["triton"] if components.HAS_TRITON else []
    methods = {name: backend(name) for name in [*names, "torch"]}
    if axes == 2 and find_spec("kornia"):
        from kornia.contrib import connected_components_union_find  # kornia 0.9 or later

        methods["kornia"] = lambda mask: connected_components_union_find(mask[:, None])[:, 0]
    methods["SciPy"] = image_by_image(label_by_scipy)
    if device.type == "cuda" and find_spec("cupyx"):
        import cupy
        from cupyx.scipy.ndimage import label as cupy_label

        structure = cupy.ones((3,) * axes)
        methods["CuPy"] = image_by_image(
            lambda image: torch.from_dlpack(cupy_label(cupy.from_dlpack(image.to(torch.uint8)), structure)[0])
        )
    if device.type == "cuda" and find_spec("cucim"):
        import cupy
        from cucim.skimage.measure import label as cucim_label

        methods["cuCIM"] = image_by_image(
            lambda image: torch.from_dlpack(
                cucim_label(cupy.from_dlpack(image.to(torch.uint8)), connectivity=axes).astype(cupy.int32)
            )
        )
    methods[MAX_POOLING] = image_by_image(label_by_max_pooling)
    return methods


def is_right(label: Labelling, mask: np.ndarray, device: torch.device) -> bool:
    """Whether a method gives the same components as SciPy in every image."""
    ids = label(torch.from_numpy(mask).to(device)).cpu().numpy()
    for image, found in zip(mask, ids, strict=True):
        expected, count = ndimage.label(image, np.ones((3,) * image.ndim))
        if not np.array_equal(found > 0, image):
            return False
        pairs = np.unique(np.stack([expected[image], found[image].astype(np.int64)]), axis=1)
        if pairs.shape[1] != count or len(np.unique(pairs[1])) != count:
            return False
    return True


def main() -> int:
    """Verify, time, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, default=MASKS)
    parser.add_argument("--size", type=int, default=128, help="edge length of the images in voxels (default: 128)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9, help="rounds, after a warm-up round (default: 9)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-published", action="store_true", help="omit the max-poolings, which take minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    device = torch.device(args.device)
    rng = np.random.default_rng(args.seed)
    results: dict[str, dict[str, dict[str, float | bool]]] = {}
    for name, mask in masks_for(args, rng).items():
        methods = methods_for(device, mask.ndim - 1)
        if args.no_published:
            del methods[MAX_POOLING]
        right = {method: is_right(label, mask, device) for method, label in methods.items()}
        wrong = [method for method, fine in right.items() if not fine and method != MAX_POOLING]
        if wrong:
            raise SystemExit(f"{name}: results differ from SciPy: {', '.join(wrong)}. Nothing was timed")
        given = torch.from_numpy(mask).to(device)
        runs = {method: (lambda label=label, given=given: label(given)) for method, label in methods.items()}
        times = take_turns(runs, args.repeats, device, slow=(MAX_POOLING,))
        print(f"\n{name}: {mask.mean():.2%} foreground, {list(mask.shape)}")
        results[name] = {}
        for method, t in times.items():
            entry: dict[str, float | bool] = {**summarize(t), "right": right[method]}
            if method != MAX_POOLING and (peak := peak_extra_bytes(runs[method], device)) is not None:
                entry["peak_bytes_per_voxel"] = peak / mask.size
            results[name][method] = entry
            iqr = f"{1e3 * entry['q1_s']:.4g}-{1e3 * entry['q3_s']:.4g}"
            note = "" if right[method] else "  WRONG"
            print(f"  {method:<18}{1e3 * entry['median_s']:>10.4g} ms   IQR {iqr}{note}")
    write_report(args.json, device, repeats=args.repeats, results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
