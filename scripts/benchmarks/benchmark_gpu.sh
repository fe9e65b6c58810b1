#!/usr/bin/env bash
# Run all benchmarks on a GPU, write scripts/benchmarks/results/*_cuda.json and print the table of goals.
# The training step and the terms come first, within about five minutes; the paper's own algorithm comes last, once.
# PYTHON is the interpreter, MASKS a folder of binary NIfTI masks.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
out=scripts/benchmarks/results
masks=(${MASKS:+--masks "$MASKS"})
case=(--device cuda --size 192 --batch 4 --dtype float16 "${masks[@]}")
export NNUNET_ICI_KERNELS=on  # fail instead of timing plain PyTorch

"$python" -c "from nnunet_ici.instances import kernel_status; print(kernel_status('cuda', afresh=True))"
"$python" -m scripts.benchmarks.step --device cuda "${masks[@]}" --json $out/step_cuda.json
"$python" -m scripts.benchmarks.losses "${case[@]}" --repeats 20 --no-published --json $out/losses_cuda.json
"$python" -m scripts.benchmarks.losses "${case[@]}" --repeats 20 --curves --json $out/curves_cuda.json
"$python" -m pytest -q tests/test_components.py tests/test_torch_labelling.py tests/test_triton_instances.py
"$python" -m scripts.benchmarks.components --device cuda --size 192 --batch 4 --no-published "${masks[@]}" \
    --json $out/components_cuda.json
NNUNET_ICI_KERNELS=off "$python" -m scripts.benchmarks.losses "${case[@]}" --repeats 5 --no-published \
    --json $out/losses_torch_cuda.json
"$python" -m scripts.benchmarks.goals
timeout "${PUBLISHED_SECONDS:-600}" "$python" -m scripts.benchmarks.losses "${case[@]}" --repeats 1 \
    --json $out/losses_published_cuda.json || echo "the paper's algorithm was stopped after ${PUBLISHED_SECONDS:-600} s"
"$python" -m scripts.benchmarks.goals
