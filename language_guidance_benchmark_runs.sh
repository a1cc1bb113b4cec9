#!/usr/bin/env bash
# The eight published runs (PLG) and their baselines without guidance, each for the seed it was published with.
#
#   bash requirements.sh bash language_guidance_benchmark_runs.sh --source_path DATA --log_online
#
# Everything behind the name goes to each run of main.py. A finished run is not repeated, an interrupted one starts anew.
# In the environment: ONLY=REGEX picks runs by group (ONLY=cub200), SCHEDULE=suggested takes the learning rate
# schedules that the authors found on validation runs instead of a constant rate, in groups that are named after them.
set -euo pipefail
cd "$(dirname "$0")"

s2sd=(--loss s2sd --loss_s2sd_source multisimilarity --loss_s2sd_target multisimilarity --loss_s2sd_T 1 --loss_s2sd_pool_aggr
      --loss_s2sd_target_dims 1024 1536 2048 --loss_s2sd_feat_distill --loss_s2sd_feat_distill_delay 0)

# Both runs of a setting: guided and baseline. Further arguments are the objective.
run() {
    local group=$1 dataset=$2 dim=$3 seed=$4 epochs=$5 batch=$6 weight=$7 tau=$8 gamma=$9 train_metrics=${10}
    shift 10
    if [[ ${SCHEDULE:-constant} == suggested ]]; then group+=_suggested; else tau=$epochs gamma=1; fi
    local common=(--dataset "$dataset" --embed_dim "$dim" --seed "$seed" --n_epochs "$epochs" --bs "$batch" --tau "$tau" --gamma "$gamma"
                  --arch resnet50_frozen_normalize --lr 1e-5 --decay 0.0004 --samples_per_class 2 --project LanguageGuidance --completed
                  --exif_orientation ignore "$@")
    [[ $train_metrics == yes ]] || common+=(--no_train_metrics)
    launch "${group}_plg" "${common[@]}" --language_distill_w "$weight" --language_pseudoclass
    launch "${group}_baseline" "${common[@]}"
}

launch() {
    [[ $1 =~ ${ONLY:-.} ]] || return 0
    ${PYTHON:-python} main.py --group "$1" "${@:2}" "${passed[@]}"
}

passed=("$@")
#   group                  dataset  dim seed epochs bs weight tau gamma train metrics, objective
run cub200-rn128_msim       cub200  128 2    200    90  7.5   28  0.25  no  --loss multisimilarity
run cub200-rn128_s2sd-msim  cub200  128 2    300    108 1.5   144 0.5   no  "${s2sd[@]}" --loss_s2sd_feat_w 125
run cub200-rn512_msim       cub200  512 0    150    90  10    34  0.25  no  --loss multisimilarity
run cub200-rn512_s2sd-msim  cub200  512 0    250    108 2     29  0.5   no  "${s2sd[@]}" --loss_s2sd_feat_w 60
run cars196-rn128_msim      cars196 128 1    250    108 6     102 0.25  yes --loss multisimilarity
run cars196-rn128_s2sd-msim cars196 128 0    250    108 2.5   110 0.25  no  "${s2sd[@]}" --loss_s2sd_feat_w 50
run cars196-rn512_msim      cars196 512 0    250    108 5.5   107 0.25  yes --loss multisimilarity
run cars196-rn512_s2sd-msim cars196 512 0    300    108 2     165 0.1   no  "${s2sd[@]}" --loss_s2sd_feat_w 40
