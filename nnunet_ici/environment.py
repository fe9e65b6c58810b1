"""nnU-Net's folders, from its environment variables."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FOLDERS", "find_folder", "missing_folder"]

# Content of each folder.
FOLDERS = {
    "nnUNet_raw": "datasets in nnU-Net's raw format",
    "nnUNet_preprocessed": "preprocessed data",
    "nnUNet_results": "trained models",
}


def missing_folder(variable: str) -> tuple[str, str] | None:
    """Reason why the folder of a variable cannot be used, and a shell command that helps; None if it can be used."""
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
    """The folder named by a variable.

    Raises:
        ValueError: if the variable is not set, or the folder does not exist or is not writable. The message includes a
            shell command that helps.
    """
    problem = missing_folder(variable)
    if problem is not None:
        raise ValueError(f"{variable}: {problem[0]}. Expected: a folder. Try: {problem[1]}")
    return Path(os.environ[variable])
