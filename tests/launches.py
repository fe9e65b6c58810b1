"""Launches on a GPU, counted without one, and the operators that would wait for it."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode


class Launches(TorchDispatchMode):
    """Lists the operators of torch and the kernels of Triton that would be launches on a GPU, by name.

    Raises:
        AssertionError: at an operator that reads a value, or whose result has a size that depends on values.
    """

    NO_LAUNCH = (
        "_unsafe_view", "alias", "as_strided", "detach", "empty", "expand", "fill_", "lift_fresh", "new_empty",
        "permute", "reshape", "select", "slice", "split", "squeeze", "t.", "transpose", "unbind", "unsqueeze", "view",
    )  # fmt: skip
    WAITS = (
        "_local_scalar_dense", "_unique", "bincount", "equal.", "is_nonzero", "masked_select", "nonzero", "repeat_",
        "unique",
    )  # fmt: skip
    READS = ("tolist", "numpy", "item", "__bool__", "__int__", "__float__")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._patch = pytest.MonkeyPatch()

    def __enter__(self):
        executor = pytest.importorskip("triton.runtime.interpreter").GridExecutor
        run = executor.__call__

        def counted(kernel, *args, **options):
            self.names.append(kernel.fn.__name__)
            with _disable_current_modes():  # what the interpreter itself does is left out
                return run(kernel, *args, **options)

        self._patch.setattr(executor, "__call__", counted)
        for name in self.READS:
            self._patch.setattr(torch.Tensor, name, self._refusing(name, getattr(torch.Tensor, name)))
        return super().__enter__()

    def __exit__(self, *error):
        self._patch.undo()
        return super().__exit__(*error)

    def _refusing(self, name, read):
        def call(*args):
            assert _get_current_dispatch_mode() is not self, f"Tensor.{name} waits for the GPU"
            return read(*args)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for a in args if isinstance(a, list) for i in a
        )
        assert not name.startswith(self.WAITS) and not by_mask, f"{name} waits for the GPU"
        if name.startswith("nnunet_ici.pair_sum"):  # one operator here; what it launches is counted on its own
            name = f"pair_sum {args[0].is_floating_point()}"
        if not name.startswith(self.NO_LAUNCH):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
