#!/usr/bin/env bash
# The runs of the paper: the eight that were published (PLG) with their baselines, or its table of results, row by row.
#
#   bash requirements.sh bash language_guidance_benchmark_runs.sh --source_path DATA --log_online
#
# Everything behind the name goes to each run of main.py. A finished run is not repeated, an interrupted one goes on, a
# failure stops no other. At the end stands the comparison of all finished runs, with what the paper reports beside it.
#
# In the environment:
#   STUDY=published      the eight published runs and their baselines without guidance, each for its own seed (the default)
#   STUDY=table          multisimilarity, margin and S2SD, each without guidance, with class names (ELG) and with
#                        pseudolabels (PLG), on CUB200, CARS196 and SOP, 128 dimensions; over the seeds 0 to 4
#   SEEDS="0 1 2"        other seeds, of all rows
#   ONLY=REGEX           only rows whose group matches, as ONLY=cub200 or ONLY='msim_(elg|plg)$'
#   SCHEDULE=suggested   the learning rate schedules that the authors found on validation runs instead of a constant
#                        rate, where there is one, in groups that are named after them
#   GPUS="0 1"           a row on each of these GPUs at a time, by programs/sweep.py; otherwise one after the other
#   gpu=0 datapath=DATA  --gpu and --source_path, as in the paper's script
#   PYTHON=python3.12    the interpreter
#
# Paths that do not begin with / are taken from the folder of this script.
set -euo pipefail
cd "$(dirname "$0")"

die() { echo "language_guidance_benchmark_runs.sh: error: $*" >&2; exit 2; }

s2sd=(--loss s2sd --loss_s2sd_source multisimilarity --loss_s2sd_target multisimilarity --loss_s2sd_T 1 --loss_s2sd_pool_aggr
      --loss_s2sd_target_dims 1024 1536 2048 --loss_s2sd_feat_distill --loss_s2sd_feat_distill_delay 0)
margin=(--loss margin --batch_mining distance --loss_margin_beta 1.2)

# All kinds of a setting. Further arguments are the objective.
run() {
    local group=$1 dataset=$2 dim=$3 seed=$4 epochs=$5 batch=$6 weight=$7 tau=$8 gamma=$9 train_metrics=${10}
    shift 10
    if [[ $schedule == suggested && $tau != - ]]; then group+=_suggested; else tau=$epochs gamma=1; fi
    local common=(--dataset "$dataset" --embed_dim "$dim" --n_epochs "$epochs" --bs "$batch" --tau "$tau" --gamma "$gamma"
                  --arch resnet50_frozen_normalize --lr 1e-5 --decay 0.0004 --samples_per_class 2 --project LanguageGuidance
                  --exif_orientation ignore "$@")
    [[ $train_metrics == yes ]] || common+=(--no_train_metrics)
    local kind
    for kind in "${kinds[@]}"; do
        local guidance=()
        [[ $kind == baseline ]] || guidance+=(--language_distill_w "$weight")
        [[ $kind != plg ]] || guidance+=(--language_pseudoclass)
        row "${group}_$kind" "$seed" "${common[@]}" ${guidance[@]+"${guidance[@]}"}
    done
}

# A group with its flags, for each of its seeds.
row() {
    groups+=("$1")
    [[ $1 =~ ${ONLY:-.} ]] || return 0
    chosen=yes
    local seed seeds=${SEEDS:-$2}
    if [[ -n ${GPUS:-} ]]; then
        local own=() flags
        [[ -n ${SEEDS:-} ]] || own=(--seed "$2")
        flags=$(printf '%q ' "${@:3}" ${own[@]+"${own[@]}"})
        variants+="  '$1': '${flags//\'/\'\'}'"$'\n'
        return
    fi
    for seed in $seeds; do launch "$1" "$seed" "${@:3}"; done
}

launch() {
    local status=0
    ${PYTHON:-python} main.py --group "$1" --seed "$2" "${@:3}" --completed --resume auto ${passed[@]+"${passed[@]}"} ||
        status=$?
    case $status in
        0) run_names+=("$1_s$2") ;;
        129 | 130 | 143) echo "The same command goes on from here." >&2; exit $status ;;
        *) failed+=("$1_s$2") ;;
    esac
}

# The finished runs of this call beside each other.
compare() {
    local save=Training_Results name folder finished=() i
    for ((i = 0; i < ${#passed[@]}; i++)); do
        case ${passed[i]} in
            --save_path) save=${passed[i + 1]:-} ;;
            --save_path=*) save=${passed[i]#*=} ;;
        esac
    done
    for name in ${run_names[@]+"${run_names[@]}"}; do
        for folder in "$save"/*/"$name" "$save"/*/"$name"_[0-9]*; do
            [[ ! -f $folder/results.json ]] || finished+=("$folder")
        done
    done
    ((${#finished[@]} == 0)) || ${PYTHON:-python} -m programs.compare "${finished[@]}"
}

# All rows at once, on several GPUs.
sweep() {
    local file status=0
    file=$(mktemp -d)/language_guidance_benchmark_runs.yaml
    { [[ -z ${SEEDS:-} ]] || echo "seeds: [${SEEDS// /, }]"; printf 'baseline: null\nvariants:\n%s' "$variants"; } >"$file"
    # shellcheck disable=SC2086  # words of their own
    ${PYTHON:-python} -m programs.sweep "$file" --gpus $GPUS -- ${passed[@]+"${passed[@]}"} || status=$?
    rm -r "$(dirname "$file")"
    return $status
}

case ${1:-} in
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p;}' "$0"; exit ;;
esac
schedule=${SCHEDULE:-constant} study=${STUDY:-published}
[[ $schedule =~ ^(constant|suggested)$ ]] || die "SCHEDULE is constant or suggested, not $schedule."
matches=0
[[ '' =~ ${ONLY:-.} ]] || matches=$?
((matches < 2)) || die "ONLY=$ONLY is no regular expression."
[[ ${SEEDS:-0} =~ ^[0-9]+( +[0-9]+)*$ ]] || die "SEEDS holds whole numbers with spaces between them, not $SEEDS."
passed=() groups=() run_names=() failed=() variants='' chosen=''
[[ -z ${gpu:-} || -n ${GPUS:-} ]] || passed+=(--gpu "$gpu")
[[ -z ${datapath:-} ]] || passed+=(--source_path "$datapath")
passed+=("$@")

case $study in
published)
    kinds=(plg baseline)
    #   group                  dataset  dim seed epochs bs weight tau gamma train metrics, objective
    run cub200-rn128_msim       cub200  128 2    200    90  7.5   28  0.25  no  --loss multisimilarity
    run cub200-rn128_s2sd-msim  cub200  128 2    300    108 1.5   144 0.5   no  "${s2sd[@]}" --loss_s2sd_feat_w 125
    run cub200-rn512_msim       cub200  512 0    150    90  10    34  0.25  no  --loss multisimilarity
    run cub200-rn512_s2sd-msim  cub200  512 0    250    108 2     29  0.5   no  "${s2sd[@]}" --loss_s2sd_feat_w 60
    run cars196-rn128_msim      cars196 128 1    250    108 6     102 0.25  yes --loss multisimilarity
    run cars196-rn128_s2sd-msim cars196 128 0    250    108 2.5   110 0.25  no  "${s2sd[@]}" --loss_s2sd_feat_w 50
    run cars196-rn512_msim      cars196 512 0    250    108 5.5   107 0.25  yes --loss multisimilarity
    run cars196-rn512_s2sd-msim cars196 512 0    300    108 2     165 0.1   no  "${s2sd[@]}" --loss_s2sd_feat_w 40
    ;;
table)
    kinds=(baseline elg plg) SEEDS=${SEEDS:-0 1 2 3 4}
    # Published are the settings of PLG with multisimilarity and S2SD on CUB200 and CARS196. Nothing says those of the
    # other rows, nor the number of seeds: ELG has the weight of PLG here, margin what multisimilarity has, and SOP the
    # defaults of main.py, with a weight from the range that was used there, 0.1 to 1. Rows without a suggested schedule
    # ("-") keep the constant rate, and their names.
    #   group                           dataset        dim seed epochs bs weight tau gamma train metrics, objective
    run cub200-rn128_msim               cub200          128 0   200    90  7.5   28  0.25  no  --loss multisimilarity
    run cub200-rn128_margin             cub200          128 0   200    90  7.5   -   -     no  "${margin[@]}"
    run cub200-rn128_s2sd-msim          cub200          128 0   300    108 1.5   144 0.5   no  "${s2sd[@]}" --loss_s2sd_feat_w 125
    run cars196-rn128_msim              cars196         128 0   250    108 6     102 0.25  yes --loss multisimilarity
    run cars196-rn128_margin            cars196         128 0   250    108 6     -   -     no  "${margin[@]}"
    run cars196-rn128_s2sd-msim         cars196         128 0   250    108 2.5   110 0.25  no  "${s2sd[@]}" --loss_s2sd_feat_w 50
    run online_products-rn128_msim      online_products 128 0   150    112 0.5   -   -     no  --loss multisimilarity
    run online_products-rn128_margin    online_products 128 0   150    112 0.5   -   -     no  "${margin[@]}"
    run online_products-rn128_s2sd-msim online_products 128 0   150    112 0.5   -   -     no  "${s2sd[@]}" --loss_s2sd_feat_w 50
    ;;
*) die "STUDY is published or table, not $study." ;;
esac

[[ -n $chosen ]] || die "ONLY=$ONLY matches no row of STUDY=$study; there are ${groups[*]}."
if [[ -n ${GPUS:-} ]]; then
    sweep
    exit
fi
compare
if ((${#failed[@]})); then
    echo "${#failed[@]} runs failed: ${failed[*]}." >&2
    exit 1
fi
