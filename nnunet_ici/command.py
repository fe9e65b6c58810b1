"""The common structure of all commands: arguments, one report of all problems with the input, and exit codes."""

from __future__ import annotations

import argparse
import difflib
import errno
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

__all__ = [
    "Command",
    "InputError",
    "Problems",
    "check_file",
    "check_folder",
    "missing_inputs",
    "plural",
    "positive",
    "suggestion",
]

LINES = 5  # printed at most about invalid input
TRIAL_BYTES = 1 << 20
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class InputError(Exception):
    """The input of a command cannot be used; nothing was written.

    Attributes:
        problems: all problems, one sentence each.
        advice: suggested solution, printed as the last line; may be empty.
    """

    def __init__(self, problems: Sequence[object], advice: str = "") -> None:
        super().__init__(
            "\n".join(
                [f"{plural(len(problems), 'problem')}, nothing was written:", *(f"- {problem}" for problem in problems)]
            )
        )
        self.problems = list(problems)
        self.advice = advice

    def report(self) -> str:
        """The message in at most 5 lines: the number of problems, the first of them, and the advice.

        Example:
            >>> print(InputError(range(9), "Try again.").report())
            9 problems, nothing was written:
            - 0
            - 1
            - and 7 more
            Try again.
        """
        room = LINES - 1 - bool(self.advice)
        lines = [f"- {' '.join(str(problem).split())}" for problem in self.problems]
        if len(lines) > room:
            lines[room - 1 :] = [f"- and {len(lines) - room + 1} more"]
        head = f"{plural(len(self.problems), 'problem')}, nothing was written:"
        return "\n".join([head, *lines, *([self.advice] if self.advice else [])])


class Problems(list[str]):
    """The problems found so far, one sentence each.

    Example:
        >>> problems = Problems(["-o is missing."])
        >>> with problems.collecting():
        ...     raise ValueError("-gt is missing.")
        >>> problems
        ['-o is missing.', '-gt is missing.']
        >>> problems.raise_any()
        Traceback (most recent call last):
        ...
        nnunet_ici.command.InputError: 2 problems, nothing was written:
        - -o is missing.
        - -gt is missing.
    """

    @contextmanager
    def collecting(self, *errors: type[Exception]) -> Iterator[None]:
        """Catch a ValueError, or one of ``errors``, in the block and add its message to the problems."""
        kinds: tuple[type[Exception], ...] = (ValueError, *errors)
        try:
            yield
        except kinds as error:
            self.append(str(error))

    def raise_any(self) -> None:
        """Raise an :class:`InputError` with all problems, if there are any."""
        if self:
            raise InputError(self)


@dataclass(frozen=True)
class Command:
    """A command, which runs when it is called.

    Attributes:
        description: text at the top of the help.
        arguments: function that adds the arguments to a parser.
        run: function that runs the command. It raises :class:`InputError` for invalid input, and returns an exit code,
            or None for 0.
        epilog: text at the end of the help; line breaks are kept.
    """

    description: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    epilog: str = ""

    def __call__(self, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Run the command.

        Args:
            argv: arguments; ``sys.argv[1:]`` by default.
            prog: name of the command in the help.

        Returns:
            The exit code of :attr:`run`; or 1 for invalid input, a full disk, or a missing permission, with at most 5
            lines on stderr.

        Raises:
            SystemExit: with code 2 for invalid arguments, and with code 0 after the help.
        """
        parser = self.fill(_Parser(prog=prog))
        args, unknown = parser.parse_known_args(argv)
        if unknown:
            options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", parser.format_usage())
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion(unknown[0], options)}")
        try:
            return self.run(args) or 0
        except InputError as error:
            print(error.report(), file=sys.stderr)
        except OSError as error:
            if error.errno not in OUTPUT_ERRORS:
                raise
            where = f" {error.filename}:" if error.filename else ""
            print(f"stopped:{where} {error.strerror}; no incomplete file was left behind", file=sys.stderr)
        return 1

    def fill(self, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        """Give a parser the help and the arguments of the command."""
        parser.description = textwrap.fill(self.description, shutil.get_terminal_size().columns - 2)
        parser.epilog = self.epilog
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self.arguments(parser)
        return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors do not repeat the usage, which is long."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nSee {self.prog} --help\n")


def suggestion(word: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown word: the most similar known word, or an empty string.

    Example:
        >>> suggestion("evalute", ["evaluate", "explain"]), suggestion("x", ["evaluate"])
        ('. Did you mean evaluate?', '')
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f". Did you mean {close[0]}?" if close else ""


def plural(number: int, noun: str) -> str:
    """A number with its noun, which takes an s unless the number is 1.

    Example:
        >>> plural(1, "case"), plural(2, "case")
        ('1 case', '2 cases')
    """
    return f"{number} {noun}" + "s" * (number != 1)


def positive(text: str) -> int:
    """Argument type for argparse: an integer above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"Expected: an integer above 0. Got: {text}")
    return number


def missing_inputs(files: Iterable[Path] = (), folders: Iterable[Path] = ()) -> list[str]:
    """One sentence for each input file or folder that does not exist."""
    problems = [f"{path} cannot be read. Expected: a file. Got: no such file" for path in files if not path.is_file()]
    return problems + [
        f"{path} cannot be read. Expected: a folder. Got: no such folder" for path in folders if not path.is_dir()
    ]


def check_file(option: str, path: Path) -> list[str]:
    """Reason why a file cannot be written, a list of at most one sentence. Missing parent folders are allowed."""
    if path.is_dir():
        return [f"{option} is not usable. Expected: a file. Got: the folder {path}"]
    folder = _existing(path.parent)
    if not folder.is_dir():
        return [f"{option} is not usable. Expected: a file in a folder. Got: {path}, where {folder} is a file"]
    return _check_writable(option, folder)


def check_folder(option: str, path: Path, needed_bytes: int = 0, new: bool = False) -> list[str]:
    """Reason why files cannot be written to a folder, a list of at most one sentence. The folder may be missing.

    Args:
        option: name of the folder in the message.
        path: the folder.
        needed_bytes: size of the files.
        new: whether the folder must be missing or empty.
    """
    if new and path.is_dir() and any(path.iterdir()):
        return [f"{option} is not usable. Expected: a new or empty folder. Got: files in {path}"]
    folder = _existing(path)
    if not folder.is_dir():
        return [f"{option} is not usable. Expected: a folder, or a new name. Got: the file {folder}"]
    return _check_writable(option, folder, needed_bytes)


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(one for one in (path, *path.parents, Path()) if one.exists())


def _check_writable(option: str, folder: Path, needed_bytes: int = 0) -> list[str]:
    try:
        # Try it, because permissions do not tell about read-only file systems, quotas and full disks.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TRIAL_BYTES))
    except OSError as error:
        return [f"{option} is not usable. Expected: a folder to write to. Got: {folder}, {error.strerror}"]
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        gigabytes = f"Expected: {needed_bytes / 1e9:.2f} GB of free space. Got: {free / 1e9:.2f} GB"
        return [f"{option} is not usable. {gigabytes} in {folder}"]
    return []
