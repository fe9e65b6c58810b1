"""After pip install alone, nnU-Net finds the trainers, and other programs start as fast as before."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnunet_ici._autoregister import EXT_FOLDER, register
from nnunet_ici.cli import main
from tests.conftest import ROOT

START_UP = (ROOT / "nnunet_ici" / "startup" / "nnunet_ici_autoregister.pth").read_text()


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, with these variables and none of our own."""
    ours = ("nnUNet_extTrainer", "NNUNET_ICI_NO_AUTOREGISTER")
    clean = {key: value for key, value in os.environ.items() if key not in ours}
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stderr == ""
    return result.stdout.strip()


SHOW = "import os; print(os.environ.get('nnUNet_extTrainer'))"


def test_a_fresh_interpreter_has_the_folder():
    assert python(SHOW) == EXT_FOLDER


def test_what_the_user_set_is_kept_and_comes_first():
    assert python(SHOW, nnUNet_extTrainer="/a/b:/c") == f"/a/b:/c:{EXT_FOLDER}"
    assert python(SHOW, nnUNet_extTrainer="") == EXT_FOLDER


def test_it_is_appended_once_also_in_child_processes():
    child = "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', sys.argv[-1]]).decode())"
    code = child.replace("sys.argv[-1]", repr(SHOW))
    assert python(code) == EXT_FOLDER
    assert python(SHOW, nnUNet_extTrainer=f"{EXT_FOLDER}:/a") == f"{EXT_FOLDER}:/a"


@pytest.mark.parametrize(("value", "expected"), [("1", "None"), ("true", "None"), ("0", EXT_FOLDER), ("", EXT_FOLDER)])
def test_it_can_be_switched_off(value, expected):
    assert python(SHOW, NNUNET_ICI_NO_AUTOREGISTER=value) == expected


def test_starting_up_loads_nothing_heavy():
    loaded = python("import sys; print(*(m for m in ('torch', 'numpy', 'nnunetv2') if m in sys.modules))")
    assert loaded == ""
    loaded = python(
        "import sys, nnunet_ici.trainers, nnunet_ici.cli; print(*({'torch', 'nnunetv2'} & set(sys.modules)))"
    )
    assert loaded == ""


def test_starting_up_takes_under_a_millisecond():
    # Timed in an interpreter that has not run the line yet; site.py, which runs it, has loaded os before.
    code = f"import os, sys, time; start = time.perf_counter(); exec({START_UP!r}); print(time.perf_counter() - start)"
    path = os.pathsep.join([str(ROOT), *sys.path[1:]])
    times = []
    for _ in range(9):
        result = subprocess.run(
            [sys.executable, "-S", "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
        )
        times.append(float(result.stdout))
    assert sorted(times)[len(times) // 2] < 1e-3


def test_it_never_raises(monkeypatch):
    monkeypatch.setattr("nnunet_ici._autoregister.os", None)
    register()
    # The package is gone, but the start-up line is still there.
    result = subprocess.run([sys.executable, "-S", "-I", "-c", START_UP], capture_output=True, text=True, cwd="/")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_wheel_carries_the_start_up_files_and_the_templates(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        start = wheel.read("nnunet_ici_autoregister.start").decode()
        page = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
        scripts = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {"nnunet_ici_autoregister.pth", "nnunet_ici/py.typed", "nnunet_ici/ext/nnunet_ici_external_trainers.py"} <= {
        *names
    }
    templates = {f"nnunet_ici/report/templates/{name}" for name in ("page.html", "parts.html", "style.css")}
    assert templates <= {*names}
    assert not any(name.startswith(("tests/", "scripts/", "nnunet_ici/startup/")) for name in names)
    # On PyPI, pictures and links need whole addresses, of the repository that pyproject.toml names.
    address = re.search(r"^Project-URL: Repository, (.+)$", page, re.MULTILINE)[1]
    assert f"]({address}/raw/main/docs/terms.png)" in page and f"]({address}/blob/main/docs/losses.md)" in page
    assert "](docs/" not in page
    assert {f"{name} = nnunet_ici.cli:main" for name in ("nnunet_ici", "nnunet-ici")} <= {*scripts.splitlines()}
    module, function = start.strip().split(":")  # PEP 829: package.module:callable
    assert (module, function) == (register.__module__, register.__name__)


def test_the_shim_is_alone_in_its_folder():
    assert [path.name for path in Path(EXT_FOLDER).glob("*.py")] == ["nnunet_ici_external_trainers.py"]
    assert not (Path(EXT_FOLDER) / "__init__.py").exists()


@pytest.fixture
def look_up(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", EXT_FOLDER)
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    return recursive_find_trainer_class_by_name


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerICI", "nnUNetTrainerDICI", "nnUNetTrainerDual", "nnUNetTrainerICI_50epochs"]
)
def test_nnunet_finds_the_same_picklable_class_at_every_look_up(look_up, name):
    first, second = look_up(name), look_up(name)
    assert first is second and first.__name__ == name
    assert pickle.loads(pickle.dumps(first)) is first


def test_epochs_in_the_name(look_up):
    assert [look_up(f"nnUNetTrainerDual_{n}").epochs for n in ("1epoch", "5epochs", "250epochs")] == [1, 5, 250]
    assert look_up("nnUNetTrainerDual_5epochs").__mro__[1] is look_up("nnUNetTrainerDual")


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainerICE", "nnUNetTrainerICI_", "nnUNetTrainerICI_05epochs", "nnUNetTrainerICI_0epochs",
     "nnUNetTrainerICI_1epochs", "nnUNetTrainerICI_5epoch", "nnUNetTrainerICI_5epochs_5epochs"],
)  # fmt: skip
def test_an_unknown_name_gives_nnunets_own_error(look_up, name):
    with pytest.raises(RuntimeError, match=f"Could not find requested nnunet trainer {name} in"):
        look_up(name)


def test_ext_path_prints_the_folder(capsys):
    assert main(["ext-path"]) == 0
    assert capsys.readouterr().out.strip() == EXT_FOLDER


@pytest.mark.slow
def test_the_hint_on_a_wrong_option_is_the_last_thing_on_the_screen(tmp_path):
    folders = {name: str(tmp_path) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    command = "from nnunetv2.run.run_training import get_trainer_from_args as get; get('Dataset001_X', '2d', 0, {!r})"
    done = subprocess.run(
        [sys.executable, "-c", command.format("nnUNetTrainerICI_i1")],
        env=os.environ | folders | {"nnUNet_extTrainer": EXT_FOLDER},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "Could not find requested nnunet trainer nnUNetTrainerICI_i1" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "nnunet_ici: nnUNetTrainerICI_i1: 'i1' is the default of nnUNetTrainerICI: leave it out"
    )
