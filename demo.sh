#!/usr/bin/env bash
# A trained diffusion model classifies images it has not seen, and writes a report. No GPU, no account.
#
#     ./demo.sh [--data FOLDER] [--output report.html] [--images N] [--draws N]
#
# Without --data it makes its own images: synthetic chest films with and without a lesion. With --data FOLDER, a folder
# with pneumoniamnist.npz, it classifies chest X-rays. The last line it prints is the report's path.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

case " $* " in
    *" -h "* | *" --help "*) sed -n '2,7s/^# \{0,1\}//p' "$0" && exit 0 ;;
esac
"$project/scripts/make_env.sh" >&2
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
exec "$project/.venv/bin/python" -m monai_diffclf demo "$@"
