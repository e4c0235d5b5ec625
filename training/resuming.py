"""Going on with a run: its flags, its folder and its state, all from one of its checkpoints."""

from argparse import Namespace
from pathlib import Path

from training.checkpoint import epochs_of, load_training_state, read_training_state
from training.flags import flag_parser
from training.log import TrainingLog, best_row
from training.run_folder import LOG, checkpoint_path, due_checkpoints, write_copy, write_missing
from training.step import TrainingStep
from utils import distributed
from utils.commands import flags
from utils.errors import UserError
from utils.pth_files import shown

#: Flags of where a run begins: it goes on from its checkpoint, whatever these say.
STARTS = ("resume_net", "init_weights", "init_backbone")


def earlier_flags(source: Path) -> list[str]:
    """The flags of the run that wrote a checkpoint, as words of a command line; its folder is where the file lies.

    UserError where the file holds no training state, or flags that no run can have.
    """
    def refuse(message: str) -> None:
        raise UserError(f"{source} holds flags that no run can have: {shown(message)}")

    parser = flag_parser()
    known = vars(parser.parse_args([]))
    saved = {name: value for name, value in read_training_state(source)["options"].items() if name in known}
    words = flags(saved | {"save_folder": source.parent})
    parser.error = refuse
    parser.parse_args(words)
    return words


def flags_given_again(earlier: list[str], options: Namespace) -> list[str]:
    """Flags of the command line that differ from those of the earlier run: "--epochs 20 (was 10)"."""
    before = vars(flag_parser().parse_args(earlier))
    changed = {name: value for name, value in vars(options).items() if name not in STARTS and value != before[name]}
    return [f"{' '.join(flags({name: value}) or [f'--no-{name}'])} (was {shown(before[name])})"
            for name, value in changed.items()]


def resume(step: TrainingStep, options: Namespace) -> tuple[int, float]:
    """Put the run back to its checkpoint; returns the epochs done and the best AP.

    A run that was killed just after an epoch gets the checkpoints of that epoch that it lacks; UserError where the
    last epoch was done and nothing is missing.
    """
    source = options.resume_net
    epochs_done, best_ap = load_training_state(source, step)
    if distributed.is_main():
        if (source.parent / LOG).is_file():  # else a run that goes on in another folder would lose its log
            write_missing(source.parent / LOG, [options.save_folder / LOG])
        log = TrainingLog(options.save_folder / LOG, epochs_done)
        if log.note:
            distributed.say(log.note)
        names = [*due_checkpoints(epochs_done - 1, options), "last"]
        written = write_missing(source, [checkpoint_path(options, name) for name in names])
        for path in written:
            distributed.say(f"note: {path} was missing, it is written from {source}")
        written += restore_best(source, log.rows, options)
        if epochs_done >= options.epochs and not written:
            raise UserError(f"{source} has done {epochs_done} epochs: raise --epochs to go on")
    return epochs_done, best_ap


def restore_best(source: Path, rows: list[dict], options: Namespace) -> list[Path]:
    """See that the best checkpoint is that of the best epoch so far, by the rows of the log; returns what is written.

    It lies there; or it is the one that the run goes on from, or lies beside it. Where none of these is of that epoch,
    what lies there stays until an epoch is better.
    """
    best, own = best_row(rows), checkpoint_path(options, "best")
    if best is None or epochs_of(own) == best["epoch"]:
        return []
    for path in (source, source.parent / own.name):
        if epochs_of(path) == best["epoch"]:
            distributed.say(f"note: {own} was missing or of another epoch, it is written from {path}")
            write_copy(path, own)
            return [own]
    return []
