#!/usr/bin/env bash
# What only a GPU shows, in at most 8 minutes, on a machine that has what requirements.txt names:
#
#     bash benchmarks/gpu_check.sh [TEACHER.pth] [TRAINING_LABELS]
#     GPU=1 LIMIT=900 bash benchmarks/gpu_check.sh                  # another GPU, other seconds in all
#
# The training step at batch 64, plain and as CUDA graphs; the tests that need a GPU; the step compiled too; 40 short
# epochs of the compiled step from the shipped weights, with AP before and after; the step at batch 32 and without a
# teacher. What matters most comes first. Each part has a limit of its own and may fail: the others run all the same.
# Without arguments the teacher is weights/FeatherNetB_se.pth and pictures are drawn. All goes to a new folder,
# results/gpu/DATE-TIME/: tables, what each part said (NAME.txt), how it ended and how long it took (summary.txt).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -z "${GPU:-}" ] || export CUDA_VISIBLE_DEVICES=$GPU  # for the tests too; it is GPU 0 of all processes then
limit=${LIMIT:-480}
teacher=${1:-weights/FeatherNetB_se.pth}
labels=${2:-}
folder=results/gpu/$(date +%Y%m%d-%H%M%S)
drawn=$folder/drawn
mkdir -p "$folder" || exit 2
failed=0

part() {  # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS code=0
    shift 2
    [ $((limit - start)) -ge "$seconds" ] || seconds=$((limit - start))
    if [ "$seconds" -lt 10 ]; then
        code="left out, the time was over"
    else
        timeout --kill-after=5 "$seconds" "$@" < /dev/null 2>&1 | tee "$folder/$name.txt"
        code=${PIPESTATUS[0]}
    fi
    [ "$code" = 124 ] && code="stopped at its limit"
    [ "$code" = 0 ] && code=done || failed=1
    echo "$name: $code, $((SECONDS - start)) s" | tee -a "$folder/summary.txt"
}

step() {  # NAME SECONDS BATCH TEACHER [FLAGS]
    part "$1" "$2" python benchmark.py --train --gpu 0 --batch_size "$3" --teacher_model "$4" "${@:5}" \
        --training_dataset "$labels" --workers 8 --batches 4 --rounds 5 --caches device --output_folder "$folder/$1"
}

ap() {  # NAME WEIGHTS
    part "$1" 60 python test_widerface.py --gpu 0 --dataset_folder "$drawn/val" --trained_model "$2" \
        --save_folder "$folder/$1"
}

part machine 60 sh -c 'git log -1 --format=%H; python -c "import torch; print(torch.__version__)"; nvidia-smi'
part drawn 60 python -m data.demo --output "$drawn"
labels=${labels:-$drawn/train/label.txt}

step batch_64 100 64 "$teacher"
part tests 100 python -m pytest -q -k "(gpu or back_from_the_device) and not long_runs" tests/training \
    tests/data/test_mixing.py tests/data/test_loader.py
step batch_64_compiled 240 64 "$teacher" --compile
part training 120 python train_v2.py --gpu 0 --training_dataset "$drawn/train/label.txt" --cache device \
    --teacher_model "$teacher" --init_weights weights/FeatherFaceV2.pth --epochs 40 --eval_every 0 --batch_size 64 \
    --compile on --save_folder "$folder/training"
ap ap_before weights/FeatherFaceV2.pth
ap ap_after "$folder/training/FeatherFaceV2_final.pth"
step batch_64_no_teacher 80 64 none
step batch_32 80 32 "$teacher"

echo "all of it: $folder"
cat "$folder/summary.txt"
exit "$failed"
