#!/usr/bin/env bash
# All measurements on one GPU, within 8 minutes: `bash benchmarks/gpu.sh [options of benchmarks.gpu]`.
set -euo pipefail
cd "$(dirname "$0")/.."
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo 'no NVIDIA GPU'
PYTHONUNBUFFERED=1 timeout 480 python3 -m benchmarks.gpu "$@"
