#!/usr/bin/env bash
# Tries hareload on this machine, in about ten seconds after the build, and leaves nothing behind:
#
#   sudo packaging/try.sh
#
# Needs Rust, and Debian or Ubuntu if HAProxy has to be installed. Starts a HAProxy of its own on free ports of 127.0.0.1
# with all its files in a scratch directory, opens new connections to it all the time, and reloads it: once well, and
# three times with a configuration that can't work. The last line says how many of the connections were lost.
# Exit code: 0 if everything was as promised, 1 if not, 2 if it could not be tried. A HAProxy that runs here already is
# not touched. Without root it works too, if HAProxy is installed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

# New connections a second, and how long the load may last whatever happens.
RATE=1000
LOAD_LIMIT_S=120
# How many connections have to pass before and after each step, so that each is tried by many.
BETWEEN=500
# How long the script itself waits for an answer or for the end of what it started.
PATIENCE_S=15

scratch='' policy='' kept_promise=yes
children=()
# Descriptors: 7 asks the load and 8 hears it, 9 holds the stranger; 6 is for one request.

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
cannot() { printf 'try: %s\n' "$*" >&2; exit 2; }
broken() { kept_promise=no; say "NOT AS PROMISED: $*"; }

# The HAProxies whose command line names our scratch directory: nobody else's does.
ours() {
    local line pid
    [ -n "$scratch" ] || return 0
    for line in /proc/[0-9]*/cmdline; do
        pid=${line#/proc/} pid=${pid%/cmdline}
        [ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)" 2>/dev/null)" = haproxy ] || continue
        tr '\0' '\n' <"$line" 2>/dev/null | grep -qF -- "$scratch/" && printf '%s\n' "$pid"
    done
}

wait_gone() {
    local until=$((SECONDS + PATIENCE_S))
    while [ -n "$(ours)" ] && [ $SECONDS -lt $until ]; do sleep 0.05; done
}

clean_up() {
    local code=$? pid
    trap - EXIT INT TERM HUP
    # The load and the stranger end with their standard input.
    exec 7>&- 8<&- 9>&-
    for pid in ${children[@]+"${children[@]}"}; do kill "$pid" 2>/dev/null; done
    for pid in $(ours); do kill -TERM "$pid" 2>/dev/null; done
    wait_gone
    for pid in $(ours); do kill -KILL "$pid" 2>/dev/null; done
    wait_gone
    [ -n "$policy" ] && rm -f "$policy"
    [ -n "$scratch" ] && rm -rf "$scratch"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- what is needed ---------------------------------------------------------------------------------------------------

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=()
command -v haproxy >/dev/null || missing+=(haproxy)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || cannot "${missing[*]} missing: run it as root once (sudo packaging/try.sh), or install it"
    command -v apt-get >/dev/null || cannot "${missing[*]} missing, and there is no apt-get to install it with"
    echo "installing ${missing[*]} (no service is started)"
    # Debian's package starts a service where there is an init system: a policy forbids it for this one call. Where the
    # machine has a policy of its own, that one stays.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >/dev/null || echo "apt-get update failed; trying with what is known" >&2
    apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null || cannot "could not install ${missing[*]}"
    [ -n "$policy" ] && rm -f "$policy" && policy=''
    command -v haproxy >/dev/null || cannot "HAProxy was installed and can't be found"
fi

# sudo's PATH leaves out the caller's ~/.cargo/bin, and HOME may be root's: cargo and rustup are those of the caller.
caller=${SUDO_USER:-$(id -un)}
home=$(getent passwd "$caller" | cut -d: -f6)
if ! command -v cargo >/dev/null; then
    for cargo_home in "${CARGO_HOME:-$home/.cargo}" "$home/.cargo" /usr/local/cargo; do
        [ -x "$cargo_home/bin/cargo" ] || continue
        export PATH=$cargo_home/bin:$PATH CARGO_HOME=$cargo_home
        # rustup keeps its toolchains beside: ~/.rustup, or /usr/local/rustup.
        for rustup_home in "${cargo_home%/*}/.rustup" "${cargo_home%/*}/rustup"; do
            [ -d "$rustup_home" ] && export RUSTUP_HOME=${RUSTUP_HOME:-$rustup_home}
        done
        break
    done
fi
command -v cargo >/dev/null || cannot "cargo is missing: install Rust first (https://rustup.rs)"

# Built as the owner of the checkout, so that nothing in it, or in ~/.cargo, becomes root's.
as_caller=()
if [ "$(id -u)" = 0 ] && [ "$caller" != root ] && [ "$(stat -c %U .)" = "$caller" ]; then
    as_caller=(runuser -u "$caller" -- env "HOME=$home" "PATH=$PATH")
fi
echo "building hareload (the first time takes a few minutes)"
${as_caller[@]+"${as_caller[@]}"} cargo build --quiet --release --locked -p hareload -p hareload-testkit --bin hareload \
    --example try_load || cannot "the build failed"
target=${CARGO_TARGET_DIR:-target}/release
hareload=$(realpath "$target/hareload") && try_load=$(realpath "$target/examples/try_load") ||
    cannot "the build has left no $target/hareload"

# --- the stage --------------------------------------------------------------------------------------------------------

scratch=$(mktemp -d /tmp/hareload-try.XXXXXX) || cannot "no scratch directory"
config=$scratch/haproxy.cfg pidfile=$scratch/haproxy.pid
mapfile -t ports < <("$try_load" free 2)
[ ${#ports[@]} = 2 ] || cannot "no free ports on 127.0.0.1"
port=${ports[0]} second=${ports[1]}

# write_config <generation> [line of global] [line of the frontend]
write_config() {
    cat >"$config" <<CONFIG
global
    maxconn 2000
    ${2:-}

defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s

frontend try
    bind 127.0.0.1:$port
    ${3:-}
    http-after-response set-header x-generation $1
    http-request return status 200 content-type text/plain string $1
CONFIG
}

# answers <port>: what the HAProxy there says that it is.
answers() {
    local answer
    exec 6<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET / HTTP/1.0\r\n\r\n' >&6
    answer=$(timeout "$PATIENCE_S" tail -n 1 <&6)
    exec 6>&-
    printf '%s' "${answer%$'\r'}"
}

# count: sets lost and all to what the load has seen so far.
count() {
    echo >&7 && read -r -t "$PATIENCE_S" lost all <&8 || cannot "the load has ended before its time"
}

# pass: lets some more connections come.
pass() {
    local goal until=$((SECONDS + PATIENCE_S))
    count
    goal=$((all + BETWEEN))
    while count && [ "$all" -lt "$goal" ]; do
        [ $SECONDS -lt $until ] || cannot "the load makes no connections"
        sleep 0.05
    done
}

# reload <exit code promised> <generation that serves afterwards>
reload() {
    local code serves before
    pass
    before=$lost
    "$hareload" reload --settings /dev/null --defaults-file /dev/null -f "$config" -p "$pidfile" --state-dir "$scratch/state" \
        --history-dir "$scratch/history" >"$scratch/said" 2>&1 7>&- 8<&- 9>&-
    code=$?
    sed 's/^/   | /' "$scratch/said"
    pass
    serves=$(answers "$port" 2>/dev/null)
    say "exit code $code; ${serves:-nobody} serves; connections lost by this step: $((lost - before))"
    [ "$code" = "$1" ] || broken "the exit code should be $1"
    [ "$serves" = "$2" ] || broken "$2 should serve"
    [ "$lost" = "$before" ] || broken "no connection should be lost"
}

write_config config-a
while IFS='=' read -r name _; do unset "$name"; done < <(env | grep '^HARELOAD_')
haproxy -D -f "$config" -p "$pidfile" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; cannot "HAProxy does not start"; }
[ "$(answers "$port")" = config-a ] || cannot "HAProxy does not answer on 127.0.0.1:$port"

mkfifo "$scratch/asks" "$scratch/tells"
"$try_load" load "127.0.0.1:$port" "$RATE" "$LOAD_LIMIT_S" <"$scratch/asks" >"$scratch/tells" 2>"$scratch/losses" &
load_pid=$!
children+=("$load_pid")
exec 7>"$scratch/asks" 8<"$scratch/tells"

title "$(haproxy -v | head -n 1 | cut -d' ' -f1-3) serves 127.0.0.1:$port; $RATE new connections a second, and each is counted"

# --- the reloads ------------------------------------------------------------------------------------------------------

title '1. A good configuration: config-b takes over from config-a, which was not started by hareload'
write_config config-b
reload 0 config-b
say 'Stock `haproxy -sf` resets a few connections in some of its reloads: those that wait in the old queue.'

title '2. A configuration whose chroot directory does not exist'
write_config config-c "chroot $scratch/nowhere"
haproxy -c -f "$config" >/dev/null 2>&1
say "\`haproxy -c\` finds nothing wrong with it: exit code $?"
reload 150 config-b
say 'Stock `haproxy -sf` up to 3.0 retires the old one first, exits with 0, and nobody serves.'

title '3. A configuration with one more port, which a stranger holds'
mkfifo "$scratch/stranger" "$scratch/taken"
"$try_load" stranger <"$scratch/stranger" >"$scratch/taken" 7>&- 8<&- &
stranger_pid=$!
children+=("$stranger_pid")
exec 9>"$scratch/stranger"
read -r -t "$PATIENCE_S" taken <"$scratch/taken" || cannot "the stranger has found no port"
write_config config-d '' "bind 127.0.0.1:$taken"
reload 150 config-b
exec 9>&-
wait "$stranger_pid" 2>/dev/null
say 'Stock `haproxy -sf` pauses the old one on every port for 2 s before it gives up, and nobody is answered.'

title '4. A configuration with a syntax error'
write_config config-e '' 'binnd 127.0.0.1:80'
reload 6 config-b
say 'Stock `haproxy -sf` refuses this one too: the one mistake that it is safe against.'

title '5. A good configuration again, with one more port'
write_config config-f '' "bind 127.0.0.1:$second"
reload 0 config-f
serves=$(answers "$second" 2>/dev/null)
say "127.0.0.1:$second: ${serves:-nobody} serves"
[ "$serves" = config-f ] || broken "config-f should serve the second port too"

title 'What hareload remembers (hareload history)'
"$hareload" history --settings /dev/null --history-dir "$scratch/history" | cut -c 1-110 |
    sed 's/^/   | /'

# --- the count --------------------------------------------------------------------------------------------------------

exec 7>&-
read -r -t "$PATIENCE_S" lost all <&8 || cannot "the load has not told its count"
wait "$load_pid" 2>/dev/null
if [ "$lost" != 0 ]; then
    broken "connections were lost"
    sed 's/^/   | /' "$scratch/losses"
fi
[ $kept_promise = yes ] || title 'Not everything was as promised: see above.'
printf '\n%sconnections lost: %s of %s%s\n' "$bold" "$lost" "$all" "$plain"
[ $kept_promise = yes ]
