"""nnU-Net's folders, as its environment variables name them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FOLDERS", "find_folder", "missing_folder"]

# What each is for.
FOLDERS = {
    "nnUNet_raw": "data sets as nnU-Net reads them",
    "nnUNet_preprocessed": "preprocessed data",
    "nnUNet_results": "trained models",
}


def missing_folder(variable: str) -> tuple[str, str] | None:
    """Why the folder of a variable cannot be used, and a line for the shell that helps; None where it can."""
    path = os.environ.get(variable)
    if not path:
        new = f"$HOME/nnunet/{variable}"
        return "not set", f'export {variable}="{new}"; mkdir -p "{new}"   # {FOLDERS[variable]}'
    if not os.path.isdir(path):
        return f"{path} does not exist", f'mkdir -p "{path}"'
    if not os.access(path, os.W_OK):
        return f"{path} is not writable", f'chmod u+w "{path}"   # or choose another folder'
    return None


def find_folder(variable: str) -> Path:
    """The folder of a variable.

    Raises:
        ValueError: if it is not set, does not exist or is not writable; with what helps.
    """
    problem = missing_folder(variable)
    if problem is not None:
        raise ValueError(f"{variable}: {problem[0]}. Expected: a folder. Try: {problem[1]}")
    return Path(os.environ[variable])
