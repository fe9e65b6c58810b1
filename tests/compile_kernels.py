"""Compile every Triton kernel for a GPU, which need not be present, with the arguments that the launchers pass.

    python -m tests.compile_kernels 90

Launches are intercepted and compiled to machine code instead, so this runs wherever Triton does. It prints one line of
JSON per variant: name, registers per thread, and bytes of stack and local memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "0"  # before Triton is imported, and only if this file is run

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = {
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


def compiler(arch: int):
    """A replacement for JITFunction.run that compiles like a launch and prints the result."""
    seen = set()

    def run(self, *args, grid=None, warmup=False, num_warps=4, **kwargs):
        given = dict(zip(self.arg_names, args, strict=False)) | kwargs
        signature, constants, attributes = {}, {}, {}
        for i, param in enumerate(self.params):
            name, value = param.name, given[param.name]
            if param.is_constexpr or (isinstance(value, int) and value == 1 and not param.do_not_specialize):
                signature[name], constants[name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = "*" + TYPES[value.dtype]
                attributes[(i,)] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"
                if isinstance(value, int) and value % 16 == 0 and not param.do_not_specialize:
                    attributes[(i,)] = [["tt.divisibility", 16]]
        key = (self.__name__, *signature.items(), *constants.items(), *attributes, num_warps)
        if key in seen:
            return
        seen.add(key)
        source = ASTSource(fn=self, signature=signature, constexprs=constants, attrs=attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": num_warps})
        with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
            cubin.write(compiled.asm["cubin"])
            cubin.flush()
            dump = subprocess.run([CUOBJDUMP, "--dump-resource-usage", cubin.name], capture_output=True, text=True)
        registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", dump.stdout).groups()
        print(json.dumps([self.__name__, int(registers), int(stack), int(local)]), flush=True)

    return run


def launch_everything(half: torch.dtype) -> None:
    """Call every launcher with the data types, modes and shapes that lead to different variants."""
    from nnunet_ici.instances import Source
    from nnunet_ici.instances._triton_distance import along_lines
    from nnunet_ici.instances._triton_find import find_by_kernels
    from nnunet_ici.instances._triton_label import label_triton
    from nnunet_ici.instances._triton_pairs import pair_sum_by_kernel

    for shape in ((2, 16, 48, 48), (1, 1, 1, 1), (2, 48, 64), (1, 5, 7)):
        label_triton(torch.ones(shape, dtype=torch.bool))
    for lines in ((1, 5, 7), (40, 40, 1), (3, 40, 1600)):
        along_lines(torch.ones(lines, dtype=torch.int64))
    rows = torch.ones(64, dtype=torch.int32)
    for used in (None, torch.ones(64, dtype=torch.bool)):
        pair_sum_by_kernel(torch.ones(64), rows, rows, used, 64)
    for spatial, activation, channels, target_channels, dtype in (
        ((40, 40, 40), "softmax", 2, 1, torch.float16),
        ((40, 40), "softmax", 4, 1, half),
        ((3, 5, 7), "softmax", 4, 1, torch.float32),
        ((40, 40, 40), "sigmoid", 2, 3, half),
        ((1, 1, 1), "sigmoid", 1, 1, torch.float16),
        ((40, 40, 40), "none", 1, 1, torch.float32),
        ((1, 5), "none", 2, 2, torch.float32),
    ):
        x = torch.ones(2, channels, *spatial, dtype=dtype, requires_grad=True)
        by_class = activation != "softmax"
        target = torch.ones(2, target_channels, *spatial, dtype=torch.bool if by_class else torch.int16)
        mask = torch.ones(2, 1, *spatial, dtype=torch.bool) if activation == "none" else None
        source = Source(x, target, activation, by_class, mask, None if by_class else channels)
        find_by_kernels(source, 0.5, "dice", None)
        table = find_by_kernels(source, 0.5, "bce", [3] * len(spatial))
        (table.label.prob.sum() + table.label.entropy.sum()).backward()


if __name__ == "__main__":
    JITFunction.run = compiler(int(sys.argv[1]))
    launch_everything(torch.bfloat16 if int(sys.argv[1]) >= 80 else torch.float16)
