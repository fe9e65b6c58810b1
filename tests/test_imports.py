"""Imports run one way, read from the syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "nnunet_ici"

# A part may import from those behind it in its row, and from itself.
ALLOWED = {
    "cli": {"datasets", "evaluation", "explain", "doctor", "ext_path", "trainers", "postprocessing", "report"},
    "doctor": {"_autoregister", "trainers", "instances"},
    "ext_path": {"_autoregister"},
    "ext": {"trainers"},
    "trainers": {"losses"},
    "explain": {"losses", "instances", "evaluation", "drawing", "images", "geometry", "arguments"},
    "postprocessing": {"evaluation", "instances", "images", "geometry", "work", "arguments"},
    "report": {"evaluation", "drawing", "images", "geometry", "arguments"},
    "evaluation": {"instances", "images", "geometry", "work", "arguments"},
    "datasets": {"instances", "images", "geometry", "work"},
    "losses": {"instances", "checks"},
    "instances": {"checks"},
    "drawing": set(),
    "checks": set(),
    "images": {"geometry"},
    "geometry": set(),
    "work": set(),
    "arguments": set(),
    "_autoregister": set(),
    "__init__": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    for module in imported_modules(path):
        if module.startswith("nnunet_ici."):
            target = module.split(".")[1]
            if target == "__version__":
                continue
            assert target == part or target in ALLOWED[part], f"{part} may not import from {target}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_trainers_know_nnunet_when_they_are_loaded(path):
    if part_of(path) != "trainers":
        assert not any(m.split(".")[0] == "nnunetv2" for m in imported_modules(path, top_level_only=True))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_imported_is_declared(path):
    declared = (ROOT / "pyproject.toml").read_text()
    package_of = {"cc3d": "connected-components-3d", "triton": "torch"}  # torch brings Triton on Linux
    for module in imported_modules(path):
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names and top != "nnunet_ici":
            assert f'"{package_of.get(top, top)}' in declared, f"{top} is not in pyproject.toml"


def test_no_part_is_forgotten():
    assert {part_of(path) for path in FILES} <= set(ALLOWED)


def test_public_names_are_listed_and_exist():
    for name in ("instances", "losses"):
        module = __import__(f"nnunet_ici.{name}", fromlist=["__all__"])
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, public) for public in module.__all__)


def test_commands_that_need_no_network_do_not_load_torch():
    modules = [
        "nnunet_ici.evaluation.evaluate",
        "nnunet_ici.datasets.convert_atlas",
        "nnunet_ici.postprocessing.tune",
        "nnunet_ici.report.report",
    ]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
