"""What all commands share: help, version, unknown words, and output that is complete or absent."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_ici import __version__
from nnunet_ici.cli import COMMANDS, main
from nnunet_ici.command import InputError, Problems, check_file
from nnunet_ici.output import complete_or_absent, replace_files, write_file


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
