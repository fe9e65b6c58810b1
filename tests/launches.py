"""Launches on a GPU, counted without one."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Launches(TorchDispatchMode):
    """Lists the operations that would be launches on a GPU."""

    NO_LAUNCH = (
        "_unsafe_view", "alias", "as_strided", "detach", "empty", "expand", "fill_", "lift_fresh", "new_empty",
        "permute", "reshape", "select", "slice", "split", "squeeze", "t.", "transpose", "unbind", "unsqueeze", "view",
    )  # fmt: skip
    # These wait for the GPU, because the size of their result depends on values.
    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal.")

    def __init__(self):
        super().__init__()
        self.names, self.waits = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for a in args if isinstance(a, list) for i in a
        )
        if name.startswith(self.WAITS) or by_mask:
            self.waits.append(name)
        elif not name.startswith(self.NO_LAUNCH):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
