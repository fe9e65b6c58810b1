"""``nnunet_ici doctor``: what it finds, and the commands that it suggests."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import sysconfig
import warnings
from importlib import metadata

import pytest

from nnunet_ici._autoregister import EXT_FOLDER
from nnunet_ici.cli import main

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in VARIABLES:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_extTrainer", EXT_FOLDER)
    return tmp_path


def squeezed(report):
    """The report without the spaces that align it."""
    return re.sub(" +", " ", report)


def test_doctor_finds_everything_in_place(folders, capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "No problems found." in report and "-->" not in report
    for line in (
        f"nnunetv2 {metadata.version('nnunetv2')}",
        "nnUNetTrainerDual found by nnU-Net",
        "labeling in 3D cc3d",
    ):
        assert line in squeezed(report)


def test_doctor_says_what_it_is_doing_and_hides_other_packages_warnings(folders, monkeypatch, capsys):
    def warn(_name):
        warnings.warn("something of another package is deprecated", FutureWarning, stacklevel=1)

    monkeypatch.setattr("nnunet_ici.doctor._look_up", warn)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        main(["doctor"])
    assert not shown
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "checking packages ...",
        "checking commands ...",
        "checking folders ...",
        "checking trainers with nnU-Net's own search ...",
        "checking labeling on this device ...",
        "checking thresholds of trained models ...",
    ]


def test_doctor_finds_that_nnunet_does_not_know_the_trainers(folders, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_extTrainer")
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert "--> nnUNetTrainerICI " in report and "not found by nnU-Net" in report
    assert report.endswith("To solve them:\n\nexport nnUNet_extTrainer=$(nnunet_ici ext-path)\n")  # once


def test_doctor_names_what_helps_with_folders(folders, monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_results")
    (folders / "nnUNet_raw").rmdir()
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert f"--> nnUNet_raw {folders / 'nnUNet_raw'} does not exist" in squeezed(captured.out)
    assert captured.out.splitlines()[-2:] == [
        f"mkdir -p {folders / 'nnUNet_raw'}",
        'export nnUNet_results="$HOME/nnunet/nnUNet_results"; mkdir -p "$HOME/nnunet/nnUNet_results"'
        "   # trained models",
    ]
    assert "trainers and labeling: not checked until the problems above are solved" in captured.err


@pytest.mark.parametrize(
    ("value", "found", "remedy"),
    [
        ('"{root}/a b"', "its value has quotation marks. Got: '\"{root}/a b\"'", "'{root}/a b'"),
        ("'{root}'", "its value has quotation marks. Got: \"'{root}'\"", "{root}"),
        ("~/raw", "its value has a ~ that the shell has not replaced. Got: '~/raw'", "{root}/raw"),
        ('"~/raw"', "its value has quotation marks and a ~ that the shell has not replaced", "{root}/raw"),
        ("$HOME/raw", "its value has a variable that the shell has not replaced. Got: '$HOME/raw'", "{root}/raw"),
        ("{root}/a\\ b", "its value has a backslash before a space. Got: ", "'{root}/a b'"),
        ("{root}/nnUNet_raw\r", "its value has white space around it. Got: ", "{root}/nnUNet_raw"),
    ],
)
def test_a_value_that_the_shell_has_not_interpreted(folders, monkeypatch, capsys, value, found, remedy):
    """No folder is made that has a quotation mark or a ~ in its name."""
    monkeypatch.setenv("HOME", str(folders))
    monkeypatch.setenv("nnUNet_raw", value.format(root=folders))
    assert main(["doctor"]) == 1
    report, remedy = capsys.readouterr().out, remedy.format(root=folders)
    assert f"--> nnUNet_raw {found.format(root=folders)}" in squeezed(report)
    assert report.endswith(f"To solve them:\n\nexport nnUNet_raw={remedy}; mkdir -p {remedy}\n")


def test_a_file_is_no_folder_and_a_strange_name_is_quoted(folders, monkeypatch, capsys):
    (folders / "file").touch()
    monkeypatch.setenv("nnUNet_raw", str(folders / "file"))
    monkeypatch.setenv("nnUNet_results", str(folders / "new; folder"))
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert f"{folders / 'file'} is a file" in report
    lines = report.splitlines()[-2:]
    assert lines == ["# choose another folder: export nnUNet_raw=FOLDER", f"mkdir -p '{folders / 'new; folder'}'"]


@pytest.mark.parametrize("head", ["#!{python}\n", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"])
def test_the_command_of_another_environment_is_found(folders, monkeypatch, capsys, head):
    other = folders / "other"
    other.mkdir()
    (other / "python").write_text("#!/bin/sh\necho /of/another\n")
    (other / "nnUNetv2_train").write_text(head.format(python=other / "python"))
    for path in other.iterdir():
        path.chmod(0o755)
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", f"{other}{os.pathsep}{scripts}{os.pathsep}{os.environ['PATH']}")
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    found = f"{other / 'nnUNetv2_train'}, of another environment (/of/another). Checked here: {sys.prefix}\n"
    assert f"--> nnUNetv2_train {found}" in squeezed(report)
    assert f"ok nnunet_ici {scripts}/nnunet_ici\n" in squeezed(report)
    assert report.endswith(f'To solve them:\n\nexport PATH={scripts}:"$PATH"\n')
    monkeypatch.setenv("PATH", str(folders))
    assert main(["doctor"]) == 1
    assert "--> nnUNetv2_train not on PATH\n" in squeezed(capsys.readouterr().out)


def run_doctor(home, script='"$0" -m nnunet_ici.cli doctor'):
    """In a fresh shell, without any export."""
    clean = {key: value for key, value in os.environ.items() if key not in VARIABLES} | {"HOME": str(home)}
    return subprocess.run(["bash", "-c", script, sys.executable], env=clean, capture_output=True, text=True)


def test_before_any_export_doctor_answers_at_once(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_doctor(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    lines = done.stdout.split("To solve them:\n\n")[1].splitlines()
    assert [line.split("=")[0] for line in lines] == [f"export {name}" for name in VARIABLES]


@pytest.mark.slow
def test_the_lines_can_be_pasted(tmp_path):
    lines = run_doctor(tmp_path).stdout.split("To solve them:\n\n")[1]
    done = run_doctor(tmp_path, lines + '"$0" -m nnunet_ici.cli doctor')
    assert done.returncode == 0 and "No problems found." in done.stdout
    assert sorted(path.name for path in (tmp_path / "nnunet").iterdir()) == sorted(VARIABLES)


def test_doctor_finds_an_old_nnunet_and_a_missing_package(folders, monkeypatch, capsys):
    version = metadata.version

    def pretended(name):
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        return "2.7.1" if name == "nnunetv2" else version(name)

    monkeypatch.setattr(metadata, "version", pretended)
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert report.endswith('To solve them:\n\npip install "nnunetv2>=2.8"\npip install numpy\n')


def test_convert_atlas_wants_the_folder_as_doctor_does(folders, capsys):
    (folders / "nnUNet_raw").rmdir()
    assert main(["convert-atlas", str(folders)]) == 1
    told = capsys.readouterr().err
    assert f"nnUNet_raw: {folders / 'nnUNet_raw'} does not exist. Expected: a folder. Try: mkdir -p" in told
    assert not (folders / "nnUNet_raw").exists()
