"""nnU-Net's folders, from its environment variables."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

__all__ = ["FOLDERS", "find_folder", "missing_folder"]

# Content of each folder.
FOLDERS = {
    "nnUNet_raw": "datasets in nnU-Net's raw format",
    "nnUNet_preprocessed": "preprocessed data",
    "nnUNet_results": "trained models",
}
# What a shell would have interpreted, and nnU-Net takes literally.
LITERALS = {
    r"['\"]": "quotation marks",
    r"^['\"]?~": "a ~ that the shell has not replaced",
    r"\$": "a variable that the shell has not replaced",
    r"\\ ": "a backslash before a space",
    r"^\s|\s$": "white space around it",
}


def missing_folder(variable: str) -> tuple[str, str] | None:
    """Reason why the folder of a variable cannot be used, and a shell command that helps; None if it can be used."""
    value = os.environ.get(variable, "")
    if not value.strip():
        new = f'"$HOME/nnunet/{variable}"'
        return "not set", f"export {variable}={new}; mkdir -p {new}   # {FOLDERS[variable]}"
    path, another = Path(value), f"# choose another folder: export {variable}=FOLDER"
    if not path.is_dir():
        literal = [what for pattern, what in LITERALS.items() if re.search(pattern, value)]
        if literal:
            meant = re.sub(r"\\(?= )", "", value.strip().strip("'\"").strip())
            quoted = shlex.quote(os.path.expanduser(os.path.expandvars(meant)))
            found = f"its value has {' and '.join(literal)}. Got: {value!r}"
            return found, f"export {variable}={quoted}; mkdir -p {quoted}"
        if path.exists():
            return f"{path} is a file", another
        existing = next(one for one in (*path.parents, Path()) if one.exists())
        if os.access(existing, os.W_OK):
            return f"{path} does not exist", f"mkdir -p {shlex.quote(value)}"
        return f"{path} does not exist, and {existing} is not writable", another
    if not os.access(path, os.W_OK):
        own = path.stat().st_uid == os.getuid() and not os.statvfs(path).f_flag & os.ST_RDONLY
        return f"{path} is not writable", f"chmod u+w {shlex.quote(value)}" if own else another
    return None


def find_folder(variable: str) -> Path:
    """The folder named by a variable.

    Raises:
        ValueError: if the variable is not set, or the folder does not exist or is not writable. The message includes a
            shell command that helps.
    """
    problem = missing_folder(variable)
    if problem is not None:
        raise ValueError(f"{variable}: {problem[0]}. Expected: a folder. Try: {problem[1]}")
    return Path(os.environ[variable])
