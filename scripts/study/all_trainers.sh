#!/usr/bin/env bash
# Train, predict and evaluate with every trainer of this package, using stock nnU-Net commands: in 2D on nuclei, in 3D on a small
# synthetic ATLAS. Small networks are trained for one epoch each. This shows that all trainers work, not which one is better.
#
#   scripts/study/all_trainers.sh WORK [NUCLEI]
#
# WORK is the working folder; a second call continues in it. NUCLEI is a dataset in nnU-Net raw format (default:
# ../shared/data/nuclei). TRAINERS limits the trainers. TRAIN and TEST set the numbers of nuclei images (default: 40 and 20).
# Tables: WORK/evaluation_2d/tables.md and WORK/evaluation_3d/tables.md.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
work=$(cd "$1" && pwd)
nuclei=${2:-$here/../shared/data/nuclei}
trainers=${TRAINERS:-$(python -c "
from nnunet_ici.trainers.names import TRAINERS
print(' '.join(['nnUNetTrainer', *TRAINERS]))")}

export nnUNet_raw=$work/raw nnUNet_preprocessed=$work/preprocessed nnUNet_results=$work/results
mkdir -p "$nnUNet_raw" "$nnUNet_preprocessed" "$nnUNet_results"
export GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=PASSIVE nnUNet_n_proc_DA=1 nnUNet_def_n_proc=1 nnUNet_compile=f
device=$(python -c "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')")

if [ ! -d "$nnUNet_raw/Dataset200_Nuclei" ]; then
  PYTHONPATH=$here python -c '
import sys
from pathlib import Path
from scripts.study.prepare import copy_part
copy_part(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
' "$nuclei" "$nnUNet_raw/Dataset200_Nuclei" "${TRAIN:-40}" "${TEST:-20}"
  nnUNetv2_plan_and_preprocess -d 200 -c 2d -npfp 1 -np 1
  python "$here/scripts/study/small_plans.py" 200 2d --patch-size 64 64 --features 8 16 32 --batch-size 4
fi
if [ ! -d "$nnUNet_raw/Dataset100_ATLAS" ]; then
  nnunet_ici synth-atlas "$work/atlas" -n 15 --seed 0 --spacing 4
  nnunet_ici convert-atlas "$work/atlas" -d 100
  nnUNetv2_plan_and_preprocess -d 100 -c 3d_fullres -npfp 1 -np 1
  python "$here/scripts/study/small_plans.py" 100 3d_fullres --patch-size 32 32 32 --features 8 16 32
  # As in ATLAS, the test images have no masks. The validation subjects of the first fold are predicted instead.
  python - "$nnUNet_raw/Dataset100_ATLAS" "$nnUNet_preprocessed/Dataset100_ATLAS" "$work/held_out" <<'PY'
import json, shutil, sys
from pathlib import Path

raw, preprocessed, out = map(Path, sys.argv[1:])
from nnunetv2.utilities.crossval_split import generate_crossval_split

cases = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").iterdir())
splits = preprocessed / "splits_final.json"
if not splits.exists():
    splits.write_text(json.dumps(generate_crossval_split(cases, seed=12345, n_splits=5)))
for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
    (out / kind).mkdir(parents=True)
    for case in json.loads(splits.read_text())[0]["val"]:
        shutil.copyfile(raw / f"{kind}Tr" / f"{case}{ending}", out / kind / f"{case}{ending}")
PY
fi

run() { # DATASET CONFIGURATION IMAGES LABELS OUT
  local models=()
  for base in $trainers; do
    local t=${base}_1epoch
    local fold=$nnUNet_results/$(basename "$nnUNet_raw"/Dataset"$1"_*)/${t}__nnUNetPlans_small__$2/fold_0
    echo "=== $t, $2 ==="
    [ -f "$fold/checkpoint_final.pth" ] ||
      nnUNetv2_train "$1" "$2" 0 -tr "$t" -p nnUNetPlans_small -device "$device" >"$work/$1_$t.log" 2>&1
    nnUNetv2_predict -d "$1" -i "$3" -o "$work/predictions_$1/$t" -c "$2" -f 0 -tr "$t" -p nnUNetPlans_small \
      -device "$device" --disable_tta -npp 1 -nps 1 >>"$work/$1_$t.log" 2>&1
    models+=("$base=$work/predictions_$1/$t")
  done
  nnunet_ici evaluate -gt "$4" -pred "${models[@]}" -o "$5"
  cat "$5/tables.md"
}

run 200 2d "$nnUNet_raw/Dataset200_Nuclei/imagesTs" "$nnUNet_raw/Dataset200_Nuclei/labelsTs" "$work/evaluation_2d"
run 100 3d_fullres "$work/held_out/images" "$work/held_out/labels" "$work/evaluation_3d"
