"""Errors a user can act on, and the one way every script reports them."""

import io
import os
import re
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType

#: What the shell knows a program by that Ctrl-C has ended.
STOPPED = 130

#: What NumPy, PyTorch on any device (cuBLAS and cuDNN with it), OpenCV and ONNX Runtime say where memory is short.
OUT_OF_MEMORY = re.compile(
    "out of memory|insufficient memory|allocate memory|bad_alloc|bad allocation|STATUS_ALLOC_FAILED", re.IGNORECASE
)


class UserError(Exception):
    """A mistake in the input, told in one line: what is wrong, where, and what to do. More arguments are more lines."""


def stop_quietly() -> None:
    """Let Ctrl-C end a script in one line while it imports what takes seconds; a missing package ends it in one, too.

    Raised in the middle of an import, KeyboardInterrupt is a page of traceback, or a library takes it for its own:
    run_script takes over from this.
    """
    sys.excepthook = _tell_missing_package
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def _stop(*_) -> None:
    os.write(2, b"stopped\n")  # the streams of Python may be in use just now
    os._exit(STOPPED)


def _tell_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For sys.excepthook: where a package is not installed, one line and exit code 2; else as Python does."""
    package = error.name.split(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
    if not package or find_spec(package) is not None:  # part of a package, of this repository or another
        sys.__excepthook__(kind, error, trace)
        return
    tell(f"error: the package {package} is not installed: pip install -r requirements.txt")
    os._exit(2)


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main and end the process with its exit code, see `exit_code`."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no text can be printed, as on stderr
    sys.exit(exit_code(main))


def exit_code(main: Callable[[], int | None]) -> int | None:
    """Run main; its own exit code, or 2 and one line on stderr where it fails for a reason outside of this code.

    That is a UserError, an OSError (a full disk, a closed pipe) or a lack of memory. After Ctrl-C the code is STOPPED.
    """
    try:
        code = main()
        sys.stdout.flush()
        return code
    except UserError as error:
        for line in f"error: {error.args[0]}", *error.args[1:]:
            tell(line)
    except KeyboardInterrupt as error:
        tell(str(error) or "stopped")
        return STOPPED
    except OSError as error:
        tell(f"error: {reason(error)}{f': {os.fsdecode(error.filename)}' if error.filename else ''}")
        _give_up_output()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        tell(f"error: out of memory ({reason(error)}): take fewer or smaller pictures at once, or free some")
    return 2


def tell(line: str) -> None:
    """Print one line on stderr that stands by itself: a progress bar that was interrupted is ended first."""
    if sys.modules.get("tqdm"):
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):  # else it ends when Python forgets it, after this line
            bar.close()
    # What is in the names of files and in what libraries say is neither to steer the terminal nor to begin a line.
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
    print(line, file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Why something failed, in a few words on one line."""
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return "".join(sign if sign.isprintable() else "?" for sign in text.splitlines()[0][:160])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it was memory that failed, in main memory or on a device."""
    return isinstance(error, MemoryError) or bool(OUT_OF_MEMORY.search(str(error)))


def _give_up_output() -> None:
    """Where nobody takes what is printed any more, keep Python from trying, and failing, once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
