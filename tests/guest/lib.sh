# Shared by the scripts of tests/guest (sourced, never run).
# shellcheck shell=bash

GUEST_LINES=(6.1 6.12 7)
# What an emulated machine is slow at is left out. AVX: QEMU 7.2 emulates its instructions one call at a time, and without it
# the ciphers are several times faster. ERMS, FSRM: with them kernel and libc copy by `rep movsb`, which QEMU does byte by
# byte; without them by words.
# shellcheck disable=SC2034 # used by the scripts that source this file
GUEST_CPU=max,-avx,-avx2,-erms,-fsrm
# shellcheck disable=SC2034 # used by the scripts that source this file
GUEST_CACHE=${POSTERN_CACHE:-/var/cache/postern}/guest

guest_say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

guest_die() {
	guest_say "error: $*"
	exit 1
}

# The lines are the three kernels that postern is tested on, nothing else.
guest_check_line() {
	local line
	for line in "${GUEST_LINES[@]}"; do
		[ "$1" = "$line" ] && return 0
	done
	guest_say "error: unknown kernel line '$1' (known: ${GUEST_LINES[*]})"
	exit 2
}

# guest_need PROGRAM=PACKAGE...: all that is missing is named at once, with the
# package that has it, since a developer would else learn it one run at a time.
guest_need() {
	local pair missing=()
	for pair in "$@"; do
		command -v "${pair%%=*}" >/dev/null || missing+=("${pair%%=*} (package ${pair#*=})")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	local text
	text=$(printf ', %s' "${missing[@]}")
	guest_die "missing programs: ${text#, }"
}

# guest_lock NAME: held until this script ends. Two test runs on one machine
# share the cache; neither may see what the other has half written.
guest_lock() {
	mkdir -p "$GUEST_CACHE" || guest_die "cannot make the cache directory $GUEST_CACHE"
	exec 9>"$GUEST_CACHE/.lock-$1" || guest_die "cannot open the lock $GUEST_CACHE/.lock-$1"
	flock -n 9 && return 0
	guest_say "waiting for another run that works on '$1'"
	flock 9
}
