#!/usr/bin/env bash
# Fetches the Debian packages that tests/packaging.rs installs into a root of its own: target/debs/<name>/*.deb, each with
# what it needs and this machine lacks. Nothing is installed. Needs apt, no root.
#
# What can't be had is named on stderr; the tests that need it are skipped.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'debs: %s\n' "$*" >&2; }

command -v apt-get >/dev/null || { say 'no apt-get here'; exit 1; }
debs=$(realpath -m "${CARGO_TARGET_DIR:-target}/debs")
missing=0
for name in haproxy insserv rpm zsh fish man-db; do
    dir=$debs/$name
    # What a package lacks changes with what the machine has.
    if [ "$dir/.complete" -nt /var/lib/dpkg/status ]; then continue; fi
    rm -rf "$dir"
    mkdir -p "$dir/partial"
    if apt-get -q -y --download-only --reinstall --no-install-recommends -o Dir::Cache::archives="$dir" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
        install "$name" >"$dir/log" 2>&1; then
        touch "$dir/.complete"
    else
        say "$name: $(grep -m1 '^E:' "$dir/log" || echo 'see target/debs')"
        missing=1
    fi
done
exit "$missing"
