#!/usr/bin/env python3
"""The whole path in small, in minutes on two CPU cores: draw the demo set, train a teacher, distil, evaluate both.

    bash train_v2.sh --demo        # installs what is needed, then runs this
    python demo.py                 # the same where everything is installed

Each step is a command that is printed before it runs and works by itself. Everything goes to results/demo/, made
anew each time; the pictures go to data/demo_set/.
"""

from utils.errors import stop_quietly

if __name__ == "__main__":
    stop_quietly()

import shutil
import time
from pathlib import Path

from utils.arguments import ArgumentParser
from utils.commands import run
from utils.distributed import training_devices
from utils.errors import run_script

DATA = "data/demo_set"
RESULTS = Path("results/demo")

#: What both trainings share: small pictures, a high learning rate, and nothing that pays only in a long training.
TRAINING = [
    "--training_dataset", f"{DATA}/train/label.txt", "--image_size", "192", "--batch_size", "16", "--num_workers", "0",
    "--lr", "6e-3", "--warmup_epochs", "2", "--mixup_alpha", "0", "--cutmix_prob", "0", "--dropblock_prob", "0",
    "--eval_every", "10", "--eval_protocol", "original",
]
TEACHER = ["--model", "v1", "--teacher_model", "none", "--save_folder", f"{RESULTS}/v1", "--epochs", "15"]
STUDENT = ["--teacher_model", f"{RESULTS}/v1/FeatherFaceV1_final.pth", "--save_folder", f"{RESULTS}/v2",
           "--epochs", "38"]


def main() -> None:
    ArgumentParser(description=__doc__).parse_args()
    start = time.perf_counter()
    device = training_devices()
    shutil.rmtree(RESULTS, ignore_errors=True)
    run("-m", "data.demo", "--output", DATA)
    run("train_v2.py", *TRAINING, *TEACHER, "--gpu", device)
    run("train_v2.py", *TRAINING, *STUDENT, "--gpu", device)
    run("test_widerface.py", "--dataset_folder", f"{DATA}/val", "--save_folder", f"{RESULTS}/detections",
        "--save_image", "--num_workers", "0",
        "--trained_model", f"{RESULTS}/v1/FeatherFaceV1_final.pth", f"{RESULTS}/v2/FeatherFaceV2_final.pth")
    print(f"curves: {RESULTS}/v1/training_curves.png, {RESULTS}/v2/training_curves.png")
    print(f"the demo took {(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    run_script(main)
