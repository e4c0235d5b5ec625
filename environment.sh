# Sourced by train_v2.sh and run_tests.sh: a virtual environment with what requirements.txt names.
# An environment that is active already is used as it is; else .venv is made here.
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        echo "error: Python 3.10 or newer is needed as python3; install it and run this again" >&2
        exit 2
    fi
    [ -f .venv/bin/activate ] || python3 -m venv .venv
    # shellcheck disable=SC1091
    source .venv/bin/activate
fi
# pip takes seconds to find that there is nothing to do, and a network.
if ! missing=$(python -m utils.installed); then
    echo "installing into ${VIRTUAL_ENV:-${CONDA_PREFIX:-}}: ${missing//$'\n'/, }"
    case $missing in
        *torch*) echo "PyTorch from PyPI brings CUDA along, about 6 GB; README.md has the smaller way without a GPU" ;;
    esac
    python -m pip install --quiet --disable-pip-version-check -r requirements.txt
fi
