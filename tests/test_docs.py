"""The documentation is correct: commands parse, names exist, links resolve, tables and examples match the code."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nnunet_ici import __version__
from nnunet_ici.cli import COMMANDS
from nnunet_ici.evaluation.families import FAMILIES, METRICS
from nnunet_ici.settings import LOSSES
from nnunet_ici.trainers.names import parse
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(DOCS.glob("*.md"))
PAGES += sorted((ROOT / "scripts").glob("*/*.md"))
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
# Names of trainers that are not ours: nnU-Net's own, an example of a subclass, and one that only the study has.
OTHER_TRAINERS = {"nnUNetTrainer", "nnUNetTrainerMine", "nnUNetTrainerPublishedICI"}
# Commands of the shell, and of others, that are not parsed here.
SHELL = {"cd", "do", "done", "export", "for", "git", "mkdir"}

every_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    """The words of each command of a block of bash."""
    lines = block.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in _split(shlex.split(line, comments=True))]
    nested = [shlex.split(word) for part in parts if part[0] == "sbatch" for word in part if " " in word]
    return [part for part in parts if part[0] != "sbatch"] + nested


def _split(words: list[str]) -> list[list[str]]:
    """Commands joined by && or ; on one line, without assignments."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        elif word.endswith(";"):
            parts[-1].append(word[:-1])
            parts.append([])
        elif parts[-1] or not re.match(r"\w+=", word):
            parts[-1].append(word)
    return [part for part in parts if part]


class ParsedError(Exception):
    """Raised once a command has parsed its arguments, with the parser."""


@pytest.fixture
def dry(monkeypatch):
    """Runs a command's entry point up to the end of its argument parser, which it returns."""
    original = argparse.ArgumentParser.parse_known_args

    def parse_known_args(self, args=None, namespace=None):
        _, unknown = original(self, args, namespace)
        raise AssertionError(f"unknown arguments {unknown}") if unknown else ParsedError(self)

    def run(main, argv):
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        with pytest.raises(ParsedError) as parsed:
            main()
        monkeypatch.undo()
        return parsed.value.args[0]

    return run


def entry_point(name: str):
    (found,) = metadata.entry_points(group="console_scripts", name=name)
    return found.load()


def run_dry(dry, words: list[str], extras: set[str]) -> argparse.ArgumentParser | None:
    """Check one command; the parser of its arguments, if it has one."""
    program, *arguments = words
    arguments = [re.sub(r"\$\w+|fold_\*", "0", word) for word in arguments]
    if program in ("nnunet_ici",) or program.startswith("nnUNetv2_"):
        if arguments and arguments[0] in ("doctor", "ext-path", "help", "--version"):
            return None
        return dry(entry_point(program), [program, *arguments])
    if program == "pip":
        assert arguments[0] == "install"
        wanted = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert set(",".join(wanted).split(",")) - {""} <= extras
        return None
    if program in ("python", ".venv/bin/python") and arguments[0] == "-m":
        if arguments[1] in ("pytest", "hatchling"):
            return None
        module = importlib.import_module(arguments[1])
        main = module.main if hasattr(module, "main") else importlib.import_module(f"{arguments[1]}.__main__").main
        return dry(main, [arguments[1], *arguments[2:]])
    script = arguments[0] if program in ("python", "bash", ".venv/bin/python") else program
    if program not in SHELL:
        assert "/" in script and (ROOT / script).exists(), f"unknown command {words}"
    return None


@every_page
def test_commands_parse(page, dry):
    extras = set(re.findall(r"^(\w+) = \[$", PROJECT, re.MULTILINE))
    for block in blocks(page, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for words in commands(block):
            run_dry(dry, words, extras)


def test_a_command_with_a_wrong_option_is_caught(dry):
    for line in (
        "nnunet_ici evaluate -gt a -pred A=b -o c --famly isles",
        "nnUNetv2_train 1 2d 0 -trainer x",
        "nothing x",
    ):
        with pytest.raises((AssertionError, SystemExit)):
            run_dry(dry, shlex.split(line), set())


@every_page
def test_trainers_exist(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"\bnnUNetTrainer(?:\w*\w)?(?![\w<*{.])", text))
    for name in {name.split("__")[0] for name in names} - OTHER_TRAINERS:  # a folder is TRAINER__PLANS__...
        if not re.fullmatch(r"nnUNetTrainer_\d+epochs?", name):
            parse(name)


def formulas(page: Path) -> tuple[list[str], list[str]]:
    """The formulas of a page: those in the text, and those in blocks.

    Raises:
        AssertionError: a fence or a dollar without its partner, or ``$$``, in which GitHub loses a double backslash.
    """
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```.*$", text, re.MULTILINE)
    assert all(fence == "```" for fence in fences[1::2]) and len(fences) % 2 == 0, fences
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = []
    for paragraph in re.split(r"\n\n+|\n(?=[|-])", re.sub(r"`[^`\n]*`", "", prose)):
        assert "$$" not in paragraph and paragraph.count("$") % 2 == 0, paragraph
        inline += paragraph.split("$")[1::2]
        for cell in paragraph.split("|") if paragraph.startswith("|") else []:
            assert cell.count("$") % 2 == 0, f"a bare | in the formula of a table: {paragraph}"
    return inline, blocks(page, "math")


def check_formulas(page: Path) -> None:
    """Raise AssertionError for what GitHub would not render."""
    inline, fenced = formulas(page)
    for formula in inline + fenced:
        assert formula.count("{") == formula.count("}"), formula
        assert formula.count(r"\left") == formula.count(r"\right"), formula
        assert r"\operatorname*" not in formula, formula
    for formula in inline:  # Markdown reads a backslash before punctuation first
        assert formula == formula.strip() and not re.search(r"\\[^a-zA-Z]", formula), formula


@every_page
def test_formulas_render_on_github(page):
    check_formulas(page)


@pytest.mark.parametrize(
    "text",
    ["$x", "| $|G|$ |", "```math\nx\n", "$$x$$", "$ x$", r"$\frac{1}{2$", r"$a\,b$", "```math\n\\left[ x\n```\n"],
)
def test_a_formula_that_does_not_render_is_caught(text, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError):
        check_formulas(page)


@every_page
def test_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


@every_page
def test_files_and_modules_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:docs|scripts|nnunet_ici|tests|dataset_conversion|\.ci)/[\w./-]*)[`: ]", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(nnunet_ici(?:\.\w+)+)`", text):
        module, _, attribute = name.rpartition(".")
        assert importlib.util.find_spec(name) or hasattr(importlib.import_module(module), attribute), name


@every_page
def test_options_named_exist(page, dry):
    named = set(re.findall(r"`(--[a-z][\w-]*)", page.read_text(encoding="utf-8")))
    if not named:
        return
    known = set()
    for program, required in (
        ("nnUNetv2_train", ["1", "2d", "0"]),
        ("nnUNetv2_predict", ["-i", "a", "-o", "b", "-d", "1", "-c", "2d"]),
        ("nnUNetv2_ensemble", ["-i", "a", "-o", "b"]),
    ):
        known |= set(dry(entry_point(program), [program, *required])._option_string_actions)
    for module, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        importlib.import_module(module).main.arguments(parser)
        known |= set(parser._option_string_actions)
    for program in ("scripts.benchmarks.losses", "scripts.benchmarks.components"):
        known |= set(dry(importlib.import_module(program).main, [program])._option_string_actions)
    assert named <= known, named - known


@pytest.mark.parametrize("page", [DOCS / "losses.md", DOCS / "trainers.md", ROOT / "README.md"], ids=lambda p: p.name)
def test_every_trainer_is_in_the_table(page):
    rows = re.findall(r"^\| (`(?:nnUNetTrainer|\.\.\.).*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    names = [name.replace("...", "nnUNetTrainer") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert set(names) == set(LOSSES)


def test_every_family_is_on_the_page():
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(METRICS)
    assert {family for _, families in rows for family in re.findall(r"\w+", families)} == set(FAMILIES)


def test_tables_are_fresh(monkeypatch):
    """Tables match the code exactly, except for shares of gradients, which may differ by rounding."""
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    tables = importlib.import_module("tables")
    assert set(tables.benchmarks.TIMED) == set(LOSSES) - {"nnUNetTrainerCounted"}  # nnU-Net's own loss
    found = set()
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for old, new in zip(tables.MARKED.finditer(text), tables.MARKED.finditer(tables.filled(text)), strict=True):
            found.add(old[2])
            numbers = [re.findall(r"([\d.]+)%", one[0]) for one in (old, new)]
            assert [float(n) for n in numbers[0]] == pytest.approx([float(n) for n in numbers[1]], abs=0.15), old[2]
            shown = [re.sub(r"[\d.]+%", "%", one[0]) for one in (old, new)]
            assert shown[0] == shown[1], f"{page.name}: python docs/figures/tables.py"
    assert found == set(tables.TABLES)


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 120


def test_the_readme_names_the_address_and_versions_agree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    address = re.search(r'^Repository = "(.+)"$', PROJECT, re.MULTILINE)[1]
    assert f"git clone {address} " in readme
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[?([\d.]+)", changes, re.MULTILINE)[1] == __version__
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@every_page
def test_python_examples_run(page, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"trainer_name": "nnUNetTrainerICI"}, "checkpoint_final.pth")
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {"__name__": "example"})
