#!/usr/bin/env bash
# Builds the packages into target/package: hareload_*.deb, hareload-*.rpm, and hareload-<version>-<host>, one statically
# linked file that runs on any Linux of that architecture.
#
#   packaging/build.sh [tools|deb|rpm|static …]      all of them without words
#
# Needs Rust and the packages binutils, dpkg-dev and xz-utils; no root. cargo-deb and cargo-generate-rpm are installed
# beneath target/tools in the versions below (`tools` does only that).
#
#   HARELOAD_BINARY        package this program instead of building one (tests)
#   HARELOAD_PROFILE       the profile to build with, instead of release
#   HARELOAD_DEB_REVISION  the package's revision, instead of 1
#   HARELOAD_RPM_PAYLOAD   how the .rpm is compressed, instead of zstd
#   PACKAGE_DIR            where to put them, instead of target/package
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_DEB=3.8.0
CARGO_GENERATE_RPM=0.21.1

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools
out=$(realpath -m "${PACKAGE_DIR:-target/package}")
# The manifest says so too: what the packages are made of, beside the files of this directory.
stage=target/stage
profile=${HARELOAD_PROFILE:-release}
revision=${HARELOAD_DEB_REVISION:-1}
host=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
maintainer=$(sed -n '/^\[package.metadata.deb\]/,/^\[/s/^maintainer = "\(.*\)"/\1/p' Cargo.toml)

say() { printf 'build: %s\n' "$*" >&2; }

# A packaging tool in its version. Not optimised: building it takes longer than all that it does.
tool() { # name version [options]
    local name=$1 wanted=$2
    shift 2
    if [ "$("$tools/bin/$name" --version 2>/dev/null | awk '{ print $NF }')" = "$wanted" ]; then return; fi
    say "installing $name $wanted"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build \
        cargo install --quiet --locked --debug --root "$tools" --version "$wanted" "$@" "$name"
}

tools() {
    # Without liblzma, which would have to be compiled too: it calls xz.
    tool cargo-deb "$CARGO_DEB" --no-default-features
    tool cargo-generate-rpm "$CARGO_GENERATE_RPM"
}

# Where cargo puts what it has built.
built() { # target directory
    local name=$profile
    if [ "$name" = dev ]; then name=debug; fi
    printf '%s/%s/hareload' "$1" "$name"
}

# The program, its man pages and completions, and the package's own changelog.
staged=no
stage() {
    if [ $staged = yes ]; then return; fi
    staged=yes
    local binary=${HARELOAD_BINARY:-}
    if [ -z "$binary" ]; then
        say "building hareload $version ($profile)"
        cargo build --quiet --locked --profile "$profile" --target-dir "$target" -p hareload --bin hareload
        binary=$(built "$target")
    fi
    # One at a time from here on.
    exec 9>target/.package.lock
    flock 9
    rm -rf "$stage"
    mkdir -p "$stage/man" "$stage/completions"
    install -m 755 "$binary" "$stage/hareload"
    strip "$stage/hareload"
    "$stage/hareload" gen man "$stage/pages"
    local page
    for page in "$stage"/pages/*/*; do
        install -D -m 644 "$page" "$stage/man/man${page##*.}/${page##*/}"
    done
    gzip -9n "$stage"/man/*/*
    "$stage/hareload" gen completions bash >"$stage/completions/hareload"
    "$stage/hareload" gen completions zsh >"$stage/completions/_hareload"
    "$stage/hareload" gen completions fish >"$stage/completions/hareload.fish"
    printf 'hareload (%s-%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" "$revision" \
        "$maintainer" "$(date -R -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}")" \
        >"$stage/changelog.Debian"
    # Debian has the Apache License on every machine.
    {
        printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: hareload\n\n'
        printf 'Files: *\nCopyright: 2026 The hareload contributors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n'
        sed -n '/^Permission is hereby/,/^SOFTWARE\.$/{s/^$/./;s/^/ /;p}' LICENSE
        printf '\nLicense: Apache-2.0\n The text is in /usr/share/common-licenses/Apache-2.0.\n'
    } >"$stage/copyright"
    gzip -9nc CHANGELOG.md >"$stage/changelog.gz"
}

deb() {
    stage
    say "hareload $version-$revision as .deb"
    "$tools/bin/cargo-deb" deb --quiet --no-build --no-strip --locked --compress-system -p hareload \
        --deb-revision "$revision" --output "$out/"
}

rpm() {
    stage
    say "hareload $version as .rpm"
    "$tools/bin/cargo-generate-rpm" generate-rpm --auto-req builtin \
        --payload-compress "${HARELOAD_RPM_PAYLOAD:-zstd}" --output "$out/"
}

static() {
    say "building hareload $version, statically linked ($profile)"
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build --quiet --locked --profile "$profile" \
        --target "$host" --target-dir "$target/static" -p hareload --bin hareload
    install -m 755 "$(built "$target/static/$host")" "$out/hareload-$version-$host"
    strip "$out/hareload-$version-$host"
}

if [ $# = 0 ]; then set -- deb rpm static; fi
mkdir -p "$out" target
for what in "$@"; do
    case $what in
    tools) tools ;;
    deb | rpm)
        tools
        "$what"
        ;;
    static) static ;;
    *)
        say "$what is not one of tools, deb, rpm, static"
        exit 2
        ;;
    esac
done
