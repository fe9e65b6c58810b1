"""Fixtures, shapes that break labelings, and the folder of the real data."""

from __future__ import annotations

import inspect
import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

# On few cores, spinning OpenMP threads slow nnU-Net's processes down tenfold.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Without a GPU, Triton's kernels run in its interpreter; the variable must be set before any of them is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

collect_ignore = ["compile_kernels.py"]  # a program: it has no tests, and imports Triton

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _a_faster_interpreter() -> None:
    """Triton's interpreter replaces the functions of triton.language at every call of a helper; once per launch is
    enough. The private parts patched here were tried with Triton 3.8.0."""
    if os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    replace, replaced = interpreter._patch_lang, set()

    def replace_once(kernel):
        modules = {v.__name__ for v in kernel.__globals__.values() if inspect.ismodule(v) and v in (tl, tl.core)}
        if modules <= replaced:
            return interpreter._LangPatchScope()
        scope = replace(kernel)
        restore = scope.restore

        def put_back():
            replaced.clear()
            restore()

        scope.restore = put_back
        replaced.update(modules)
        return scope

    interpreter._patch_lang = replace_once


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20231107)


@pytest.fixture(autouse=True)
def _activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of this environment come first on PATH, as after its activation."""
    monkeypatch.setenv("PATH", os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20231107)


@pytest.fixture(autouse=True)
def _poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill torch.empty with nonsense, so that an output that is never written is noticed."""

    def poisoned(original):
        def filled(*args, **kwargs):
            tensor = original(*args, **kwargs)
            if tensor.is_floating_point():
                return tensor.fill_(float("nan"))
            poison = {torch.int32: -(2**30), torch.int64: -(2**30), torch.uint8: 171}
            return tensor.fill_(poison[tensor.dtype]) if tensor.dtype in poison else tensor

        return filled

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))


def snake(size: int = 41) -> np.ndarray:
    """One component that winds through the image row by row."""
    image = np.zeros((size, size), bool)
    image[::2] = True
    image[1::4, -1] = image[3::4, 0] = True
    return image


def spiral(size: int = 31) -> np.ndarray:
    """One component that winds to the middle."""
    image = np.zeros((size, size), bool)
    top, left, bottom, right = 0, 0, size - 1, size - 1
    while top <= bottom and left <= right:
        image[top, max(left - 2, 0) : right + 1] = True
        image[top : bottom + 1, right] = True
        image[bottom, left : right + 1] = True
        image[top + 2 : bottom + 1, left] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return image


def comb(size: int = 32) -> np.ndarray:
    """Teeth that only meet in the last row."""
    image = np.zeros((size, size), bool)
    image[:, ::2] = True
    image[-1] = True
    return image


def corners(shape: tuple[int, ...]) -> np.ndarray:
    """A voxel in each corner, including the origin."""
    image = np.zeros(shape, bool)
    image[np.ix_(*[[0, n - 1] for n in shape])] = True
    return image
