#!/bin/sh
# Sets up the virtual environment .venv: `install.sh packages`, then `install.sh project`. Called by the Makefile, as is
# `install.sh simulator NAME`, which sets up a simulator that the tests of the FR3 driver talk to, in .venv-NAME.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
TORCH_INDEX=https://download.pytorch.org/whl/cpu

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; }

may_install() {
    root=''
    [ "$(id -u)" = 0 ] || root='sudo -n'
    command -v apt-get >/dev/null && $root true 2>/dev/null
}

# After may_install.
apt_install() {
    say "installing system packages: $*"
    install="$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    $install "$@" >/dev/null 2>&1 || { $root apt-get update -qq && $install "$@" >/dev/null; } \
        || fail "apt-get could not install: $*"
}

choose_python() {
    for name in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if supported "$name"; then command -v "$name"; return; fi
    done
    return 1
}

find_python() {
    choose_python && return
    if [ -z "${PYTHON:-}" ] && ! command -v python3 >/dev/null && may_install; then
        apt_install python3 python3-venv && choose_python && return
    fi
    fail "no Python 3.10 to 3.12 found (tried ${PYTHON:-python3.11, python3.12, python3.10, python3}). Install one:
    sudo apt-get install python3 python3-venv
or name one: make PYTHON=/path/to/python3.11"
}

# Debian packages that are missing: OSMesa renders without a display; OpenCV, which LIBERO imports, links the other two.
missing_packages() {
    for pair in libOSMesa.so.8:libosmesa6 libGL.so.1:libgl1 libgthread-2.0.so.0:libglib2.0-0; do
        case "$libraries" in *"${pair%%:*}"*) ;; *) echo "${pair##*:}" ;; esac
    done
    "$1" -c 'import ensurepip, venv' 2>/dev/null \
        || "$1" -c 'import sys; print(f"python3.{sys.version_info.minor}-venv")'
}

install_system() {
    libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    packages=$(missing_packages "$1" | tr '\n' ' ')
    if ! may_install; then
        [ -z "$packages" ] || fail "these system packages are missing and may not be installed from here. Run once, then repeat:
    sudo apt-get install -y --no-install-recommends $packages"
        return 0
    fi
    # A compiler doubles the speed of the simulation, which does without one; cameras and SpaceMouse need the others.
    command -v cc >/dev/null || packages="$packages gcc libc6-dev"
    case "$libraries" in *libusb-1.0.so.0*) ;; *) packages="$packages libusb-1.0-0" ;; esac
    case "$libraries" in *libhidapi-hidraw.so.0*) ;; *) packages="$packages libhidapi-hidraw0" ;; esac
    # shellcheck disable=SC2086  # a list of words
    [ -z "$packages" ] || apt_install $packages
}

# The public index of PyTorch is asked only where it answers at once: pip itself would retry for minutes.
torch_index() {
    if "$VENV/bin/python" - "$TORCH_INDEX/torch/" <<'PROBE'; then printf '%s %s' --extra-index-url "$TORCH_INDEX"; fi
import sys, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=5)
except OSError:
    sys.exit(1)
PROBE
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --no-compile "$@"; }

packages() {
    if ! supported "$VENV/bin/python"; then
        python=$(find_python)
        install_system "$python"
        say "creating $VENV with $python"
        "$python" -m venv --clear "$VENV"
    else
        install_system "$VENV/bin/python"
    fi
    tag=$("$VENV/bin/python" -c 'import sys; print(f"py{sys.version_info[0]}{sys.version_info[1]}")')
    lock=requirements/lock-$tag.txt
    [ -f "$lock" ] || fail "no lock for this Python: $lock"
    say "installing pinned packages from $lock (about two minutes and 3 GB)"
    pip --require-hashes -r requirements/build.txt
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    grep -v '^torch==' "$lock" >"$work/most.txt"
    grep '^torch==' "$lock" >"$work/torch.txt" || sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/lock-py311.txt >"$work/torch.txt"
    pip --require-hashes -r "$work/most.txt"
    # shellcheck disable=SC2046  # two words or none
    pip $(torch_index) -r "$work/torch.txt" || fail "the CPU build of PyTorch was not found.
It comes from $TORCH_INDEX; check that this machine can reach it, or put the wheel in a folder and set PIP_FIND_LINKS."
    "$VENV/bin/python" -m pip check >&2
}

# Editable, so that edits count at once. An editable install has no data files: they are linked into place, which
# makes .venv a prefix in which ROS's launch, and ours, find the package.
project() {
    say "installing this project"
    pip --editable .
    mkdir -p "$VENV/share/ament_index/resource_index/packages" "$VENV/share/tgrpo_ros" "$VENV/lib/tgrpo_ros"
    ln -sfn "$PWD/resource/tgrpo_ros" "$VENV/share/ament_index/resource_index/packages/tgrpo_ros"
    for name in package.xml launch robot_configs; do ln -sfn "$PWD/$name" "$VENV/share/tgrpo_ros/$name"; done
    for node in "$VENV"/bin/tgrpo_*_node; do ln -sf "../../bin/${node##*/}" "$VENV/lib/tgrpo_ros/${node##*/}"; done
}

# Without it only the tests that need it are skipped, so its absence must not stop anybody.
simulator() {
    SIM=.venv-$1
    tag=$("$VENV/bin/python" -c 'import sys; print(f"py{sys.version_info[0]}{sys.version_info[1]}")')
    say "installing a simulated FR3, $1, into $SIM"
    "$VENV/bin/python" -m venv --clear "$SIM"
    "$SIM/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-compile --require-hashes \
        -r "requirements/$1-$tag.txt" && return
    rm -rf "$SIM"
    say "$1 could not be installed; the tests that need it will be skipped"
}

case "${1:-}" in
    packages | project) "$1" ;;
    simulator) simulator "$2" ;;
    *) fail "usage: install.sh packages|project|simulator NAME" ;;
esac
