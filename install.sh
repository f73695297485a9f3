#!/bin/sh
# Installs the Inferfly Appliance from this folder: preflight > plan > confirm > bootstrap > set up > serve.
# `./install.sh --help` lists the options. INFERFLY_HOME, INFERFLY_MODELS, INFERFLY_HOST and INFERFLY_PORT are those
# of `inferfly` (README). Packages come from where pip is told to look (`pip config list`).
set -eu

DISK_MB_APPLIANCE=400
DISK_MB_ENGINE_CPU=5500
DISK_MB_ENGINE_CUDA=20000
DISK_MB_MODELS=700
MEMORY_MB=3000

main() {
    parse "$@"
    enter
    preflight
    plan
    [ -z "$PLAN_ONLY" ] || exit 0
    confirm
    bootstrap
    set_up
    serve
}

usage() {
    cat <<'END'
Usage: ./install.sh --local [--yes] [--no-start] [--plan]

  --local     set up in this folder, without systemd, and serve in the foreground
  --yes       do not ask
  --no-start  only set up
  --plan      say what would be done, and change nothing
  --help      this text
END
}

parse() {
    LOCAL='' YES='' NO_START='' PLAN_ONLY=''
    for option in "$@"; do
        case $option in
            --local) LOCAL=1 ;;
            --yes) YES=1 ;;
            --no-start) NO_START=1 ;;
            --plan) PLAN_ONLY=1 ;;
            --help) usage; exit 0 ;;
            *) printf 'install.sh: unknown option: %s\n' "$option" >&2; usage >&2; exit 2 ;;
        esac
    done
    [ -n "$LOCAL" ] || fatal "The full installation, with Ansible and systemd, comes in a later release." \
        "Run ./install.sh --local: it sets up and serves from this folder."
}

info() { printf '%s\n' "$*"; }

fatal() { # WHAT WHY-AND-CURE...
    printf 'install.sh: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '            %s\n' "$line" >&2; done
    exit 1
}

enter() { # into the folder of this script, whatever the current one is
    for name in INFERFLY_HOME INFERFLY_MODELS; do # a relative path is meant from where the operator stands
        value=''
        eval "value=\${$name:-}"
        case $value in '' | /*) ;; *) export "$name=$PWD/$value" ;; esac
    done
    cd "$(dirname "$0")"
    ROOT=$(pwd -P)
    export INFERFLY_HOME="${INFERFLY_HOME:-$ROOT/.inferfly}" INFERFLY_MODELS="${INFERFLY_MODELS:-$ROOT/models.yaml}"
    LOG=$INFERFLY_HOME/logs/install.log
    UNFINISHED='' DEBIAN_PACKAGES=''
}

# --- preflight: nothing is changed before all of this holds -----------------------------------------------------------

preflight() {
    check_machine
    find_python
    check_packages
    find_what_is_there
    check_appliance_stopped
    check_disk
    check_memory
    [ -n "$NO_START" ] || check_port
}

check_machine() {
    system="$(uname -s) $(uname -m)"
    [ "$system" = "Linux x86_64" ] || fatal "This is $system." \
        "The engine is built for Linux on x86_64 only. Use such a machine."
    for command in awk cut df find flock sed sha256sum; do
        command -v "$command" > /dev/null || fatal "The command $command is missing." "Install it and try again."
    done
    ENGINE=cpu
    if [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ]; then
        ENGINE=cuda
    elif ! grep -qw avx2 /proc/cpuinfo; then
        fatal "This processor has no AVX2, which vLLM needs where there is no NVIDIA GPU." "Use a newer machine."
    fi
    [ ! -e .venv ] || [ -L .venv ] || fatal "$ROOT/.venv is there, and is not of this installer's making." \
        "Move it away: mv .venv .venv.mine"
}

find_python() {
    PYTHON='' seen=''
    for candidate in python3.11 python3; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) || continue
        seen="$seen $version"
        if [ "$version" = 3.11 ]; then PYTHON=$candidate; break; fi
    done
    [ -n "$PYTHON" ] || fatal "Python 3.11 is not here${seen:+ (found:$seen)}." \
        "Both environments are pinned for it. Install it, on Debian 12 by: apt-get install python3 python3-venv"
    "$PYTHON" -c 'import ssl, ctypes, sqlite3, sys; sys.exit(sqlite3.sqlite_version_info < (3, 37))' 2> /dev/null ||
        fatal "$PYTHON lacks ssl, ctypes or sqlite3 (with SQLite 3.37 or newer)." "Install a complete Python 3.11."
}

check_packages() { # what a bare Debian lacks
    "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null || need_package "$PYTHON-venv"
    [ $ENGINE = cuda ] || "$PYTHON" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2> /dev/null || need_package libnuma1
    [ -n "$DEBIAN_PACKAGES" ] || return 0
    command -v apt-get > /dev/null || fatal "Missing:$DEBIAN_PACKAGES (as Debian names them)." \
        "Install what your system calls them, and try again."
    [ "$(id -u)" = 0 ] || fatal "Debian packages are missing:$DEBIAN_PACKAGES." \
        "Only root can install them. Run: sudo apt-get install$DEBIAN_PACKAGES"
}

need_package() { DEBIAN_PACKAGES="$DEBIAN_PACKAGES $1"; }

find_what_is_there() { # a lock's digest names what was built from it, so that another lock means another folder
    VENV=.build/venv-$({ cat locks/bootstrap.txt locks/appliance.txt; sed '/^\[tool\.ruff\]/,$d' pyproject.toml
        "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'; echo "$ROOT"; } | sha256sum | cut -c1-16)
    ENGINE_FOLDER=$INFERFLY_HOME/engine/$(sha256sum locks/engine-$ENGINE.txt | cut -c1-16)
    APPLIANCE_READY='' ENGINE_READY='' MODELS_READY=''
    [ ! -e "$VENV/.complete" ] || [ ! "$(readlink .venv)" = "$VENV" ] || APPLIANCE_READY=1
    [ ! -e "$ENGINE_FOLDER/inferfly.json" ] && [ -z "${INFERFLY_ENGINE_PYTHON:-}" ] || ENGINE_READY=1
    wanted=$(grep -cE '^ +package:' "$INFERFLY_MODELS" 2> /dev/null) || wanted=0
    kept=$(find "$INFERFLY_HOME/models" -path '*/sha256-*/manifest.json' 2> /dev/null | wc -l)
    [ "$kept" -lt "$wanted" ] || MODELS_READY=1
}

check_appliance_stopped() {
    lock=$INFERFLY_HOME/up.lock
    [ -e "$lock" ] && ! flock -n "$lock" true || return 0
    [ -n "$NO_START" ] && [ -n "$APPLIANCE_READY" ] && [ -n "$ENGINE_READY" ] ||
        fatal "An appliance is running on $INFERFLY_HOME." "Stop it first: Ctrl-C where \`inferfly up\` runs."
}

check_disk() {
    need=0
    [ -n "$APPLIANCE_READY" ] || need=$((need + DISK_MB_APPLIANCE))
    [ -n "$MODELS_READY" ] || need=$((need + DISK_MB_MODELS))
    [ -n "$ENGINE_READY" ] || case $ENGINE in
        cpu) need=$((need + DISK_MB_ENGINE_CPU)) ;;
        cuda) need=$((need + DISK_MB_ENGINE_CUDA)) ;;
    esac
    DISK_MB=$need
    folder=$INFERFLY_HOME
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge "$need" ] || fatal "$need MB of disk are needed at $folder, and $free MB are free." \
        "Free some, or set INFERFLY_HOME to a folder on a larger disk."
    [ -w "$folder" ] && [ -w "$ROOT" ] || fatal "$folder or $ROOT can't be written to." "Run this as their owner."
}

check_memory() {
    free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
        bytes=max
        [ ! -r "$limit" ] || read -r bytes < "$limit"
        case $bytes in *[!0-9]*) continue ;; esac
        free=$(awk "BEGIN { mb = $bytes / 1048576; printf \"%d\", (mb < $free) ? mb : $free }")
    done
    [ "$free" -ge "$MEMORY_MB" ] || fatal "$MEMORY_MB MB of memory are needed, and $free MB are available." \
        "Stop other programs, or use a larger machine."
}

check_port() {
    HOST=${INFERFLY_HOST:-127.0.0.1} PORT=${INFERFLY_PORT:-8080}
    "$PYTHON" -c 'import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as plug:
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    plug.bind((sys.argv[1], int(sys.argv[2])))
    plug.listen()' "$HOST" "$PORT" 2> /dev/null || fatal "Port $PORT of $HOST can't be had: another program has it, or it is no port of this machine." \
        "Stop that program, or choose another: INFERFLY_PORT=8081 ./install.sh --local"
}

# --- plan and consent -------------------------------------------------------------------------------------------------

plan() {
    info "The Inferfly Appliance in $ROOT"
    [ -z "$DEBIAN_PACKAGES" ] || info "  Debian packages   install$DEBIAN_PACKAGES (apt-get)"
    info "  appliance         $(state "$APPLIANCE_READY") $ROOT/.venv ($PYTHON, $(count appliance) packages)"
    info "  engine            $(state "$ENGINE_READY") $INFERFLY_HOME/engine (vLLM for $ENGINE, $(count "engine-$ENGINE") packages)"
    info "  models            $(state "$MODELS_READY") $INFERFLY_HOME/models ($(models))"
    if [ "$DISK_MB" != 0 ]; then
        info "  disk              $DISK_MB MB at most, half of it uv's cache (\`uv cache dir\`), which may be deleted later"
        info "  fetched           Python packages from where pip is told to look, each pinned by its SHA-256"
        info "  leaves this box   requests for these packages; nothing once the setup is done"
    fi
    [ -n "$NO_START" ] || info "  then              serves at http://$HOST:$PORT/v1 until Ctrl-C"
}

state() { if [ -n "$1" ]; then echo "in place:"; else echo "build:   "; fi; }
count() { grep -c '^[a-z]' "locks/$1.txt"; }
models() { sed -n 's/^ *- name: *//p' "$INFERFLY_MODELS" 2> /dev/null | paste -sd ' ' -; }

confirm() {
    [ -z "$YES" ] && [ "$DISK_MB$DEBIAN_PACKAGES" != 0 ] || return 0
    [ -t 0 ] || fatal "There is nobody to ask." "Read the plan above, and run this again with --yes."
    printf 'Go on? [y/N] '
    read -r answer || answer=''
    case $answer in [yY] | [yY][eE][sS]) ;; *) fatal "Nothing was changed." ;; esac
}

# --- bootstrap --------------------------------------------------------------------------------------------------------

bootstrap() {
    (umask 077 && mkdir -p "$INFERFLY_HOME/logs" && : >> "$LOG")
    [ -n "$APPLIANCE_READY" ] && [ -z "$DEBIAN_PACKAGES" ] && return 0
    mkdir -p .build
    exec 9> .build/lock
    flock -n 9 || fatal "Another installation is under way in $ROOT." "Wait until it has ended."
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    [ -z "$DEBIAN_PACKAGES" ] || install_debian_packages
    [ -n "$APPLIANCE_READY" ] || build_venv
    exec 9>&-
}

install_debian_packages() {
    export DEBIAN_FRONTEND=noninteractive
    step "Reading Debian's package lists" apt-get update
    # shellcheck disable=SC2086 # a list of names
    step "Installing Debian packages:$DEBIAN_PACKAGES" apt-get install -y --no-install-recommends $DEBIAN_PACKAGES
}

build_venv() { # aside, under the name of its lock; .venv points to it once it is complete
    UNFINISHED=$VENV
    rm -rf "$VENV" .venv.new
    step "Creating the appliance's environment" "$PYTHON" -m venv "$VENV"
    step "Installing the appliance: $(count appliance) packages" pip --only-binary :all: --require-hashes \
        -r locks/bootstrap.txt -r locks/appliance.txt
    step "Linking the appliance" pip --no-build-isolation --no-index -e .
    : > "$VENV/.complete"
    UNFINISHED=''
    ln -s "$VENV" .venv.new
    mv -T .venv.new .venv
    for old in .build/venv-*; do [ "$old" = "$VENV" ] || rm -rf "$old"; done
}

pip() { "$VENV/bin/python" -m pip install --no-deps --no-input --disable-pip-version-check "$@"; }

step() { # TITLE COMMAND...: one line with the time it took; what the command prints goes to the log
    title=$1 begin=$(date +%s)
    shift
    printf '  %s ...' "$title"
    printf '\n== %s\n' "$title" >> "$LOG"
    if "$@" < /dev/null >> "$LOG" 2>&1; then
        printf ' done in %s s\n' "$(($(date +%s) - begin))"
        return
    fi
    printf ' failed\n'
    tail -n 8 "$LOG" >&2
    fatal "$title: failed." "The reason stands above, all of it in $LOG. Mend it and run this again."
}

clean_up() {
    [ -z "$UNFINISHED" ] || rm -rf "$UNFINISHED"
}

# --- set up and serve -------------------------------------------------------------------------------------------------

set_up() { .venv/bin/inferfly setup; }

serve() {
    [ -z "$NO_START" ] || { info "Ready. Start it with: $ROOT/.venv/bin/inferfly up"; exit 0; }
    exec .venv/bin/inferfly up
}

main "$@"
