#!/bin/bash
# Creates a TPU slice with gcloud, installs this clone on its hosts, and trains on all of them.
#
#   NAME=tljax ZONE=europe-west4-b scripts/launch/tpu_vm.sh
#
# Every host repeats its command while it ends with exit code 75. Delete the slice when it is done:
#
#   gcloud compute tpus tpu-vm delete tljax --zone=europe-west4-b
set -euo pipefail

NAME="${NAME:-tljax}"
ZONE="${ZONE:-europe-west4-b}"
TYPE="${TYPE:-v5litepod-16}"
VERSION="${VERSION:-v2-alpha-tpuv5-lite}"

gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
  --version="$VERSION" --spot
git archive --format=tar.gz --prefix=tljax/ --output=/tmp/tljax.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/tljax.tar.gz "$NAME": --zone="$ZONE" --worker=all
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
  --command='tar xzf tljax.tar.gz && python3 -m pip install --user uv \
    && ~/.local/bin/uv venv --clear --python 3.12 env \
    && ~/.local/bin/uv pip install --python env/bin/python "./tljax[tpu,fast]"'

# The folder of the run must be one that all hosts share, such as a mounted bucket or Filestore.
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command='
  PATH="$HOME/env/bin:$PATH" tljax/scripts/launch/run_again.sh \
  tljax train --config=resnet50_finetune --config.data.path=/shared/photos --config.batch_size=256 \
  --workdir=/shared/runs/photos --distributed --require_device=tpu'
