#!/usr/bin/env bash
# Installs what is missing and runs the tests:  bash run_tests.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./environment.sh
python -m pytest tests "$@"
