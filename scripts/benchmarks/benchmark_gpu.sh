#!/usr/bin/env bash
# Run all benchmarks on a GPU, write scripts/benchmarks/results/*_cuda.json and print the table of goals.
# PYTHON is the interpreter, MASKS a folder of binary NIfTI masks.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
out=scripts/benchmarks/results
masks=(${MASKS:+--masks "$MASKS"})
export NNUNET_ICI_KERNELS=on  # fail instead of timing plain PyTorch

"$python" -c "from nnunet_ici.instances import kernel_status; print(kernel_status('cuda', afresh=True))"
"$python" -m pytest -q tests/test_components.py tests/test_torch_labelling.py tests/test_triton_labelling.py tests/test_triton_instances.py
"$python" -m scripts.benchmarks.components --device cuda --size 192 --batch 4 "${masks[@]}" --json $out/components_cuda.json
"$python" -m scripts.benchmarks.losses --device cuda --size 192 --batch 4 --dtype float16 --repeats 30 "${masks[@]}" \
    --json $out/losses_cuda.json
NNUNET_ICI_KERNELS=off "$python" -m scripts.benchmarks.losses --device cuda --size 192 --batch 4 --dtype float16 --repeats 10 \
    "${masks[@]}" --json $out/losses_torch_cuda.json
"$python" -m scripts.benchmarks.losses --device cuda --size 192 --batch 4 --dtype float16 --repeats 20 --curves \
    "${masks[@]}" --json $out/curves_cuda.json
"$python" -m scripts.benchmarks.step --device cuda "${masks[@]}" --json $out/step_cuda.json
"$python" -m scripts.benchmarks.goals
