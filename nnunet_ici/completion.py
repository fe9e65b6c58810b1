"""``nnunet_ici completion``: a script that completes commands and arguments in a shell."""

from __future__ import annotations

import argparse
import importlib

from nnunet_ici.command import Command

__all__ = ["main"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="shell for which to print the script")


def _run(args: argparse.Namespace) -> None:
    import shtab

    from nnunet_ici.cli import COMMANDS

    whole = argparse.ArgumentParser("nnunet_ici")
    commands = whole.add_subparsers()
    for name, (module, summary) in COMMANDS.items():
        importlib.import_module(module).main.fill(commands.add_parser(name, help=summary))
    print(shtab.complete(whole, args.shell))


main = Command(
    "Print a script that completes commands and arguments in a shell.",
    _arguments,
    _run,
    epilog="""examples:
  nnunet_ici completion bash > ~/.local/share/bash-completion/completions/nnunet_ici
  nnunet_ici completion zsh > ~/.zfunc/_nnunet_ici     # a folder in $fpath""",
)
