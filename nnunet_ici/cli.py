"""``nnunet_ici <command>``: pass the arguments to the module of the command, and import only that module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nnunet_ici import __version__
from nnunet_ici.command import suggestion

__all__ = ["main"]

# command: (module with main(argv, prog) -> exit code, summary)
COMMANDS = {
    "doctor": ("nnunet_ici.doctor", "check the installation and report what is missing"),
    "completion": ("nnunet_ici.completion", "print a script that completes commands in bash or zsh"),
    "ext-path": ("nnunet_ici.ext_path", "print the folder to add to nnUNet_extTrainer"),
    "trainers": ("nnunet_ici.trainers.listing", "list the trainers and their options, or explain and check names"),
    "convert-atlas": ("nnunet_ici.datasets.convert_atlas", "convert ATLAS R2.0, R2.1 or R3.0 to nnU-Net raw data"),
    "synth-atlas": ("nnunet_ici.datasets.synth_atlas", "make a synthetic dataset in the layout of ATLAS R2.0 or R3.0"),
    "compare": ("nnunet_ici.compare.compare", "from trained models to a verdict: which of them to use"),
    "evaluate": ("nnunet_ici.evaluation.evaluate", "count found, missed and false lesions in predictions"),
    "report": (
        "nnunet_ici.report.report",
        "make an HTML page from an evaluation: tables, lesions, cases, training curves",
    ),
    "explain": ("nnunet_ici.explain.explain", "visualize the loss terms for a label and a prediction"),
    "tune": (
        "nnunet_ici.postprocessing.tune",
        "choose threshold and minimum lesion volume on cross-validation probabilities",
    ),
    "postprocess": ("nnunet_ici.postprocessing.postprocess", "apply the rule from tune to a folder of predictions"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    head = "usage: nnunet_ici [--version] <command> [arguments]\n       nnunet_ici help [<command>]\n\ncommands:"
    return "\n".join([head, *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments after the program name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 2 for an unknown command, 130 after Ctrl-C, otherwise the exit code of the command.

    Raises:
        SystemExit: from the argument parser of the command, with code 2 for invalid arguments and 0 after the help.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv in (["-h"], ["--help"], ["help"]):
        print(_usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"nnunet_ici {__version__}")
        return 0
    if argv[0] == "help":
        argv = [argv[1], "--help"]
    name, *arguments = argv
    if name not in COMMANDS:
        hint = suggestion(name, list(COMMANDS))
        print(f"nnunet_ici: unknown command. Expected: {', '.join(COMMANDS)}. Got: {name}{hint}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0])
        return int(module.main(arguments, prog=f"nnunet_ici {name}"))
    except KeyboardInterrupt:
        print("\ninterrupted: no incomplete file was left behind", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
