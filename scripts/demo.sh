#!/usr/bin/env bash
# From installation to report in one command: a virtual environment, a small synthetic ATLAS, short training with nnU-Net's
# own loss and two or three of ours, a threshold for each, and a report on the lesions that each trainer finds and misses.
#
#   scripts/demo.sh [TRAINER]       trains nnUNetTrainerCounted (nnU-Net's own loss), nnUNetTrainerICI,
#                                   nnUNetTrainerLesionWise, and TRAINER if given,
#                                   such as nnUNetTrainerPQ
#
# DEMO      working folder (default: demo, next to scripts); an earlier run in it is continued
# VENV      virtual environment (default: $DEMO/venv)
# PYTHON    interpreter that creates the virtual environment
# EPOCHS    number of training epochs (default: 5; nnU-Net supports 1, 5, 10, 20, 50, 100, 250)
# SUBJECTS  number of subjects (default: 20)
# JOBS      number of models trained at a time (default: 1 on a GPU, 2 on a CPU with several cores)
#
# The network is small and training is short: the demo shows that everything works, not which loss is better.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

demo=${DEMO:-$here/demo}
epochs=${EPOCHS:-5}
subjects=${SUBJECTS:-20}
mkdir -p "$demo"
demo=$(cd "$demo" && pwd)
venv=${VENV:-$demo/venv}
started=$SECONDS

step() { printf '\n=== %s (%d:%02d) ===\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

if [ "$epochs" = 1 ]; then variant=1epoch; else variant=${epochs}epochs; fi
trainers=()
for t in nnUNetTrainerCounted nnUNetTrainerICI nnUNetTrainerLesionWise ${1+"$1"}; do
  case " ${trainers[*]-} " in *" ${t}_$variant "*) ;; *) trainers+=("${t}_$variant") ;; esac
done

step "Virtual environment and packages: $venv"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "${here}[demo]"
export PATH=$venv/bin:$PATH
started=$SECONDS

export nnUNet_raw=$demo/nnUNet_raw nnUNet_preprocessed=$demo/nnUNet_preprocessed nnUNet_results=$demo/nnUNet_results
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"
if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  device=cuda jobs=${JOBS:-1}
else
  device=cpu jobs=${JOBS:-$(($(nproc) > 1 ? 2 : 1))}
  # On few cores, spinning idle OpenMP threads and many processes slow down training tenfold.
  export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE nnUNet_n_proc_DA=1 nnUNet_def_n_proc=1
  export OMP_NUM_THREADS=$((($(nproc) + jobs - 1) / jobs))
fi
export nnUNet_compile=f # compilation would take longer than this short training
nnunet_ici doctor
python - "${trainers[@]}" <<'PY'
import sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

for name in sys.argv[1:]:
    find(name)
PY

step "Synthetic ATLAS: $subjects subjects at 4 mm"
if [ ! -d "$demo/atlas" ]; then
  nnunet_ici synth-atlas "$demo/atlas" -n "$subjects" --seed 0 --spacing 4
fi

step "Conversion to nnU-Net raw data"
[ -d "$nnUNet_raw/Dataset100_ATLAS" ] || nnunet_ici convert-atlas "$demo/atlas" -d 100

step "Planning and preprocessing"
if [ ! -f "$nnUNet_preprocessed/Dataset100_ATLAS/nnUNetPlans_small.json" ]; then
  nnUNetv2_plan_and_preprocess -d 100 -c 3d_fullres -npfp 1 -np 1
  python "$here/scripts/study/small_plans.py" 100 3d_fullres --patch-size 32 32 32 --features 8 16 32
fi

fold_of() { echo "$nnUNet_results/Dataset100_ATLAS/${1}__nnUNetPlans_small__3d_fullres/fold_0"; }
train() {
  [ ! -f "$1/validation/summary.json" ] || return 0
  local resume=()
  [ ! -f "$1/checkpoint_final.pth" ] || resume=(--val)
  mkdir -p "$demo/logs"
  echo "$2, log in $demo/logs/$2.txt"
  nnUNetv2_train 100 3d_fullres 0 -tr "$2" -p nnUNetPlans_small -device "$device" --npz ${resume[@]+"${resume[@]}"} \
    >"$demo/logs/$2.txt" 2>&1 || { tail -n 20 "$demo/logs/$2.txt" >&2; return 255; }
}
export -f train
export demo device

step "Training on $device, $jobs at a time"
for t in "${trainers[@]}"; do printf '%s\0%s\0' "$(fold_of "$t")" "$t"; done | xargs -0 -n 2 -P "$jobs" bash -c 'train "$@"' train

step "Comparison on the held-out subjects, at probability 0.5 and at the thresholds chosen on the other subjects"
nnunet_ici compare 100 3d_fullres -tr "${trainers[@]}" -f 0 -o "$demo/evaluation" | tee "$demo/logs/compare.txt"

step "Prediction of the test images with the best, by the command above"
read -ra predict < <(grep -o 'nnUNetv2_predict.*' "$demo/logs/compare.txt")
predict=("${predict[@]/#IMAGES/$nnUNet_raw/Dataset100_ATLAS/imagesTs}")
predict=("${predict[@]/#PREDICTIONS/$demo/predictions}")
"${predict[@]}" -device "$device" --disable_tta -npp 1 -nps 1 >"$demo/logs/predict.txt" 2>&1

step "Done"
cat <<END
Report:       $demo/evaluation/report.html
Tables:       $demo/evaluation/tables.md (also .tex, .csv; cases.csv, instances.csv, summary.json)
Predictions:  $demo/predictions
The data are synthetic, the network is small, and training was short: the results are no evidence for or against a loss.
END
