"""One training step of a small network, on a CPU that passes for a GPU.

    python -m tests.training_step

runs it with Triton's compiler instead of its interpreter: the launch of a kernel goes all the way to the C compiler.
Prints the weights after the step as JSON. Tried with Triton 3.8.0.
"""

from __future__ import annotations

import json
import os

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "0"  # before Triton is imported

import torch
from torch.nn import functional as F

from nnunet_ici.instances import kernels
from nnunet_ici.losses import DICILoss


def weights_after_a_step() -> list[float]:
    """The weights of a convolution after a step with the instance, predicted and center terms."""
    generator = torch.Generator().manual_seed(1)
    image = F.avg_pool2d(torch.randn(2, 1, 14, 22, generator=generator), 3, 1)
    target = (image > 0.3).to(torch.int16)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    DICILoss(lambda z, y: F.cross_entropy(z, y[:, 0].long()), threshold=0.5, size=3)(network(image), target).backward()
    optimizer.step()
    return torch.cat([parameter.flatten() for parameter in network.parameters()]).tolist()


if __name__ == "__main__":
    from triton.backends.nvidia.driver import CudaDriver

    kernels.CHECKED_DEVICE = "cpu"
    if os.environ.get("PASS_FOR_A_DRIVER"):
        CudaDriver.is_active = staticmethod(lambda: True)
    print(json.dumps(weights_after_a_step()))
