"""``nnunet_ici <command>``: hands the arguments to the command's own module, and loads only that one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nnunet_ici import __version__
from nnunet_ici.command import suggestion

__all__ = ["main"]

# command: (module with main(argv, prog) -> exit code, what it does)
COMMANDS = {
    "doctor": ("nnunet_ici.doctor", "check the installation, and say what is missing"),
    "ext-path": ("nnunet_ici.ext_path", "print the folder for nnUNet_extTrainer"),
    "trainers": ("nnunet_ici.trainers.listing", "list the trainers and their options, or check a name"),
    "convert-atlas": ("nnunet_ici.datasets.convert_atlas", "ATLAS R2.0, R2.1 or R3.0 to nnU-Net raw data"),
    "synth-atlas": ("nnunet_ici.datasets.synth_atlas", "make a synthetic data set in the layout of ATLAS R2.0 or R3.0"),
    "evaluate": ("nnunet_ici.evaluation.evaluate", "count found, missed and false lesions of predictions"),
    "report": (
        "nnunet_ici.report.report",
        "one HTML page from an evaluation: tables, lesions, cases, training curves",
    ),
    "explain": ("nnunet_ici.explain.explain", "draw what the loss sees in a label and a prediction"),
    "tune": (
        "nnunet_ici.postprocessing.tune",
        "choose threshold and smallest lesion on cross-validation probabilities",
    ),
    "postprocess": ("nnunet_ici.postprocessing.postprocess", "apply what tune chose to a folder of predictions"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    head = "usage: nnunet_ici [--version] <command> [arguments]\n       nnunet_ici help [<command>]\n\ncommands:"
    return "\n".join([head, *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0 for success, 2 for an unknown command or bad arguments, 130 after Ctrl-C, else what the
        command returns.
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
        print("\ninterrupted: no file was left half written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
