#!/usr/bin/env bash
# All tests of a clean checkout, on a fresh Debian or Ubuntu with Rust installed:
#
#   sudo tests/run.sh [arguments for cargo test]
#
# Installs the Debian packages that are missing, unpacks the HAProxies and keepaliveds (tests/unpack.sh), and runs cargo test. Its
# exit code is that of the tests. Without root it installs nothing, and tests that need root are reported as skipped.
# The machine's own haproxy is neither installed nor needed: installing that package would start a service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'run: %s\n' "$*" >&2; }

# What the tests call, and the package that has it.
declare -A packages=([ip]=iproute2 [patchelf]=patchelf [cc]=gcc [keepalived]=keepalived [groff]=groff-base [dpkg-shlibdeps]=dpkg-dev
    [strip]=binutils [xz]=xz-utils [ansible-playbook]=ansible-core
    [git]=git)
missing=()
for tool in "${!packages[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${packages[$tool]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then
        say "installing ${missing[*]}"
        # keepalived's package starts a service where there is an init system: a policy forbids it for this one call.
        # Where the machine has a policy of its own, that one stays.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update >&2 || say "apt-get update failed; trying with what is known"
        apt-get -q -y --no-install-recommends install "${missing[@]}" >&2 ||
            say "could not install ${missing[*]}: the tests that need them are skipped or fail"
        if [ "$(trap -p EXIT)" ]; then
            rm -f "$policy"
            trap - EXIT
        fi
    else
        say "not root: going on without ${missing[*]}"
    fi
fi
export PATH=$PATH:/usr/sbin:/sbin

# sudo's PATH leaves out the caller's ~/.cargo/bin, and HOME may be root's: cargo and rustup are those of the caller.
if ! command -v cargo >/dev/null; then
    caller=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
    for cargo_home in "${CARGO_HOME:-$caller/.cargo}" "$caller/.cargo" /usr/local/cargo; do
        [ -x "$cargo_home/bin/cargo" ] || continue
        export PATH=$cargo_home/bin:$PATH CARGO_HOME=$cargo_home
        # rustup keeps its toolchains beside: ~/.rustup, or /usr/local/rustup.
        for rustup_home in "${cargo_home%/*}/.rustup" "${cargo_home%/*}/rustup"; do
            [ -d "$rustup_home" ] && export RUSTUP_HOME=${RUSTUP_HOME:-$rustup_home}
        done
        break
    done
fi
command -v cargo >/dev/null || { say "cargo is missing: install Rust first"; exit 1; }

tests/unpack.sh >&2 || say "no HAProxy: the tests that need one are skipped"
tools() {
    packaging/build.sh tools || say "no packaging tools: the tests of packages are skipped"
}
packages=no
if command -v apt-get >/dev/null; then
    packages=yes
    tests/debs.sh || say "not all packages could be had: the tests that need them are skipped"
fi
run() { cargo test --workspace --locked --no-fail-fast "$@" || code=$?; }
code=0
if [ $# -gt 0 ]; then
    [ $packages = no ] || tools
    run "$@"
else
    cargo test --workspace --locked --no-run
    # What only computes runs in the time that the others wait, and has no more of the machine than they leave.
    beside() {
        if [ $packages = yes ]; then
            tools
            # As tests/packaging builds it.
            HARELOAD_PROFILE=dev CARGO_PROFILE_DEV_DEBUG=0 PACKAGE_DIR=target/package-test-static packaging/build.sh static || true
        fi
        run --test model
        exit "$code"
    }
    said=$(mktemp)
    beside >"$said" 2>&1 &
    beside=$!
    chrt --idle --pid 0 "$beside" >/dev/null 2>&1 || renice -n 19 -p "$beside" >/dev/null
    most=()
    for file in tests/*.rs tests/*/tests/*.rs; do
        name=$(basename "$file" .rs)
        case $name in model | packaging) ;; *) most+=(--test "$name") ;; esac
    done
    run --lib --bins --examples "${most[@]}"
    wait "$beside" || code=$?
    cat "$said"
    rm -f "$said"
    run --test packaging
fi
# What root has built in the caller's checkout is the caller's again.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d target ]; then
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" target 2>/dev/null || say "target/ stays root's"
fi
exit "$code"
