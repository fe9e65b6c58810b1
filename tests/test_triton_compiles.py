"""The kernels compile to machine code for GPUs from Turing to Hopper, which the interpreter cannot show."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from nnunet_ici.instances import components
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not components.HAS_TRITON, reason="Triton is not installed")


@pytest.mark.parametrize("arch", [75, 90])
def test_every_kernel_compiles_and_keeps_its_variables_in_registers(arch):
    command = [sys.executable, "-m", "tests.compile_kernels", str(arch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    variants = [json.loads(line) for line in done.stdout.splitlines()]

    written = {
        name
        for path in (ROOT / "nnunet_ici" / "instances").glob("_triton_*.py")
        for name in re.findall(r"^@triton\.jit.*\ndef (\w+_kernel)\(", path.read_text(), re.MULTILINE)
    }
    assert {name for name, *_ in variants} == written
    for name, registers, stack, local in variants:
        assert local == 0 and stack <= 64, (name, registers, stack, local)
