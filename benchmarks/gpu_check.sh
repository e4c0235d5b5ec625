#!/usr/bin/env bash
# What only a GPU shows, in about 8 minutes, on a machine that has what requirements.txt names:
#
#     bash benchmarks/gpu_check.sh [TEACHER.pth] [TRAINING_LABELS]
#
# The tests that need a GPU; the training step at batch 32 and 64, plain, as CUDA graphs, compiled, both; then 30 seconds
# of training from the shipped weights, with AP before and after. Without arguments the teacher is
# weights/FeatherNetB_se.pth and pictures are drawn. Tables go to results/gpu/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
teacher=${1:-weights/FeatherNetB_se.pth}
labels=${2:-}
pictures=(--drawn)
[ -z "$labels" ] || pictures=(--training_dataset "$labels")

python -m pytest -q tests/training/test_graphs.py tests/training/test_step.py tests/data/test_mixing.py
for batch in 32 64; do
    python benchmark.py --train --gpu 0 --batch_size "$batch" "${pictures[@]}" --teacher_model "$teacher" \
        --workers 0 8 --batches 8 --rounds 5 --compile --output_folder "results/gpu/batch_$batch"
    python benchmark.py --train --gpu 0 --batch_size "$batch" "${pictures[@]}" --teacher_model none \
        --workers 8 --batches 8 --rounds 5 --caches device --output_folder "results/gpu/batch_${batch}_no_teacher"
done

python -m data.demo --output data/demo_set
rm -rf results/gpu/run
python train_v2.py --gpu 0 --training_dataset data/demo_set/train/label.txt --teacher_model "$teacher" --cache device \
    --init_weights weights/FeatherFaceV2.pth --epochs 40 --eval_every 0 --save_folder results/gpu/run
for weights in weights/FeatherFaceV2.pth results/gpu/run/FeatherFaceV2_final.pth; do
    python test_widerface.py --gpu 0 --dataset_folder data/demo_set/val --trained_model "$weights" \
        --save_folder "results/gpu/detections/$(basename "$weights" .pth)"
done
