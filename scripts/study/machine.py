"""The identity of a machine. Two runs are paired only if the same seed would give the same run on both machines.

The id is a hash of everything that determines the arithmetic: the processor (vendor, family, model, stepping,
instruction sets, caches) or the GPU, the number of threads, the versions of the numerical libraries, and a fingerprint,
which is a hash of the weights of a small seeded network after three steps. Host name, boot, memory and clock speed are
not part of the id. Two machines with the same id give the same numbers. After an update of torch, a machine has a
different id.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["describe_code", "describe_machine"]

LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "nnunetv2",
    "batchgenerators",
    "batchgeneratorsv2",
    "dynamic-network-architectures",
)
CPU_FACTS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Describe the machine this process runs on.

    Args:
        device: device on which networks are trained.
        threads: number of CPU threads of a run.

    Returns:
        ``id`` (12 hexadecimal digits), ``processor`` (name), ``cores``, ``threads``, and the versions of
        :data:`LIBRARIES`.
    """
    on_gpu = device.type == "cuda"
    facts = {"GPU": repr(torch.cuda.get_device_properties(device))} if on_gpu else _cpu_facts()
    versions = {name: metadata.version(name) for name in LIBRARIES}
    decisive = [facts, threads, versions, _fingerprint(device)]
    return {
        "id": hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12],
        "processor": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        **versions,
    }


def describe_code(root: Path) -> str | None:
    """The commit of a checkout, followed by ``+`` if files differ from the commit; None without git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def _cpu_facts() -> dict[str, str]:
    facts = {"architecture": platform.machine()}
    info = Path("/proc/cpuinfo")
    if info.is_file():  # Linux
        for line in info.read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            if name.strip() in CPU_FACTS:
                facts[name.strip()] = value.strip()
    for size in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")):
        facts[size.parent.name] = size.read_text().strip()
    return facts


def _cpu_name() -> str:
    facts = _cpu_facts()
    name = facts.get("model name") or platform.processor() or "unknown"
    numbers = [f"{fact} {facts[fact]}" for fact in ("cpu family", "model") if fact in facts]
    return f"{name} ({', '.join([facts['architecture'], *numbers])})"


def _fingerprint(device: torch.device) -> str:
    """A hash of the weights of a small network after three training steps on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            network = nn.Sequential(
                nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU(), nn.Conv3d(8, 2, 3)
            ).to(device)
            optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
            image = torch.randn(2, 1, 16, 16, 16).to(device)
            for _ in range(3):
                optimizer.zero_grad()
                network(image).log_softmax(1)[:, 1].mean().neg().backward()
                optimizer.step()
    finally:
        torch.set_num_threads(threads)
    weights = b"".join(value.detach().cpu().numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(weights).hexdigest()
