"""What finds the instances: the self-check, and every way in which plain torch takes over."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nnunet_ici import doctor
from nnunet_ici.instances import KernelStatus, kernel_status, kernels
from nnunet_ici.trainers import mixin
from tests.conftest import ROOT
from tests.training_step import weights_after_a_step

pytestmark = pytest.mark.skipif(not kernels.HAS_TRITON, reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "_statuses", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(kernels.VARIABLE, raising=False)


@pytest.fixture
def small_check(monkeypatch):
    """One small case of the self-check, because the interpreter is slow."""
    from nnunet_ici.instances import self_check

    monkeypatch.setattr(self_check, "CASES", ((2, torch.float32, None),))
    monkeypatch.setattr(self_check, "SHAPES", {2: (9, 20)})


@pytest.fixture
def cuda(monkeypatch):
    """Tensors pass for CUDA tensors; the kernels run in the interpreter."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))


@pytest.fixture
def expected():
    """Weights after a step on the CPU."""
    return pytest.approx(weights_after_a_step(), abs=1e-5)


def test_the_self_check_finds_no_difference():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        status = kernel_status(DEVICE)
    assert status.runs and status.remedy is None
    assert status.reason.startswith("equal to plain torch in the self-check")


def test_a_check_is_remembered_for_the_same_versions(small_check, monkeypatch):
    assert "self-check" in kernel_status(DEVICE).reason
    kernels._statuses.clear()
    assert kernel_status(DEVICE) == KernelStatus(True, "checked earlier with the same versions")
    assert "self-check" in kernel_status(DEVICE, afresh=True).reason
    kernels._statuses.clear()
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert "self-check" in kernel_status(DEVICE).reason


def test_it_runs_without_a_folder_for_the_cache(small_check, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernel_status(DEVICE).runs


def test_a_step_by_the_kernels_is_that_of_plain_torch(small_check, expected, cuda):
    assert weights_after_a_step() == expected
    assert kernel_status("cpu").runs


class Broken:
    """A kernel whose launches are followed, or replaced, by something else."""

    def __init__(self, kernel, after=None, error=None):
        self.kernel, self.after, self.error = kernel, after, error

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            if self.error is not None:
                raise self.error
            self.kernel[grid](*args, **kwargs)
            self.after(*args)

        return launch


def a_root_gets_the_wrong_id(bits, parent, *rest):
    roots = (parent.view(-1) < 0) & (parent.view(-1) > -(2**30))  # -2^30 is what tests fill torch.empty with
    parent.view(-1)[roots.nonzero()[-1]] -= 1


def a_voxel_gets_the_wrong_id(bits, parent, ids, *rest):
    ids.view(-1)[ids.view(-1).nonzero()[-1]] = 1


@pytest.mark.parametrize(
    ("name", "after"), [("ids_kernel", a_voxel_gets_the_wrong_id), ("number_kernel", a_root_gets_the_wrong_id)]
)
def test_a_wrong_id(name, after, small_check, expected, cuda, monkeypatch):
    from nnunet_ici.instances import _triton_label

    monkeypatch.setattr(_triton_label, name, Broken(getattr(_triton_label, name), after))
    with pytest.warns(
        RuntimeWarning, match=r"plain torch \(the self-check found a difference: labeling .*report"
    ) as told:
        assert weights_after_a_step() == expected
    assert len(told) == 1
    assert not list(kernels._cache_folder().parent.rglob("*.json"))


def test_a_sum_that_is_off_by_a_unit_of_float16_and_a_gradient_that_is_zero(small_check, expected, cuda, monkeypatch):
    from nnunet_ici.instances import _triton_find, _triton_sums

    def more(x, bits, parent, label, *rest):
        label[0] += label[0] // 1000

    with monkeypatch.context() as patch:
        patch.setattr(_triton_sums, "sums_kernel", Broken(_triton_sums.sums_kernel, more))
        with pytest.warns(RuntimeWarning, match="difference: sums over label instances"):
            assert weights_after_a_step() == expected
    kernels._statuses.clear()
    nothing = Broken(_triton_find.gradient_kernel, lambda *args: args[5].zero_())
    monkeypatch.setattr(_triton_find, "gradient_kernel", nothing)
    with pytest.warns(RuntimeWarning, match="difference: gradient"):
        assert weights_after_a_step() == expected


def out_of_resources():
    from triton.runtime.errors import OutOfResources

    return OutOfResources(300_000, 232_448, "shared memory")


KERNELS = [
    ("_triton_outputs", "classify_kernel"),
    ("_triton_sums", "measure_kernel"),
    ("_triton_sums", "sums_kernel"),
    ("_triton_cubes", "draw_kernel"),
    ("_triton_cubes", "count_kernel"),
    ("_triton_outputs", "gradient_kernel"),
]


@pytest.fixture(params=KERNELS, ids=lambda where: where[1])
def fail(request, monkeypatch):
    """A function that makes one kernel fail from now on."""
    module, name = request.param

    def break_it():
        for path in (f"nnunet_ici.instances.{module}", "nnunet_ici.instances._triton_find"):
            if hasattr(importlib.import_module(path), name):
                monkeypatch.setattr(f"{path}.{name}", Broken(None, error=out_of_resources()))

    return break_it


def test_a_kernel_that_raises_in_the_check(fail, small_check, expected, cuda):
    fail()
    with pytest.warns(
        RuntimeWarning, match="OutOfResources: out of resource: shared memory.*supports this GPU"
    ) as told:
        assert weights_after_a_step() == expected
    assert len(told) == 1 and not kernel_status("cpu").runs


def test_a_kernel_that_raises_later(fail, small_check, expected, cuda):
    assert kernel_status("cpu").runs
    fail()
    with pytest.warns(RuntimeWarning, match="OutOfResources") as told:
        assert weights_after_a_step() == expected
    assert len(told) == 1 and not kernel_status("cpu").runs
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert weights_after_a_step() == expected  # reported once


def sums_and_gradient(found):
    """The sums of another map by part, and the gradient of the weighted sums of the probability and that map."""
    prob, squares = found.prob, found.sums(found.source.prob.square())
    parts = [*vars(prob).values(), *vars(squares).values()]
    weights = torch.Generator().manual_seed(0)
    total = sum((part * torch.rand(part.shape, generator=weights)).sum() for part in parts)
    return [part.detach() for part in parts], torch.autograd.grad(total, found.source.x)[0]


@pytest.mark.parametrize("classes", [None, 1, 2])
@pytest.mark.parametrize("axes", [2, 3])
def test_what_is_left_of_a_step_is_computed_with_the_ids_of_the_kernels(axes, classes, cuda, monkeypatch):
    from nnunet_ici.instances import _triton_find, _triton_sums, self_check
    from nnunet_ici.instances.table import TableInstances

    generator = torch.Generator().manual_seed(2)
    source = self_check._make_source(axes, torch.float32, classes, generator, torch.device("cpu"))
    found = _triton_find.TritonInstances(source, self_check.THRESHOLD)
    parts, gradient = sums_and_gradient(found)
    again = _triton_find.TritonInstances(replace(source), self_check.THRESHOLD)
    for module, name in ((_triton_sums, "sums_kernel"), (_triton_find, "gradient_kernel")):
        monkeypatch.setattr(module, name, Broken(None, error=out_of_resources()))
    with pytest.warns(RuntimeWarning, match="OutOfResources"):
        parts_in_torch, gradient_in_torch = sums_and_gradient(again)
    assert sum(len(part) for part in parts) > 100
    for part, in_torch in zip(parts, parts_in_torch, strict=True):
        torch.testing.assert_close(in_torch, part, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient_in_torch, gradient, rtol=1e-5, atol=1e-6)
    total = TableInstances(replace(source), self_check.THRESHOLD).prob.overlap.sum()
    assert parts_in_torch[1].sum().item() == pytest.approx(total.item())


def test_out_of_memory_is_not_the_kernels_fault(small_check, cuda, monkeypatch):
    from nnunet_ici.instances import _triton_sums

    assert kernel_status("cpu").runs
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(_triton_sums, "measure_kernel", Broken(None, error=error))
    with pytest.raises(torch.OutOfMemoryError):
        weights_after_a_step()
    assert kernel_status("cpu").runs


def test_off(expected, cuda, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert weights_after_a_step() == expected
    assert str(kernel_status("cpu")) == "plain torch (NNUNET_ICI_KERNELS=off)"


def test_on_fails_instead(small_check, cuda, monkeypatch):
    from nnunet_ici.instances import _triton_sums

    monkeypatch.setenv(kernels.VARIABLE, "on")
    with monkeypatch.context() as patch:
        patch.setattr(_triton_sums, "measure_kernel", Broken(None, error=out_of_resources()))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="NNUNET_ICI_KERNELS=on, but the kernels do not run on cpu: OutOf"):
                weights_after_a_step()
    assert kernel_status("cpu").runs


def test_an_unknown_choice(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "yes")
    with pytest.raises(ValueError, match=r"NNUNET_ICI_KERNELS must be auto, on or off\. Got: 'yes'"):
        kernel_status(DEVICE)


def test_triton_is_not_installed(expected, cuda, monkeypatch):
    monkeypatch.setattr(kernels, "HAS_TRITON", False)
    with pytest.warns(RuntimeWarning, match="Triton is not installed.; to use the kernels: pip install triton"):
        assert weights_after_a_step() == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="a driver is there")
@pytest.mark.parametrize(
    ("environment", "reason", "remedy"),
    [
        ({"PATH": ""}, "RuntimeError: Failed to find C compiler", kernels.COMPILER),
        ({"CC": "/nowhere/gcc"}, "FileNotFoundError", kernels.COMPILER),
        ({"CC": "/bin/false"}, "CalledProcessError", kernels.COMPILER),  # as without the headers of Python
        ({"PASS_FOR_A_DRIVER": ""}, "RuntimeError: 0 active drivers", kernels.VERSIONS),
    ],
)
def test_triton_cannot_compile(environment, reason, remedy, expected, tmp_path):
    """By the steps that Triton itself takes at the first launch of a kernel."""
    given = {name: value for name, value in os.environ.items() if name not in ("CC", "TRITON_INTERPRET")}
    given |= {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_LIBCUDA_PATH": str(tmp_path), "PASS_FOR_A_DRIVER": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.training_step"], cwd=ROOT, env=given | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == expected
    assert f"plain torch ({reason}" in done.stderr and remedy in done.stderr
    assert done.stderr.count("RuntimeWarning") == 1


def test_the_training_log_says_so_once_and_when_it_changes(monkeypatch):
    statuses = [KernelStatus(True, "fine")] * 3 + [KernelStatus(False, "so", "do")] * 2
    monkeypatch.setattr(mixin, "kernel_status", lambda device: statuses.pop(0))
    lines = []
    trainer = SimpleNamespace(device=torch.device("cuda", 0), _kernels=None, print_to_log_file=lines.append)
    while statuses:
        mixin.CompoundLossMixin._log_kernels(trainer)
    path = "Instances on cuda:0: "
    assert lines == [f"{path}Triton kernels (fine)", f"{path}plain torch (so); to use the kernels: do"]


@pytest.mark.parametrize("status", [KernelStatus(True, "fine"), KernelStatus(False, "so", "do")])
def test_doctor_says_which_path_runs_and_why(status, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X")
    monkeypatch.setattr("nnunet_ici.instances.kernel_status", lambda device, afresh: status)
    finding = next(doctor._labelling())
    path = "Triton kernels" if status.runs else "plain torch"
    assert finding.found == f"NVIDIA X: instances by {path} ({status.reason})"
    assert (finding.what, finding.remedy) == ("cuda:0", None if status.runs else "# do")
