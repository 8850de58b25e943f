#!/bin/sh
# What action.yml runs: `hareload deploy`, here or on $HOST. The environment has the action's inputs in capitals.
set -eu

# The words of the command line, one after the other: what is in the variables is never taken for shell.
set -- --output github --probation "$PROBATION"
if [ -n "$CONFIG" ]; then set -- "$@" --config "$CONFIG"; fi
if [ -n "$EXPECT_HASH" ]; then set -- "$@" --expect-hash "$EXPECT_HASH"; fi
newline='
'
# Each line of a variable is a word.
rest=$PROBES$newline
while [ -n "$rest" ]; do
    line=${rest%%"$newline"*}
    rest=${rest#*"$newline"}
    if [ -n "$line" ]; then set -- "$@" --probe "$line"; fi
done
rest=$EXTRA$newline
while [ -n "$rest" ]; do
    line=${rest%%"$newline"*}
    rest=${rest#*"$newline"}
    if [ -n "$line" ]; then set -- "$@" "$line"; fi
done

# It goes over as an archive, which is refused if it is cut off; of a directory without what begins with a dot.
candidate() {
    if [ -d "$CANDIDATE" ]; then
        tar -c -f - -C "$CANDIDATE" .
    else
        tar -c -h -f - -C "$(dirname -- "$CANDIDATE")" -- "$(basename -- "$CANDIDATE")"
    fi
}

# A word as a shell on the other side reads it again.
quoted() {
    printf "'"
    printf '%s' "$1" | sed "s/'/'\\\\''/g"
    printf "' "
}

case $CANDIDATE in -*) CANDIDATE=./$CANDIDATE ;; esac
code=0
if [ ! -e "$CANDIDATE" ]; then
    echo "::error::the candidate $CANDIDATE does not exist"
    code=2
elif [ -z "$HOST" ]; then
    hareload deploy "$CANDIDATE" "$@" || code=$?
else
    # By its path in the checkout it is shown.
    command="hareload deploy - --origin $(quoted "$CANDIDATE")"
    for word; do command="$command$(quoted "$word")"; done
    # There is no job over there: its summary comes back behind this line, and who has begun it is told.
    mark="hareload-summary-$$-${GITHUB_RUN_ID:-0}"
    remote="summary=\$(mktemp) || exit 1; code=0
GITHUB_ACTOR=$(quoted "${GITHUB_ACTOR:-}") GITHUB_STEP_SUMMARY=\$summary $command || code=\$?
printf '\\n%s\\n' $mark; cat -- \"\$summary\"; rm -f -- \"\$summary\"; exit \$code"
    answer=$(mktemp)
    trap 'rm -f "$answer"' EXIT
    candidate | ssh -o BatchMode=yes -- "$HOST" "sh -c $(quoted "$remote")" >"$answer" || code=$?
    sed "/^$mark\$/,\$d" "$answer"
    if [ "$code" -eq 255 ]; then echo "::error::ssh has failed: hareload history on $HOST tells whether it was deployed"; fi
    sed "1,/^$mark\$/d" "$answer" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then echo "exit-code=$code" >>"$GITHUB_OUTPUT"; fi
exit "$code"
