#!/usr/bin/env bash
# Installs what is missing on this machine, and nothing else. Quick if nothing is missing.
#
#   scripts/setup.sh build    what `make build` needs: Rust, a linker, the static target
#   scripts/setup.sh demo     what `make up` needs in addition: Python, and npm with AGENT=openclaw
#   scripts/setup.sh payload  what `make bench-instructions` needs in addition: Python, musl-gcc
#   scripts/setup.sh bench    what `make bench-logs` needs in addition to `build`: Python, s6,
#                             runit, daemontools
#   scripts/setup.sh image    what `make image` needs in addition to `build`: a Docker engine
#   scripts/setup.sh test     what `make test` needs in addition: s6, execline, strace, curl, tmux,
#                             npm, zsh, fish, cargo-nextest, cargo-deny, cargo-fuzz, C++, and
#                             docker-compose; on Debian, chromium
#
# Each step includes the ones above it, except that `image` and `test` need nothing of `payload` and
# `bench`. Run by root on
# Debian and Ubuntu, the script installs the packages. Otherwise it says what to install and ends
# with 1. It never asks a question.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

packages=() # Debian packages to install
reasons=()  # why, one line each

# Asks for Debian packages, with the reason.
want() {
    reasons+=("$1")
    shift
    packages+=("$@")
}

# --- checks ---------------------------------------------------------------------------------------

# Checks for a linker and the C library's start files, because cc links even a pure Rust program.
links_programs() { have cc && printf 'int main(void){return 0;}' | cc -x c - -o /dev/null >/dev/null 2>&1; }

check_linker() { links_programs || want 'a C compiler, which Rust links with (cc)' gcc libc6-dev; }

check_python() {
    find_python >/dev/null && return 0
    # Ubuntu 22.04 has 3.10 by default and 3.11 beside it.
    if have python3 && python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null; then
        want 'Python 3.11 to 3.13 with venv' python3.11 python3.11-venv
    else
        want 'Python 3.11 to 3.13 with venv' python3 python3-venv
    fi
}

check_s6() {
    local tool
    for tool in s6-svscan s6-supervise s6-svc s6-svstat s6-log; do
        have "$tool" && continue
        want "the reference implementation, which the tests compare with ($tool)" s6
        break
    done
    # s6 only recommends this package, and this script does not install what is only recommended.
    have execlineb || want "the reference implementation's scripts, which the tests compare with (execlineb)" execline
}

check_payload() {
    have musl-gcc || want "a C library for small static programs, which are what is supervised" musl-tools
}

check_peers() {
    have runsvdir || want "runit, which ours is compared with" runit
    have supervisord || want "supervisord, which ours is compared with" supervisor
    have svlogd || want "runit's logger, which ours is compared with (svlogd)" runit
    have multilog || want "daemontools' logger, which ours is compared with (multilog)" daemontools
}

check_tools() {
    have flock || want 'flock' util-linux
    have ps || want 'ps' procps
    have git || want 'git' git
}

# If an engine answers, it may be on another machine, or have another name.
check_docker() {
    [[ ${GATEVISOR_SKIP_DOCKER:-} != 1 ]] || return 0
    if ! have docker || ! timeout 20 docker version >/dev/null 2>&1 </dev/null; then
        if ! have docker || ! have dockerd; then want 'a Docker engine (dockerd)' docker.io iptables; fi
    elif (($(id -u) != 0)) || docker image inspect "$("$root/scripts/docker.sh" base)" >/dev/null 2>&1; then
        return 0
    fi
    # If the base image cannot be pulled, it is made with debootstrap.
    have debootstrap || want 'debootstrap, to make a base image with' debootstrap debian-archive-keyring
}

# Asks for Compose under the name that the distribution has for it.
check_compose() {
    [[ ${GATEVISOR_SKIP_DOCKER:-} != 1 ]] || return 0
    ! docker compose version >/dev/null 2>&1 && ! have docker-compose || return 0
    local package=docker-compose
    ! apt-cache show docker-compose-v2 >/dev/null 2>&1 || package=docker-compose-v2
    want 'Compose, with which a test uses the compose file' "$package"
}

check_tracer() { have strace || want 'strace, with which a test counts the system calls of a start' strace; }

check_terminal() { have tmux || want 'tmux, a terminal in which a test opens the live view' tmux; }

check_sender() { have curl || want 'curl, which sends the alerts that a test receives' curl; }

check_shells() {
    have zsh || want 'zsh, in which a test completes names' zsh
    have fish || want 'fish, in which a test completes names' fish
}

# It installs OpenClaw and the Node that OpenClaw needs.
check_npm() { have npm || want 'npm, which installs OpenClaw' npm; }

# libFuzzer is written in C++.
check_fuzzer() { have c++ || want 'a C++ compiler, for the fuzzer (c++)' g++; }

# --- acts -----------------------------------------------------------------------------------------

install_packages() {
    ((${#packages[@]})) || return 0
    say 'missing on this machine:'
    printf '  - %s\n' "${reasons[@]}" >&2
    if ! have apt-get; then
        die 'cannot install them: this is neither Debian nor Ubuntu' \
            "install your distribution's counterparts of: ${packages[*]}"
    fi
    if (($(id -u) != 0)); then
        die 'cannot install them: not root' \
            "run: sudo apt-get update && sudo apt-get install --yes ${packages[*]}"
    fi
    say "installing: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q </dev/null >&2 || say 'warning: apt-get update failed, going on with the lists that are here'
    apt-get install -q --yes --no-install-recommends "${packages[@]}" </dev/null >&2 ||
        die 'apt-get install failed, see above' "by hand: apt-get install ${packages[*]}"
}

check_rust() {
    have cargo || die 'cargo is not installed' 'install Rust: https://rustup.rs, then open a new shell'
    local want have_version
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have_version=$(cd "$root" && rustc --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' "$want" "${have_version%%-*}" | sort -V | head -n 1) != "$want" ]]; then
        die "Rust $have_version is too old, $want or newer is needed" 'run: rustup update stable'
    fi
}

add_target() {
    local target
    target=$("$root/scripts/build.sh" --wanted-target)
    "$root/scripts/build.sh" --has-target "$target" && return 0
    if have rustup; then
        say "adding the Rust target $target"
        rustup target add "$target" </dev/null >&2 && return 0
    fi
    say "warning: the Rust target $target is not installed and cannot be added; building for the host with a static C library"
}

add_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return 0
    have rustup || die 'rustfmt or clippy is missing' "install your distribution's packages for them"
    say 'adding rustfmt and clippy'
    rustup component add rustfmt clippy </dev/null >&2 || die 'rustup cannot add rustfmt and clippy, see above'
}

# Installs the browser that the tests of the page use. A failure is a warning, because
# scripts/test.sh works without it. Ubuntu's package is a snap, which no script can drive here.
add_browser() {
    have chromium && have chromedriver && return 0
    if have apt-get && (($(id -u) == 0)) && grep -qx 'ID=debian' /etc/os-release; then
        say 'installing chromium and its driver, in which a test uses the page'
        apt-get update -q </dev/null >&2 || :
        DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends chromium chromium-driver \
            </dev/null >&2 && return 0
    fi
    say 'warning: chromium and chromium-driver are not installed and cannot be, so no browser will use the page'
}

# Installs a cargo subcommand. A failure is a warning, because scripts/test.sh works without it.
add_cargo_tool() {
    local tool=$1
    cargo "${tool#cargo-}" --version >/dev/null 2>&1 && return 0
    say "installing $tool (some minutes, once)"
    # Run outside of the project, so that its .cargo/config.toml and the caller's CARGO_TARGET_DIR
    # do not matter.
    (cd / && env -u CARGO_TARGET_DIR -u RUSTFLAGS cargo install --quiet --locked "$tool" </dev/null >&2) ||
        say "warning: $tool cannot be installed here, going on without it"
}

# --- steps ----------------------------------------------------------------------------------------

step=${1:-}
case $step in
build | demo | payload | bench | image | test) ;;
*) die "usage: scripts/setup.sh build|demo|payload|bench|image|test" ;;
esac

[[ $(uname -s) == Linux ]] || die "this is $(uname -s), and a supervisor of Linux processes needs Linux"

check_linker
if [[ $step != build ]]; then
    check_python
    check_tools
fi
if [[ $step == test || $step == bench ]]; then check_s6; fi
if [[ ${AGENT:-hermes} == openclaw ]]; then check_npm; fi
if [[ $step == payload || $step == bench ]]; then check_payload; fi
if [[ $step == bench ]]; then check_peers; fi
if [[ $step == test || $step == image ]]; then check_docker; fi
if [[ $step == test ]]; then
    check_fuzzer
    check_npm
    check_tracer
    check_sender
    check_terminal
    check_shells
fi
install_packages
if [[ $step != build ]]; then
    # Check again: the python3 that was just installed may be too old, and a newer one may be
    # available beside it.
    packages=() reasons=()
    check_python
    install_packages
fi

if [[ $step == test || $step == image ]] && [[ ${GATEVISOR_SKIP_DOCKER:-} != 1 ]] && ! have docker; then
    # Debian 13 has the client in a package of its own.
    packages=() reasons=()
    want 'the client of Docker' docker-cli
    install_packages
fi

if [[ $step == test ]]; then
    # The lists of packages, which tell its name, may be new.
    packages=() reasons=()
    check_compose
    install_packages
    add_browser
fi

# Believe the checks, not the package manager.
links_programs || die 'cc still cannot link a program'
if [[ $step != build ]]; then
    find_python >/dev/null || die 'no Python 3.11 to 3.13 with venv' \
        'install one and name it: make up PYTHON=/path/to/python3.12'
fi

check_rust
add_target
if [[ $step == test ]]; then
    add_components
    add_cargo_tool cargo-nextest
    add_cargo_tool cargo-deny
    add_cargo_tool cargo-fuzz
fi
