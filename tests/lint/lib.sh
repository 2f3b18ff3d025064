# SPDX-License-Identifier: GPL-2.0-only
# lib.sh: what the lint scripts share: counting of findings, and a last line
# that says how many there were. Sourced with the repository as directory.
set -euo pipefail

findings=0

# report WHY: each line of standard input (FILE:LINE:TEXT) is a finding. Never the
# end of a pipe: that is a subshell, and its count would be lost.
report() {
	local why=$1 line
	while IFS= read -r line; do
		printf '%s\n    %s\n' "$line" "$why" >&2
		findings=$((findings + 1))
	done
}

conclude() {
	local name=$1
	if [ "$findings" -ne 0 ]; then
		printf '%s: %d findings\n' "$name" "$findings" >&2
		exit 1
	fi
	printf '%s: clean\n' "$name"
}
