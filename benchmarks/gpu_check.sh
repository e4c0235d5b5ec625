#!/usr/bin/env bash
# What only a GPU shows, in at most 8 minutes, on a machine that has what requirements.txt names:
#
#     bash benchmarks/gpu_check.sh [TEACHER.pth] [TRAINING_LABELS]
#     GPU=1 LIMIT=900 bash benchmarks/gpu_check.sh                  # another GPU, other seconds in all
#
# Parts in their order, what matters most first, and the seconds that each should take (an estimate from single steps
# and compilations on one H200 with 16 cores; never measured as a whole):
#
#     machine, drawn         15   commit and GPU; drawn pictures for all that follows
#     batch_64               70   training from files, memory and device; the step at batch 64, plain and as CUDA graphs,
#                                in float32, bfloat16 and float16
#     tests                  40   those that need a GPU
#     batch_64_compiled     178   the step compiled, plainly and as graphs
#     ap_before, training   105   30 short epochs of the compiled step from the shipped weights, AP before and after
#     batch_64_no_teacher    25   the step without a teacher
#     batch_32               30   the step at batch 32
#
# Each part has a limit of its own, may fail, and leaves the others their turn; a part for which less than 10 seconds
# are left is left out, and the summary says so. Without arguments the teacher is weights/FeatherNetB_se.pth and
# pictures are drawn. All goes to a new folder, results/gpu/DATE-TIME/: what each part said (NAME.txt), how it ended and
# how long it took (summary.txt), training.json in the folder of each step. Exit code 1 where a part was not done.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
[ -z "${GPU:-}" ] || export CUDA_VISIBLE_DEVICES=$GPU  # for the tests too; in all processes it is GPU 0 then
limit=${LIMIT:-480}
teacher=${1:-weights/FeatherNetB_se.pth}
labels=${2:-}
folder=results/gpu/$(date +%Y%m%d-%H%M%S)
drawn=$folder/drawn
mkdir -p "$folder" || exit 2
failed=0

part() {  # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 start=$SECONDS code
    local left=$((limit - start - 6))  # what does not stop when told to is killed 5 seconds later
    shift 2
    [ "$left" -ge "$seconds" ] || seconds=$left
    if [ "$seconds" -lt 10 ]; then
        code="left out, the time was over"
    else
        timeout --kill-after=5 "$seconds" "$@" < /dev/null 2>&1 | tee "$folder/$name.txt"
        code=${PIPESTATUS[0]}
    fi
    case $code in
        0) code="done" ;;
        124 | 137) code="stopped at its limit" failed=1 ;;
        [0-9]*) code="failed with exit code $code" failed=1 ;;
        *) failed=1 ;;
    esac
    echo "$name: $code, $((SECONDS - start)) s" | tee -a "$folder/summary.txt"
}

step() {  # NAME SECONDS BATCH TEACHER FLAGS...
    part "$1" "$2" python benchmark.py --train --gpu 0 --batch_size "$3" --teacher_model "$4" --rounds 5 "${@:5}" \
        --training_dataset "$labels" --output_folder "$folder/$1"
}

part machine 20 sh -c 'git log -1 --format=%H; nvidia-smi'
part drawn 40 python -m data.demo --train 340 --output "$drawn"
labels=${labels:-$drawn/train/label.txt}

step batch_64 120 64 "$teacher" --rounds 3 --workers 8 --batches 4 --caches device ram none
part tests 90 python -m pytest -q -k "(gpu or back_from_the_device) and not long_runs" tests/training \
    tests/data/test_mixing.py tests/data/test_loader.py
step batch_64_compiled 230 64 "$teacher" --step_alone --compile
part ap_before 30 python test_widerface.py --gpu 0 --dataset_folder "$drawn/val" --protocol vga \
    --trained_model weights/FeatherFaceV2.pth --save_folder "$folder/ap_before"
# As compiled above: without DropBlock, which is another network to the compiler.
part training 140 python train_v2.py --gpu 0 --training_dataset "$drawn/train/label.txt" --cache device \
    --teacher_model "$teacher" --init_weights weights/FeatherFaceV2.pth --epochs 30 --eval_every 30 \
    --batch_size 64 --dropblock_prob 0 --compile on --save_folder "$folder/training"
step batch_64_no_teacher 45 64 none --step_alone
step batch_32 45 32 "$teacher" --step_alone

echo "all of it: $folder"
cat "$folder/summary.txt"
exit "$failed"
