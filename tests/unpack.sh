#!/usr/bin/env bash
# Unpacks the HAProxies and keepaliveds of the distribution's suites, old to new, for the tests:
# target/haproxies/<version>/haproxy, target/keepaliveds/<version>/keepalived.
#
#   tests/unpack.sh        prints a line "version path" for each one that is there
#
# Each comes with its own libraries and loader, and is patched to use them, so that it runs beside any other and
# /proc/<pid>/exe names the program itself. The machine is left as it is: apt works on a private configuration, the mirror
# is the one that the machine's own sources name, and nothing is installed. Needs apt, dpkg-deb and patchelf, no root.
#
# What can't be had is named on stderr and skipped; exit 0 if at least one HAProxy is there.
# What is there is used again: remove the directory to start anew.
#
#   HAPROXIES_DIR, KEEPALIVEDS_DIR   where to unpack, instead of target/haproxies and target/keepaliveds
#   HAPROXIES_SUITES                 which suites, instead of all known ones
#   HAPROXIES_MIRRORS                which mirrors, instead of the machine's own
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "${HAPROXIES_DIR:=$target/haproxies}" "${KEEPALIVEDS_DIR:=$target/keepaliveds}"
haproxies=$(cd "$HAPROXIES_DIR" && pwd)
keepaliveds=$(cd "$KEEPALIVEDS_DIR" && pwd)

# The program that is looked for, and where it is to be.
look_for() { # haproxy|keepalived
    program=$1
    case $program in
    haproxy) dir=$haproxies ;;
    keepalived) dir=$keepaliveds ;;
    esac
}

say() { printf 'unpack: %s\n' "$*" >&2; }

# shellcheck disable=SC1091
distribution=$(. /etc/os-release 2>/dev/null && printf %s "${ID:-debian}" || printf debian)
case $distribution in
ubuntu)
    suites=${HAPROXIES_SUITES:-focal jammy noble plucky questing}
    components='main universe'
    keyring_package=ubuntu-keyring
    keyring_name='ubuntu-archive-keyring.gpg'
    ;;
*)
    suites=${HAPROXIES_SUITES:-bullseye bookworm trixie forky sid}
    components='main'
    keyring_package=debian-archive-keyring
    keyring_name='debian-archive-keyring.gpg'
    ;;
esac

# The mirrors that the machine's own sources name, in their order (both formats of sources).
mirrors() {
    if [ -n "${HAPROXIES_MIRRORS:-}" ]; then
        printf '%s\n' $HAPROXIES_MIRRORS
        return
    fi
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' || true
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
            sed -nE 's/^URIs:[[:space:]]*//p' | tr -s '[:space:]' '\n' || true
    } | sed 's,/*$,,' | grep -E "/($distribution|debian|ubuntu)[a-z-]*\$" | awk '!seen[$0]++' || true
}

# Whether it can be started. (keepalived's -v wants a file of its package.)
runs() { # version
    case $program in
    haproxy) "$dir/$1/haproxy" -v ;;
    keepalived) "$dir/$1/keepalived" --help ;;
    esac
}

# What this script's stamp of a suite says, if its program still runs: "version path".
stamped() {
    local version
    version=$(cat "$dir/.stamp-$1" 2>/dev/null) || return 1
    [ -n "$version" ] && runs "$version" >/dev/null 2>&1 || return 1
    printf '%s %s\n' "$version" "$dir/$version/$program"
}

# A suite that could not be had is asked for again after a day.
skipped_lately() { [ -n "$(find "$dir/.skipped-$1" -mmin -1440 2>/dev/null)" ]; }

# apt for one suite and mirror, knowing nothing of what the machine has installed or configured as a source.
# The machine's own apt.conf.d still counts: a proxy is there if one is needed.
private_apt() { # suite mirror
    local apt=$scratch/apt-$1
    if [ "$(cat "$apt/mirror" 2>/dev/null)" = "$2" ]; then return 0; fi
    rm -rf "$apt"
    mkdir -p "$apt"/{etc,state/lists/partial,cache/archives/partial}
    : >"$apt/status"
    printf 'deb [target=Packages signed-by=%s] %s %s %s\n' "$keyring" "$2" "$1" "$components" >"$apt/etc/sources.list"
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Log "$apt";
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    apt-get -q -c "$apt/apt.conf" update -o APT::Update::Error-Mode=any >"$apt/update.log" 2>&1 &&
        printf %s "$2" >"$apt/mirror"
}

# The packages whose libraries the program needs: its dependencies that are libraries, and theirs.
closure() { # suite
    apt-cache -c "$scratch/apt-$1/apt.conf" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$program" 2>/dev/null |
        awk -v program="$program" '
            /^[^ ]/ { package = $1 }
            /^[ |]*(Pre)?Depends: (lib|zlib)[a-z0-9.+-]+$/ { needs[package] = needs[package] " " $NF }
            function walk(package, names, n, i) {
                if (seen[package]++) return
                print package
                n = split(needs[package], names, " ")
                for (i = 1; i <= n; i++) walk(names[i])
            }
            END { walk(program) }'
}

download() { # suite packages…
    local suite=$1
    shift
    (cd "$scratch/apt-$suite/cache" && apt-get -q -c "$scratch/apt-$suite/apt.conf" download "$@" \
        >"$scratch/apt-$suite/download.log" 2>&1)
}

# A newer keyring than the machine's, from a suite that the machine's own already vouches for: newer suites are
# signed with newer keys.
renew_keyring() { # suite
    download "$1" "$keyring_package" || return 0
    dpkg-deb -x "$scratch/apt-$1/cache/$keyring_package"_*.deb "$scratch/keys-$1" 2>/dev/null || return 0
    local newer
    newer=$(find "$scratch/keys-$1" -name "$keyring_name" -type f | head -n 1)
    [ -n "$newer" ] && keyring=$newer
}

# Unpacks the suite's program and prints its version; says why not on stderr.
unpack() { # suite
    local suite=$1 apt=$scratch/apt-$1 mirror version packages tree bin interpreter loader libs
    local had=no
    for mirror in $known_mirrors; do
        if private_apt "$suite" "$mirror" && apt-cache -c "$apt/apt.conf" show "$program" >"$apt/show" 2>/dev/null; then
            had=yes
            break
        fi
    done
    [ $had = yes ] || { say "$suite: no mirror of this machine offers it: $(grep -m1 -E '^[EW]:' "$apt/update.log" || echo "no $program package")"; return 1; }

    version=$(sed -nE 's/^Version: ([0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+).*/\2/p' "$apt/show" | sort -V | tail -n 1)
    [ -n "$version" ] || { say "$suite: the version of its $program is not x.y.z"; return 1; }
    if runs "$version" >/dev/null 2>&1; then
        printf '%s\n' "$version"
        return 0
    fi

    mapfile -t packages < <(closure "$suite")
    download "$suite" "${packages[@]}" || {
        say "$suite: can't download: $(grep -m1 '^E:' "$apt/download.log" || echo unknown)"
        return 1
    }
    tree=$scratch/tree-$program-$suite
    mkdir -p "$tree"
    local package
    for package in "${packages[@]}"; do
        dpkg-deb --fsys-tarfile "$apt/cache/$package"_*.deb | tar -x -C "$tree" --no-same-owner --exclude='./usr/share' --exclude='./etc'
    done
    # The package's own init script and unit, for tests/parity.rs; a package without one is no trouble.
    dpkg-deb --fsys-tarfile "$apt"/cache/"$program"_*.deb | tar -x -C "$tree" --no-same-owner "./etc/init.d/$program" \
        2>/dev/null || true
    # How keepalived was built, without which 2.3 does not start: in /etc, or beside the program (core/main.c).
    dpkg-deb --fsys-tarfile "$apt/cache/$program"_*.deb |
        tar -x -C "$tree" --no-same-owner ./etc/keepalived/keepalived.config-opts 2>/dev/null || true
    bin=$tree/usr/sbin/$program
    [ -x "$bin" ] || { say "$suite: its package has no /usr/sbin/$program"; return 1; }

    # Every library side by side in lib/: symlinks between them are relative within their own directory.
    local new=$scratch/new-$program-$suite
    mkdir -p "$new/lib"
    mv "$bin" "$new/$program"
    if [ -f "$tree/etc/keepalived/keepalived.config-opts" ]; then mv "$tree/etc/keepalived/keepalived.config-opts" "$new"; fi
    if [ -f "$tree/etc/init.d/$program" ]; then mv "$tree/etc/init.d/$program" "$new/init-script"; fi
    local unit
    for unit in "$tree"/lib/systemd/system/$program.service "$tree"/usr/lib/systemd/system/$program.service; do
        if [ -f "$unit" ]; then mv "$unit" "$new/unit"; fi
    done
    find "$tree" \( -type f -o -type l \) -name '*.so*' -path '*/lib*' -printf '%h\n' | sort -u | while read -r libs; do
        case $libs in */gconv | */audit | */ossl-modules | */engines-*) continue ;; esac
        find "$libs" -maxdepth 1 -name '*.so*' -exec cp -an -t "$new/lib" {} +
    done
    # The loader is a link to an absolute path in some suites: the file itself is found by its link's own last name.
    interpreter=$(patchelf --print-interpreter "$new/$program")
    loader=$(find "$new/lib" -maxdepth 1 -name "${interpreter##*/}" -type f | head -n 1)
    if [ -z "$loader" ]; then
        libs=$(find "$tree" -name "${interpreter##*/}" -type l | head -n 1)
        loader=$new/lib/$(basename "$(readlink "$libs")")
        [ -f "$loader" ] || { say "$suite: its C library has no loader ${interpreter##*/}"; return 1; }
    fi
    # --force-rpath: the libraries' own libraries, and those that libc opens by itself (NSS), are looked for here too.
    patchelf --set-interpreter "$dir/$version/lib/${loader##*/}" --force-rpath --set-rpath "$dir/$version/lib" "$new/$program"

    rm -rf "${dir:?}/$version"
    mv "$new" "$dir/$version"
    if ! runs "$version" >"$apt/run.log" 2>&1; then
        say "$suite: $program $version does not run here: $(head -n 1 "$apt/run.log")"
        rm -rf "${dir:?}/$version"
        return 1
    fi
    printf '%s\n' "$version"
}

# One at a time; whoever waited finds everything done.
exec 9>"$haproxies/.lock"
flock 9

scratch=''
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
keyring=/usr/share/keyrings/$keyring_name
known_mirrors=''

# What is needed for the first one that has to be unpacked.
prepare() {
    [ -z "$scratch" ] || [ -n "$ready" ] || return 1
    [ -z "$scratch" ] || return 0
    ready=''
    scratch=$(mktemp -d "$haproxies/.work-XXXXXX")
    local tool signer mirror
    for tool in apt-get dpkg-deb patchelf; do
        command -v "$tool" >/dev/null || { say "$tool is missing: install it first"; return 1; }
    done
    known_mirrors=$(mirrors)
    [ -n "$known_mirrors" ] || { say "this machine's apt sources name no $distribution mirror"; return 1; }
    [ -r "$keyring" ] || { say "$keyring is missing: install $keyring_package"; return 1; }
    ready=yes
    # The newest keyring that a chain from the machine's own reaches.
    for signer in $(printf '%s\n' $suites | tac); do
        for mirror in $known_mirrors; do
            private_apt "$signer" "$mirror" && renew_keyring "$signer" && return 0
        done
    done
}

found=''
for suite in $suites; do
    for which in haproxy keepalived; do
        look_for "$which"
        if line=$(stamped "$suite"); then
            found+=$line$'\n'
            continue
        fi
        if skipped_lately "$suite"; then
            say "$suite: $program: skipped ($(cat "$dir/.skipped-$suite"))"
            continue
        fi
        prepare || continue
        say "$suite: unpacking $program"
        if version=$(unpack "$suite"); then
            printf '%s\n' "$version" >"$dir/.stamp-$suite"
            rm -f "$dir/.skipped-$suite"
            found+="$version $dir/$version/$program"$'\n'
        else
            printf 'could not be had at %s\n' "$(date -u +%FT%TZ)" >"$dir/.skipped-$suite"
        fi
    done
done

printf %s "$found" | sort -uV
[[ $found == */haproxy$'\n'* ]] || { say "no HAProxy could be had"; exit 1; }
