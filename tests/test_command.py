"""What all commands share: help, version, unknown words, and output that is complete or absent."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_ici import __version__
from nnunet_ici.cli import COMMANDS, main
from nnunet_ici.command import Command, InputError, Problems, check_file, check_folder
from nnunet_ici.output import complete_or_absent, replace_files, write_file
from tests.atlas_tree import Tree
from tests.evaluate_command import save_probabilities, write


def test_version_help_and_no_command(capsys):
    for word in ("--version", "-V"):
        assert main([word]) == 0
        assert capsys.readouterr().out == f"nnunet_ici {__version__}\n"
    for word in ("--help", "-h", "help"):
        assert main([word]) == 0
        assert "convert-atlas  convert ATLAS R2.0, R2.1 or R3.0 to nnU-Net raw data" in capsys.readouterr().out
    assert main([]) == 2 and "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, capsys):
    texts = []
    for words in (["help", command], [command, "--help"], [command, "-h"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2] and texts[0].startswith(f"usage: nnunet_ici {command} ")
    head = texts[0].split("\noptions:")[0]
    assert all(len(line) <= 80 for line in head.splitlines())  # the description is wrapped


def test_the_package_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "nnunet_ici", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"nnunet_ici {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS) and "--family" in script
    if shell == "bash":
        (tmp_path / "script").write_text(script)
        line = (
            f"source {tmp_path / 'script'}; COMP_WORDS=(nnunet_ici eval); COMP_CWORD=1; "
            "_shtab_nnunet_ici; echo ${COMPREPLY[@]}"
        )
        assert subprocess.run(["bash", "-c", line], capture_output=True, text=True).stdout.strip() == "evaluate"


def test_trainers_and_doctor_as_json(capsys):
    assert main(["trainers", "--json"]) == 0
    trainers = {trainer["name"]: trainer for trainer in json.loads(capsys.readouterr().out)}
    options = {option["attribute"]: option for option in trainers["nnUNetTrainerPQ"]["options"]}
    assert options["false_weight"]["default"] == 1 and options["false_weight"]["example"] == "f0p5"
    code = main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert code == int(any(finding["remedy"] for finding in findings))
    assert {"what": "nnunet_ici", "found": __version__, "remedy": None} in findings


def test_unknown_commands(capsys):
    commands = ", ".join(COMMANDS)
    for word, hint in (
        ("evalute", ". Did you mean evaluate?"),
        ("convert", ". Did you mean convert-atlas?"),
        ("x", ""),
    ):
        for words in ([word], ["help", word]):
            assert main(words) == 2
            expected = f"nnunet_ici: unknown command. Expected: {commands}. Got: {word}{hint}\n"
            assert capsys.readouterr().err == expected


def test_unknown_options(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "-gt", "a", "-o", "b", "--famly", "paper"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --famly paper. Did you mean --family?" in capsys.readouterr().err


def test_the_help_of_evaluate_loads_nothing_heavy():
    code = (
        "import sys; from nnunet_ici.cli import main\ntry: main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'SimpleITK', 'nibabel', 'matplotlib'}\n"
        "print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stdout.startswith("usage: nnunet_ici evaluate") and done.stderr.strip() == ""
    assert min(seconds) < 0.3


def test_problems_are_collected_and_raised_together():
    problems = Problems(check_file("-o", Path("/")))
    with problems.collecting():
        raise ValueError("a wrong value")
    with problems.collecting(KeyError):
        raise KeyError("a")
    with pytest.raises(TypeError), problems.collecting():
        raise TypeError("a fault of the program, not of the input")
    assert problems == ["-o is not usable. Expected: a file. Got: the folder /", "a wrong value", "'a'"]
    with pytest.raises(InputError, match=r"^3 problems, nothing was written:\n- -o is not usable"):
        problems.raise_any()
    Problems().raise_any()


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_output_as_it_was(tmp_path, error):
    out = tmp_path / "out"
    for writing in (complete_or_absent, replace_files):
        with pytest.raises(error), writing(out) as folder:
            (folder / "a.txt").write_text("new")
            raise error
        assert not out.exists() and not list(tmp_path.iterdir())
    out.mkdir()
    (out / "a.txt").write_text("old")
    with pytest.raises(error), replace_files(out) as folder:
        (folder / "a.txt").write_text("new")
        raise error
    assert content(tmp_path) == {"out/a.txt": "old"}


def test_files_replace_those_of_the_same_name(tmp_path):
    for name in ("a.txt", "b.txt", "made/a.txt"):
        write_file(tmp_path / "out" / name, "old")
    with replace_files(tmp_path / "out") as folder:
        write_file(folder / "a.txt", "new")
        write_file(folder / "made" / "c.txt", "new")
    assert content(tmp_path / "out") == {"a.txt": "new", "b.txt": "old", "made/c.txt": "new"}


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nobody can create a file, not even root."""
    if os.geteuid() == 0:
        return Path("/sys/kernel")
    (tmp_path / "read_only").mkdir(mode=0o500)
    return tmp_path / "read_only"


def test_a_folder_that_cannot_be_written_to_is_found_by_trying(read_only, tmp_path, monkeypatch):
    said = rf"^-o is not usable\. Expected: a folder to write to\. Got: {read_only}, \w"
    for problem in (check_file("-o", read_only / "a.json"), check_folder("-o", read_only / "new" / "folder")):
        assert len(problem) == 1 and re.match(said, problem[0])
    assert check_folder("-o", tmp_path / "new") == check_file("-o", tmp_path / "new" / "a") == []
    (said,) = check_folder("-o", tmp_path / "new", needed_bytes=10**15)
    assert said.startswith("-o is not usable. Expected: 1000000.00 GB of free space. Got: ")
    assert said.endswith(f" GB in {tmp_path}") and list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert check_file("-o", Path("a.json")) == check_folder("-o", Path("a")) == []


def test_at_most_five_lines(capsys):
    def fail(count, advice=""):
        def run(_):
            raise InputError([f"problem\n {number}" for number in range(count)], advice)

        assert Command("x", lambda parser: None, run)([]) == 1
        return capsys.readouterr().err.splitlines()

    assert fail(2) == ["2 problems, nothing was written:", "- problem 0", "- problem 1"]
    assert fail(4)[1:] == [f"- problem {number}" for number in range(4)]
    assert fail(5)[1:] == ["- problem 0", "- problem 1", "- problem 2", "- and 2 more"]
    assert fail(9, "advice")[2:] == ["- problem 1", "- and 7 more", "advice"]
    with pytest.raises(SystemExit):
        main(["evaluate", "--famly"])
    assert len(capsys.readouterr().err.splitlines()) <= 5


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, capsys):
    def run(_):
        for writing in (complete_or_absent, replace_files):
            with writing(tmp_path / "new" / "out") as folder:
                (folder / "a.txt").write_text("half")
                raise OSError(errno.ENOSPC, "No space left on device", "a.txt")

    assert Command("x", lambda parser: None, run)([]) == 1
    expected = "stopped: a.txt: No space left on device; no incomplete file was left behind\n"
    assert capsys.readouterr().err == expected and list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        write_file(tmp_path / "new" / "b.txt", 3)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The arguments of each command that writes, without the target, on small data; and the name of its target."""
    label = np.zeros((20, 24, 24), np.uint8)
    label[3:6, 3:6, 3:6] = label[12, 12, 12] = 1
    for case in "ab":
        for folder in ("gt", "A"):
            write(tmp_path / folder / f"{case}.nii.gz", label)
        save_probabilities(tmp_path / "A" / f"{case}.npz", 0.9 * label)
    tree = Tree(tmp_path)
    tree.add("r001s001")
    (tmp_path / "raw").mkdir()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    setting = {"threshold": 0.5, "minimum_volume_mm3": 3, "peak_probability": None}
    rule = {"format": 1, "classes": {"foreground": []}, "regions_class_order": None, "file_ending": ".nii.gz"}
    (tmp_path / "rule.json").write_text(json.dumps(rule | {"rule": {"foreground": setting}}))
    gt, pred, evaluation = tmp_path / "gt", tmp_path / "A", tmp_path / "evaluation"
    assert main(["evaluate", "-gt", str(gt), "-pred", str(pred), "-o", str(evaluation), "-np", "1"]) == 0
    return {
        "evaluate": (["-gt", gt, "-pred", pred, "-np", 1, "-o"], "out"),
        "tune": (["-gt", gt, "-prob", pred, "--k", 2, "-np", 1, "--thresholds", 0.5, "-o"], "rule2.json"),
        "report": ([evaluation, "-np", 1, "-o"], "page.html"),
        "explain": ([gt / "a.nii.gz", pred / "a.nii.gz", "-o"], "a.png"),
        "postprocess": ([tmp_path / "rule.json", "-i", pred, "-np", 1, "-o"], "out"),
        "convert-atlas": ([tree.root, "-np", 1], None),
        "synth-atlas": (["-n", 1, "--test", 0, "--spacing", 8, "-np", 1], "out"),
    }


def test_every_command_refuses_a_read_only_folder_before_it_computes(commands, read_only, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(read_only))
    capsys.readouterr()
    for name, (arguments, target) in commands.items():
        target = [] if target is None else [read_only / "new" / target]
        assert main([name, *map(str, [*arguments, *target])]) == 1
        head, line = capsys.readouterr().err.splitlines()
        assert head == "1 problem, nothing was written:" and str(read_only) in line and " writ" in line, line


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_every_command_with_one_line(commands, tmp_path):
    """The limit of the file size has the effect of a full disk."""
    before = {str(path) for path in tmp_path.rglob("*")}
    for name, (arguments, target) in commands.items():
        code = (
            "import resource, signal, sys; from nnunet_ici import command; from nnunet_ici.cli import main\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); command.TRIAL_BYTES = 0\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY)); sys.exit(main(sys.argv[1:]))"
        )
        target = [] if target is None else [tmp_path / "new" / target]
        command = [sys.executable, "-c", code, name, *map(str, [*arguments, *target])]
        done = subprocess.run(command, capture_output=True, text=True)
        *bars, last = [line for line in done.stderr.splitlines() if line.strip()]
        said = r"stopped:.* (File too large|not written completely; .*); no incomplete file was left behind"
        assert done.returncode == 1 and re.fullmatch(said, last), done.stderr
        assert all("| " in line for line in bars), done.stderr
        assert {str(path) for path in tmp_path.rglob("*")} == before, name
