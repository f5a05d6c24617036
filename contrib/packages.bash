# What nfsvol needs on Debian 12, and how it is installed. Sourced by try and test.
build_packages="gcc meson ninja-build pkg-config libfuse3-dev libnfs-dev libsystemd-dev libmount-dev libcap-dev
    libbsd-dev libmd-dev libinih-dev uthash-dev libjansson-dev linux-libc-dev libc6-dev"
server_packages="nfs-ganesha nfs-ganesha-vfs mount fuse3"
test_packages="libcriterion-dev clang libclang-rt-14-dev python3 iproute2 util-linux procps git rsync sqlite3 tar
    dpkg fio attr man-db"

# install_packages LIST: those that are missing. Services that come with them are not started.
install_packages() {
    local missing=() package policy=
    for package in $1; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || { echo "must be root to install: ${missing[*]}" >&2; return 1; }
    echo "installing: ${missing[*]}" >&2
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    local rc=0
    {
        apt-get -q -y update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}"
    } >"${INSTALL_LOG:-/dev/null}" 2>&1 || rc=$?
    [ -z "$policy" ] || rm -f "$policy"
    [ $rc = 0 ] || echo "apt-get failed${INSTALL_LOG:+, see $INSTALL_LOG}" >&2
    return $rc
}
