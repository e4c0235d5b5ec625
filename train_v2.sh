#!/usr/bin/env bash
# Distils FeatherFace V1 into V2 on ./data/widerface:   bash train_v2.sh [flags of train_v2.py]
# The same in small, on a drawn demo set:               bash train_v2.sh --demo
# A flag given on the command line overrides the one below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./environment.sh

if [ "${1:-}" = "--demo" ]; then
    exec python demo.py "${@:2}"
fi
for word in "$@"; do
    case $word in  # a run that goes on has its own recipe
        --resume_net* | --resume-net*) exec python train_v2.py "$@" ;;
    esac
done

exec python train_v2.py \
    --training_dataset ./data/widerface/train/label.txt \
    --teacher_model ./weights/FeatherNetB_se.pth \
    --save_folder ./weights/v2/ \
    --batch_size 32 \
    --lr 1e-3 \
    --epochs 400 \
    --warmup_epochs 5 \
    --weight_decay 0.05 \
    --temperature 4.0 \
    --alpha 0.7 \
    --feature_weight 0.1 \
    --mixup_alpha 0.2 \
    --cutmix_prob 0.5 \
    --dropblock_prob 0.1 \
    --dropblock_size 3 \
    --num_workers 4 \
    "$@"
