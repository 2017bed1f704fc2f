#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# summary.sh LOG STATUS - what a run of `cargo test` did, from its output, and the exit code for it.
# Prints the tests of each binary, the names of those that failed, what was skipped and why, and last of all
# "N passed, N failed, N skipped" on a line of its own. A test that found its back end missing passes for cargo and
# says so with a line "SKIPPED name: reason"; here it counts as skipped.
set -euo pipefail
log=$1 status=$2
awk -v status="$status" '
  { gsub(/\033\[[0-9;]*m/, "") }
  /^ +Running |^ +Doc-tests / { name = $0; sub(/^ +/, "", name); sub(/ \(.*/, "", name); sub(/^Running /, "", name)
    if (match($0, /deps\/[^)]*-[0-9a-f]+\)/)) { crate = substr($0, RSTART + 5, RLENGTH - 6); sub(/-[0-9a-f]+$/, "", crate); name = crate ": " name } }
  /^test .* \.\.\. FAILED/ { failures[++failing] = name " " $2 }
  match($0, /SKIPPED .*/) { skips[++skipping] = substr($0, RSTART) }
  /^test result: / { match($0, /[0-9]+ passed/); p = substr($0, RSTART) + 0
    match($0, /[0-9]+ failed/); f = substr($0, RSTART) + 0; match($0, /[0-9]+ ignored/); i = substr($0, RSTART) + 0
    passed += p; failed += f; ignored += i; binaries++
    if (p + f + i) printf "  %5d passed %3d failed  %s\n", p, f, name }
  /^error(\[E[0-9]+\])?: / && !/^error: (test|doctest) failed/ && !/target.? failed/ { errors++ }
  END {
    for (n = 1; n <= failing; n++) print "FAILED " failures[n]
    for (n = 1; n <= skipping; n++) print skips[n]
    if (binaries == 0) print "no test ran"
    if (status != 0 && failed == 0) print "cargo failed (exit code " status ") though no test did: see above"
    printf "%d passed, %d failed, %d skipped\n", passed - skipping, failed, ignored + skipping
    exit (status != 0 || failed > 0 || passed == 0) ? 1 : 0
  }' "$log"
