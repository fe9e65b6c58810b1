"""Imports run one way, read from the syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.conftest import ROOT

PACKAGE = ROOT / "nnunet_ici"

# A part may import from itself and from the parts in its row.
ALLOWED = {
    "__main__": {"cli"},
    "cli": {"command"},
    "completion": {"cli", "command"},
    "doctor": {"environment", "_autoregister", "command", "trainers", "instances", "postprocessing"},
    "ext_path": {"_autoregister", "command"},
    "ext": {"trainers"},
    "trainers": {"losses", "settings", "instances", "command", "drawing", "evaluation", "postprocessing"},
    "explain": {"losses", "settings", "instances", "evaluation", "drawing", "geometry", "command", "output"},
    "postprocessing": {"evaluation", "instances", "images", "geometry", "command", "output", "parallel"},
    "compare": {"environment", "evaluation", "postprocessing", "report", "command", "output", "parallel"},
    "report": {"evaluation", "drawing", "command", "output", "parallel"},
    "evaluation": {"environment", "on_demand", "instances", "images", "geometry", "command", "output", "parallel"},
    "datasets": {"environment", "instances", "images", "geometry", "command", "output", "parallel"},
    "losses": {"instances", "settings", "checks"},
    "instances": {"on_demand", "checks"},
    "output": {"parallel"},
    "drawing": {"geometry"},
    "settings": set(),
    "checks": set(),
    "command": set(),
    "images": {"geometry"},
    "geometry": set(),
    "environment": set(),
    "on_demand": set(),
    "parallel": set(),
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


def test_imports_run_one_way():
    for path in FILES:
        part = part_of(path)
        for module in imported_modules(path):
            if module.startswith("nnunet_ici.") and module != "nnunet_ici.__version__":
                target = module.split(".")[1]
                assert target == part or target in ALLOWED[part], f"{path}: {part} may not import from {target}"


def test_only_trainers_know_nnunet_when_they_are_loaded():
    for path in FILES:
        if part_of(path) != "trainers":
            tops = {module.split(".")[0] for module in imported_modules(path, top_level_only=True)}
            assert "nnunetv2" not in tops, f"{path} loads nnunetv2"


def test_what_is_imported_is_declared():
    declared = (ROOT / "pyproject.toml").read_text()
    package_of = {
        "cc3d": "connected-components-3d",
        "skimage": "scikit-image",
        "triton": "torch",  # torch brings Triton on Linux
    }
    for path in FILES:
        for top in {module.split(".")[0] for module in imported_modules(path)} - {"nnunet_ici"}:
            if top not in sys.stdlib_module_names:
                assert f'"{package_of.get(top, top)}' in declared, f"{path}: {top} is not in pyproject.toml"


def test_no_part_is_forgotten():
    assert {part_of(path) for path in FILES} <= set(ALLOWED)


def test_public_names_are_listed_and_exist():
    for name in ("evaluation", "instances", "losses"):
        module = __import__(f"nnunet_ici.{name}", fromlist=["__all__"])
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, public) for public in module.__all__)
        assert not hasattr(module, "no_such_name")


def test_commands_that_need_no_network_do_not_load_torch():
    modules = [
        "nnunet_ici.compare.compare",
        "nnunet_ici.evaluation.evaluate",
        "nnunet_ici.datasets.convert_atlas",
        "nnunet_ici.postprocessing.tune",
        "nnunet_ici.report.report",
    ]
    assert not loaded_with(modules, ["torch"])


def test_workers_of_evaluate_load_no_tables():
    assert not loaded_with(["nnunet_ici.evaluation.evaluate_cases"], ["pandas", "scipy.special", "torch"])


def loaded_with(modules, others):
    code = (
        "import sys, importlib\n"
        f"for module in {modules}: importlib.import_module(module)\n"
        f"print(*(set({others}) & set(sys.modules)))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
