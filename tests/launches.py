"""Launches on a GPU, counted without one, and the operators that would wait for it."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


class Launches(TorchDispatchMode):
    """Lists the operators of torch and the kernels of Triton that would be launches on a GPU, by name.

    Raises:
        AssertionError: at an operator that reads a value, or whose result has a size that depends on values.
    """

    NO_LAUNCH = (
        "_unsafe_view", "alias", "as_strided", "detach", "empty", "expand", "fill_", "lift_fresh", "new_empty",
        "permute", "reshape", "select", "slice", "split", "squeeze", "t.", "transpose", "unbind", "unsqueeze", "view",
    )  # fmt: skip
    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "is_nonzero", "equal.", "repeat_")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from triton.runtime.interpreter import InterpretedFunction

        super().__init__()
        self.names: list[str] = []
        run = InterpretedFunction.run

        def counted(kernel, *args, **kwargs):
            self.names.append(kernel.fn.__name__)
            with _disable_current_modes():
                return run(kernel, *args, **kwargs)

        def refused(tensor, *args):
            raise AssertionError("a tensor is copied to the host")

        monkeypatch.setattr(InterpretedFunction, "run", counted)
        for name in ("tolist", "numpy", "item", "__bool__", "__int__", "__float__"):
            monkeypatch.setattr(torch.Tensor, name, self._outside(getattr(torch.Tensor, name), refused))

    def _outside(self, original, refused):
        """``original`` where no mode is active, as in the interpreter, else ``refused``."""

        def call(*args):
            is_active = torch.utils._python_dispatch._get_current_dispatch_mode() is self
            return (refused if is_active else original)(*args)

        return call

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "nnunet_ici":  # an operator of ours consists of several
            from nnunet_ici.instances.pairs import pair_sum

            with self:
                return pair_sum._init_fn(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        by_mask = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for a in args if isinstance(a, list) for i in a
        )
        assert not name.startswith(self.WAITS) and not by_mask, f"{name} waits for the GPU"
        if not name.startswith(self.NO_LAUNCH):
            self.names.append(name)
        return func(*args, **(kwargs or {}))
