# What nfsvol needs on Debian 12, how it is installed, and how it is taken away again. Sourced by try and test.
build_packages="gcc meson ninja-build pkg-config libfuse3-dev libnfs-dev libsystemd-dev libmount-dev libcap-dev
    libseccomp-dev libbsd-dev libmd-dev libinih-dev uthash-dev libjansson-dev linux-libc-dev libc6-dev"
server_packages="nfs-ganesha nfs-ganesha-vfs mount fuse3"
test_packages="libcriterion-dev systemd dbus e2fsprogs python3 iproute2 util-linux procps git rsync sqlite3 tar dpkg fio attr man-db
    make patch"
clang_packages="clang libclang-rt-14-dev"

packages_now() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | sort -u; }
accounts_now() { cut -d: -f1 /etc/passwd | sort; }
groups_now() { cut -d: -f1 /etc/group | sort; }
units_now() { find /etc/systemd/system -type l 2>/dev/null | sort; }

# install_packages STATE LIST: those that are missing. What came with them is noted in the directory STATE.
# Services that come with them are not started.
install_packages() {
    local state=$1 missing=() package what policy= rc=0
    for package in $2; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || { echo "must be root to install: ${missing[*]}" >&2; return 1; }
    echo "installing: ${missing[*]}" >&2
    mkdir -p "$state"
    for what in packages accounts groups units; do
        "${what}_now" >"$state/$what.before"
    done
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    {
        apt-get -q -y update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Keep-Downloaded-Packages=false \
                install --no-install-recommends "${missing[@]}"
    } >"$state/install.log" 2>&1 || rc=$?
    [ -z "$policy" ] || rm -f "$policy"
    for what in packages accounts groups units; do # also what came before it failed
        "${what}_now" | comm -13 "$state/$what.before" - >>"$state/$what"
    done
    [ $rc = 0 ] || { tail -n 5 "$state/install.log"; echo "apt-get failed, see $state/install.log"; } >&2
    return $rc
}

# remove_packages STATE: those that install_packages installed, with their configuration, and the accounts that
# they made and left, and the links to units that are no more.
remove_packages() {
    local state=$1 packages name
    [ -s "$state/packages" ] || return 0
    packages=$(packages_now | comm -12 - <(sort -u "$state/packages"))
    echo "removing: $(echo $packages)" >&2
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -q -y purge $packages >"$state/remove.log" 2>&1 ||
        { tail -n 5 "$state/remove.log"; echo "apt-get failed, see $state/remove.log"; return 1; } >&2
    for name in $(accounts_now | comm -12 - <(sort -u "$state/accounts")); do userdel "$name"; done
    for name in $(groups_now | comm -12 - <(sort -u "$state/groups")); do groupdel "$name"; done
    for name in $(units_now | comm -12 - <(sort -u "$state/units")); do
        [ -e "$name" ] || { rm "$name" && rmdir --ignore-fail-on-non-empty "$(dirname "$name")"; }
    done
}

# provide_mtab STATE: nfs-ganesha reads it, and the smallest installations have none. remove_mtab STATE undoes it.
provide_mtab() {
    [ ! -e /etc/mtab ] || return 0
    mkdir -p "$1"
    touch "$1/mtab"
    ln -s ../proc/self/mounts /etc/mtab
}

remove_mtab() {
    [ ! -e "$1/mtab" ] || [ ! -L /etc/mtab ] || rm /etc/mtab
}
