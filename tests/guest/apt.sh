# How Debian packages are got that are unpacked and never installed (sourced after lib.sh by fetch-kernel and fetch-qemu).
# apt works with a configuration and a state of its own, so neither /etc/apt nor /var/lib/apt nor /var/lib/dpkg is touched.
# shellcheck shell=bash

GUEST_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# guest_apt DIRECTORY: from here on apt works there. Its sources are to be written to $GUEST_APT/etc/sources.list.
guest_apt() {
	local uri suite
	GUEST_APT=$1
	guest_need apt-get=apt dpkg-deb=dpkg
	[ -r "$GUEST_KEYRING" ] || guest_die "missing $GUEST_KEYRING (package debian-archive-keyring)"

	# The mirror is the one that this machine already uses: it is the one known to
	# be reachable. --print-uris asks nothing of the network and takes no lock.
	guest_mirror=${POSTERN_DEBIAN_MIRROR-}
	guest_security=${POSTERN_DEBIAN_SECURITY_MIRROR-}
	while read -r uri suite; do
		case $suite in
		*-security) : "${guest_security:=$uri}" ;;
		bookworm* | trixie* | forky* | sid) : "${guest_mirror:=$uri}" ;;
		esac
	done < <(apt-get update --print-uris 2>/dev/null |
		sed -n "s|^'\(.*\)/dists/\([a-z-]*\)/InRelease'.*|\1 \2|p")
	[ -n "$guest_mirror" ] || guest_die "no Debian mirror in this machine's apt sources; set POSTERN_DEBIAN_MIRROR=URL"
	: "${guest_security:=$guest_mirror-security}"

	mkdir -p "$GUEST_APT"/{etc/apt.conf.d,etc/preferences.d,etc/trusted.gpg.d,state/lists/partial,cache/archives/partial}
	: >"$GUEST_APT/state/status"
	# APT_CONFIG is read before the directories of Dir::Etc, so the system's hooks
	# (which run on update and on install) are never seen. How to reach the mirror
	# (proxy, retries) is the only thing taken over from it.
	{
		cat <<-CONF
			Dir::Etc "$GUEST_APT/etc";
			Dir::Etc::Trusted "$GUEST_KEYRING";
			Dir::State "$GUEST_APT/state";
			Dir::State::Status "$GUEST_APT/state/status";
			Dir::Cache "$GUEST_APT/cache";
			Dir::Cache::pkgcache "";
			APT::Architecture "amd64";
			APT::Architectures { "amd64"; };
			APT::Sandbox::User "root";
			Acquire::Languages "none";
			Acquire::Retries "3";
		CONF
		apt-config dump | grep -E '^(Acquire::(http|https|Retries|ForceIPv|Check-Valid-Until|Check-Date)|Acquire::.*Proxy)' || :
	} >"$GUEST_APT/apt.conf"
	export APT_CONFIG=$GUEST_APT/apt.conf
}

# guest_apt_source SUITE: its line of sources.list. "security/X" is suite X of the security archive.
guest_apt_source() {
	local archive=$guest_mirror
	[ "${1#security/}" = "$1" ] || archive=$guest_security
	printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$GUEST_KEYRING" "$archive" "${1#security/}"
}
