"""Any .pth file, whoever wrote it, read without running code from it."""

from pathlib import Path

import torch

from utils.errors import UserError


def read_checkpoint(path: str | Path) -> dict:
    """Load any .pth file on the CPU without running code from it.

    Raises UserError where the file is missing, cut short, or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: check the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different type for each kind of broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no readable checkpoint ({reason[:120]}): fetch or train it again") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a dict of weights: give a checkpoint file")
    return state
