"""What finds the instances: the self-check, and every way in which plain torch runs instead of the kernels."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from nnunet_ici import doctor
from nnunet_ici.instances import KernelStatus, kernel_status, kernels, labelling_backend
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
def gpu(monkeypatch):
    """The CPU is a device on which kernels are checked and run; they run in the interpreter."""
    monkeypatch.setattr(kernels, "CHECKED_DEVICE", "cpu")


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


def test_a_step_by_the_kernels_is_that_of_plain_torch(small_check, expected, gpu):
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


def a_voxel_gets_the_wrong_id(bits, parent, number, ids, *rest):
    ids.view(-1)[ids.view(-1).nonzero()[-1]] = 1


def a_sum_is_off_by_a_unit_of_float16(x, bits, parent, count, sums, *rest):
    sums[: count[0].numel()] += sums[: count[0].numel()] // 1000


def a_pair_is_lost(x, bits, parent, count, sums, coordinates, slots, *rest):
    if slots is not sums:
        slots[slots.nonzero()[0]] = 0


def cubes_are_moved(*args):
    args[6][args[6] > 0] -= 1


def a_cube_gets_another_voxel(drawn, cover, *rest):
    cover.view(-1)[cover.argmax()] += 1


@pytest.mark.parametrize(
    ("module", "name", "after", "what"),
    [
        ("label", "ids_kernel", a_voxel_gets_the_wrong_id, "labeling"),
        ("distance", "lines_kernel", lambda lines, out, *rest: out.view(-1)[0].add_(1), "distances"),
        ("pairs", "pairs_kernel", lambda *args: args[5][0].add_(args[5].max()), "sums over pairs"),
        ("find", "measure_kernel", a_pair_is_lost, "(label|predicted) instances"),
        ("find", "measure_kernel", a_sum_is_off_by_a_unit_of_float16, "sums over label instances"),
        ("find", "finish_kernel", cubes_are_moved, "(voxels of )?center cubes"),
        ("cubes", "cover_kernel", a_cube_gets_another_voxel, "center cubes"),
        ("find", "gradient_kernel", lambda *args: args[8].zero_(), "gradient"),
    ],
)
def test_a_difference_is_found(module, name, after, what, small_check, monkeypatch):
    module = importlib.import_module(f"nnunet_ici.instances._triton_{module}")
    monkeypatch.setattr(module, name, Broken(getattr(module, name), after))
    with pytest.warns(
        RuntimeWarning, match=rf"plain torch \(the self-check found a difference: {what} \(.*report"
    ) as told:
        assert not kernel_status(DEVICE).runs
    assert len(told) == 1
    assert not list(kernels._cache_folder().parent.rglob("*.json"))


def out_of_resources():
    from triton.runtime.errors import OutOfResources

    return OutOfResources(300_000, 232_448, "shared memory")


@pytest.fixture(params=["find.classify_kernel", "find.gradient_kernel", "cubes.draw_kernel", "pairs.pairs_kernel"])
def fail(request, monkeypatch):
    """A function that makes one kernel fail from now on."""
    path = f"nnunet_ici.instances._triton_{request.param}"
    return lambda error: monkeypatch.setattr(path, Broken(None, error=error))


def test_a_kernel_that_raises_in_the_check(fail, small_check, expected, gpu):
    fail(out_of_resources())
    with pytest.warns(
        RuntimeWarning, match="OutOfResources: out of resource: shared memory.*supports this GPU"
    ) as told:
        assert weights_after_a_step() == expected
    assert len(told) == 1 and not kernel_status("cpu").runs


def test_a_kernel_that_raises_later_names_the_way_out(fail, small_check, expected, gpu, monkeypatch):
    assert kernel_status("cpu").runs
    fail(out_of_resources())
    message = r"the Triton kernels failed on cpu: OutOfResources: .*\. Set NNUNET_ICI_KERNELS=off to use plain torch"
    with pytest.raises(RuntimeError, match=message) as raised:
        weights_after_a_step()
    assert type(raised.value.__cause__).__name__ == "OutOfResources"
    fail(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        weights_after_a_step()
    monkeypatch.setenv(kernels.VARIABLE, "off")
    kernels._statuses.clear()
    assert weights_after_a_step() == expected


def test_off(expected, gpu, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert weights_after_a_step() == expected
    assert str(kernel_status("cpu")) == "plain torch (NNUNET_ICI_KERNELS=off)"


def test_on_fails_instead(small_check, gpu, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "on")
    with monkeypatch.context() as patch:
        patch.setattr("nnunet_ici.instances._triton_find.measure_kernel", Broken(None, error=out_of_resources()))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="NNUNET_ICI_KERNELS=on, but the kernels do not run on cpu: OutOf"):
                weights_after_a_step()
    assert kernel_status("cpu").runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels run on the GPU, not in the interpreter")
def test_interpret_runs_the_kernels_on_the_cpu(expected, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "interpret")
    assert labelling_backend("cpu") == "triton" and weights_after_a_step() == expected
    assert str(kernel_status("cpu")) == "plain torch (NNUNET_ICI_KERNELS=interpret)"  # what is checked is a GPU
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match=r"NNUNET_ICI_KERNELS=interpret needs TRITON_INTERPRET=1\. Got: '0'"):
        weights_after_a_step()


def test_an_unknown_choice(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "yes")
    with pytest.raises(ValueError, match=r"NNUNET_ICI_KERNELS must be auto, on, off or interpret\. Got: 'yes'"):
        kernel_status(DEVICE)


def test_triton_is_not_installed(expected, gpu, monkeypatch):
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
