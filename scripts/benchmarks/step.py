"""Time whole training steps of nnU-Net's 3d_fullres network with nnU-Net's own loss and with our losses, in turns.

    python -m scripts.benchmarks.step --device cuda [--size 128] [--batch 2] [--repeats 30] [--json FILE]

The network is nnU-Net's plain U-Net as planned for a 128^3 patch, with deep supervision, SGD with Nesterov momentum,
and gradient clipping. On CUDA it runs in fp16 autocast with a gradient scaler, and compiled (unless ``--no-compile``).
All losses share one network. Logits are pulled toward the label, so that the components are those of a half-trained
network, and the weights are reset before every step. The result is the share of the terms in the time of the step. It
is computed from the difference from the step with DC_and_CE_loss in the same round.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_ici.losses import DICILoss, ICILoss, PQLoss
from scripts.benchmarks.losses import BASELINE, losses_for, verify
from scripts.benchmarks.timing import MASKS, lesion_labels, logits_of, summarize, take_turns, write_report


def network_for(stages: int, features: int) -> nn.Module:
    """nnU-Net's plain U-Net, 3D, one input channel, two classes, deep supervision."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=stages,
        features_per_stage=[min(features * 2**i, 10 * features) for i in range(stages)],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


class Step:
    """A training step on a fixed batch, as in nnUNetTrainer.train_step."""

    def __init__(self, network: nn.Module, data: Tensor, targets: list[Tensor], pull: list[Tensor]) -> None:
        self.network, self.data, self.targets, self.pull = network, data, targets, pull
        self.optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
        self.cuda = data.is_cuda
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.cuda)
        self.start = {name: value.clone() for name, value in network.state_dict().items()}

    def reset(self) -> None:
        """Reset the weights."""
        self.network.load_state_dict(self.start)

    def __call__(self, loss: Callable[[list[Tensor], list[Tensor]], Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", enabled=self.cuda):
            outputs = [z + p for z, p in zip(self.network(self.data), self.pull, strict=True)]
            value = loss(outputs, self.targets)
        self.scaler.scale(value).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # Read back once per step, as nnU-Net does with the loss.
        value.item()


def main() -> int:
    """Time, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, default=MASKS)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--stages", type=int, default=6)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

    device = torch.device(args.device)
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    verify(rng, device)
    label, source = lesion_labels(args.masks, args.size, args.batch, rng)
    logits = logits_of(label, "half-trained", rng)
    network = network_for(args.stages, args.features).to(device)
    compiled = device.type == "cuda" and not args.no_compile
    if compiled:
        network.compile()

    full = torch.from_numpy(label[:, None].astype(np.float32))
    shapes = [[args.size // 2**i] * 3 for i in range(args.stages - 1)]
    targets = [F.interpolate(full, shape, mode="nearest").to(device, torch.int16) for shape in shapes]
    pull = [F.interpolate(logits, shape, mode="trilinear").to(device) for shape in shapes]
    data = (full + 0.3 * torch.randn_like(full)).to(device)
    training_step = Step(network, data, targets, pull)

    # The weights of nnUNetTrainer._build_loss: halved from one scale to the next, 0 for the coarsest.
    weights = np.array([1 / 2**i for i in range(len(shapes))])
    weights[-1] = 0
    baseline = losses_for(device)[BASELINE]
    if compiled:
        baseline.dc = torch.compile(baseline.dc)
    reference = {"reference_shape": (args.size,) * 3}
    losses = {
        BASELINE: baseline,
        "ICI": ICILoss(baseline, **reference),
        "DICI": DICILoss(baseline, **reference),
        "PQ": PQLoss(baseline, **reference),
        "ICI, finest scale only": ICILoss(baseline, finest_only=True, **reference),
    }
    wrapped = {name: DeepSupervisionWrapper(loss, weights / weights.sum()) for name, loss in losses.items()}

    def run(loss: nn.Module) -> None:
        training_step.reset()
        training_step(loss)

    for loss in wrapped.values():  # compiles
        run(loss)
    times = take_turns({name: partial(run, loss) for name, loss in wrapped.items()}, args.repeats, device)
    results = {}
    print(f"{args.batch} x {args.size}^3, {source}, compiled: {compiled}")
    for name, t in times.items():
        results[name] = summarize(t, times[BASELINE])
        share = np.percentile([1 - b / a for a, b in zip(t, times[BASELINE], strict=True)], [25, 50, 75])
        results[name] |= dict(zip(("share_q1", "share", "share_q3"), map(float, share), strict=True))
        print(f"{name:<24}{1e3 * results[name]['median_s']:>10.4g} ms   share of the terms {share[1]:.1%}"
              f" ({share[0]:.1%} to {share[2]:.1%})")  # fmt: skip
    write_report(
        args.json,
        device,
        shape=[args.batch, 1, *[args.size] * 3],
        stages=args.stages,
        features=args.features,
        compiled=compiled,
        repeats=args.repeats,
        results=results,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
