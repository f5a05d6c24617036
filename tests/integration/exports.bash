#!/bin/bash
# Who may do what is the server's to say: exports that squash root, everybody, nobody; one that is read-only; one that goes
# away and comes back; users with groups; what is asked for each of them, also when the caches are warm.
T=/tmp/nfsvol-test.$$ # as in lib.bash, which is not there yet
more_exports() {
    export_block 2 squash_root "Squash = root_squash;"
    export_block 3 squash_all "Squash = all_squash; Anonymous_Uid = 1000; Anonymous_Gid = 1000;"
    export_block 4 read_only "Access_Type = RO;"
    [ -n "${1:-}" ] || export_block 5 sometimes ""
}
export_block() { # ID NAME SETTINGS
    echo "EXPORT { Export_Id = $1; Path = $T/server/$2; Pseudo = /$2; $3 FSAL { Name = VFS; } }"
}
G_EXPORTS=$(more_exports)
export G_EXPORTS
. "$(dirname "$0")/lib.bash"
before_server() { mkdir -p "$T"/server/{squash_root,squash_all,read_only,sometimes}; }

as() { # USER[:GROUPS] COMMAND...: in a shell
    local who=${1%%:*} groups=--clear-groups
    [ "$who" = "$1" ] || groups="--groups ${1#*:}"
    shift
    setpriv --reuid "$who" --regid "$who" $groups sh -c "$*"
}
owner() { (cd "$T/server" && stat -c %u:%g:%a "$1"); }
denied() { # USER COMMAND...: with EACCES or EPERM
    ! as "$@" >out 2>&1 || fail "$* is allowed" || return 1
    grep -q "Permission denied\|not permitted\|can't cd" out || { cat out; return 1; }
}

case_root_squashed() {
    local dir=$T/server/squash_root
    chmod 777 "$dir"
    mount_at "$M" "" 127.0.0.1:/squash_root
    echo x >"$M/root"
    case $(owner squash_root/root) in 0:*) fail "root is root there" ;; esac
    echo secret >"$dir/theirs" && chown 1000:1000 "$dir/theirs" && chmod 600 "$dir/theirs"
    denied 0 "cat $M/theirs"
    denied 0 "echo x >>$M/theirs"
    denied 0 "chown 1000 $M/root"
    [ "$(as 1000 "cat $M/theirs")" = secret ] # and now its pages are here
    denied 0 "cat $M/theirs"
    denied 1001 "cat $M/theirs"
    as 1000 "test -r $M/theirs && test ! -x $M/theirs"
    as 0 "test ! -r $M/theirs"
    rm -r "${dir:?}"/*
}

case_removed_and_aborted_squashed() { # its .nfs name goes, too: somebody who may remove it is found
    local dir=$T/server/squash_root holder
    mkdir "$dir/theirs"
    chown 1000:1000 "$dir/theirs"
    mount_at "$M" "" 127.0.0.1:/squash_root
    as 1000 "exec 9>$M/theirs/f; rm $M/theirs/f; exec sleep 60" & holder=$!
    wait_for 10 eval 'ls -A "$dir/theirs" | grep "^\.nfs"'
    abort_connection "$M"
    umount "$M" || umount -l "$M" # he may not have gone yet
    kill $holder || :
    wait $holder || :
    wait_for 20 keepers_are 0
    rmdir "$dir/theirs"
    rm -f "$NFSVOL_RUNDIR"/*.lock # an aborted volume leaves it behind
}

case_everybody_squashed() { # a pod that runs as 33 on an export of 1000
    local dir=$T/server/squash_all
    chown 1000:1000 "$dir"
    chmod 700 "$dir"
    mount_at "$M" "" 127.0.0.1:/squash_all
    as 33 "cd $M && echo one >f && mkdir d && ln -s f l && echo two >>f && chmod 600 f && echo three >d/g && mv d/g d/h && touch -d 2020-01-01 f"
    [ "$(owner squash_all/f)" = 1000:1000:600 ]
    [ "$(owner squash_all/d)" = 1000:1000:755 ]
    as 33 "test -r $M/f && test -w $M/f && test -x $M/d"
    [ "$(as 34 "cat $M/f")" = "$(printf 'one\ntwo')" ] # everybody is 1000
    [ "$(cat "$M/d/h")" = three ]
    as 33 "rm -r $M/f $M/d $M/l"
}

case_nobody_squashed() {
    mount_at "$M"
    mkdir "$M/private"
    chown 1000:1000 "$M/private"
    chmod 700 "$M/private"
    as 1000 "echo mine >$M/private/f; ls -l $M/private; cat $M/private/f" # warm
    denied 1001 "stat $M/private/f"
    denied 1001 "cat $M/private/f"
    denied 1001 "ls $M/private"
    denied 1001 "cd $M/private"
    denied 1001 "rm $M/private/f"
    [ "$(cat "$M/private/f")" = mine ]
    mkdir "$M/team"
    chown 0:2015 "$M/team"
    chmod 2770 "$M/team"
    as "1000:$(seq -s, 2001 2015)" "echo ours >$M/team/f"
    as "1001:$(seq -s, 2001 2015)" "cat $M/team/f"
    [ "$(owner export/team/f)" = 1000:2015:644 ]
    denied "1001:$(seq -s, 2001 2014)" "cat $M/team/f"
    chmod 755 "$M/private" # and allowed, at once
    as 1001 "cat $M/private/f"
    chmod 700 "$M/private"
    denied 1001 "cat $M/private/f"
    # what others may a group may not, on names that others have just used
    mkdir "$M/shut"
    echo theirs >"$M/shut/f"
    chown 0:2015 "$M/shut"
    chmod 705 "$M/shut"
    as 1001 "cat $M/shut/f; cd $M/shut; stat f"
    denied 1000:2015 "cat $M/shut/f"
    denied 1000:2015 "stat $M/shut/f"
    as 1001 "stat $M/shut/f"
    rm -r "$M/private" "$M/team" "$M/shut"
}

# Of a pod with a user namespace, and process ids of its own: at the server its users and groups are those that the machine knows,
# without idmap; by the fifteenth supplementary group, too.
case_callers_in_other_namespaces() {
    local pid
    unshare --user --pid --fork --kill-child sleep infinity & pid=$!
    trap "kill -KILL $pid" EXIT
    wait_for 5 sh -c "[ \$(readlink /proc/$pid/ns/user) != \$(readlink /proc/self/ns/user) ] && test -e /proc/$pid/ns/pid_for_children"
    echo "0 100000 65536" >"/proc/$pid/uid_map"
    echo "0 100000 65536" >"/proc/$pid/gid_map"
    in_pod() { # USER:GROUPS COMMAND
        nsenter --user="/proc/$pid/ns/user" --pid="/proc/$pid/ns/pid_for_children" --setuid 0 --setgid 0 \
            setpriv --reuid "${1%%:*}" --regid "${1%%:*}" --groups "${1#*:}" sh -c "$2"
    }
    mount_at "$M"
    mkdir "$M/team"
    chown 0:102015 "$M/team"
    chmod 2770 "$M/team"
    [ "$(in_pod 33:2000 'echo $$')" -lt 20 ] # other process ids
    in_pod "33:$(seq -s, 2001 2015)" "echo ours >$M/team/f && cat $M/team/f && test -w $M/team/f"
    [ "$(owner export/team/f)" = 100033:102015:644 ]
    [ "$(in_pod 33:2000 "stat -c %u:%g $M/team" 2>&1)" = 65534:2015 ] # root of the machine is nobody there
    not in_pod "33:$(seq -s, 2001 2014)" "cat $M/team/f" 2>out
    grep -q 'Permission denied' out
    not in_pod "0:0" "cat $M/team/f" 2>out # and its root is nobody here
    grep -q 'Permission denied' out
    as "33:$(seq -s, 102001 102015)" "cat $M/team/f"
    rm -r "$M/team"
}

case_changed_on_the_server() { # what it allows now counts when a file is opened
    mount_at "$M" actimeo=1
    echo x >"$M/f"
    chmod 644 "$M/f"
    as 1001 "cat $M/f"
    chmod 600 "$T/server/export/f"
    sleep 1.1
    denied 1001 "cat $M/f"
    chmod 644 "$T/server/export/f"
    sleep 1.1
    as 1001 "cat $M/f"
    rm "$M/f"
}

case_read_only() {
    echo old >"$T/server/read_only/f"
    mount_at "$M" "" 127.0.0.1:/read_only
    [ "$(cat "$M/f")" = old ]
    denied 0 "echo x >$M/f" # ACCESS says so
    denied 0 "echo x >>$M/f"
    denied 0 "truncate -s 1 $M/f"
    for command in "touch $M/new" "mkdir $M/d" "rm $M/f" "mv $M/f $M/g" "chmod 600 $M/f" \
        "ln $M/f $M/h" "ln -s x $M/l"; do
        ! sh -c "$command" 2>out || fail "$command works"
        grep -q 'Read-only file system' out || { echo "$command:"; cat out; false; }
    done
    [ "$(cat "$T/server/read_only/f")" = old ]
}

case_export_goes_and_comes_back() {
    echo x >"$T/server/sometimes/f"
    mount_at "$M" "" 127.0.0.1:/sometimes
    mount_at "$M.b"
    exec 8<"$M/f"
    cat "$M/f"
    server stop
    G_EXPORTS=$(more_exports without) server start 8<&-
    ! cat "$M/f" 2>out || fail "it is not exported, and read"
    cat out
    timeout 20 python3 - "$M" <<'END'
import errno, os, sys
for ask in os.statvfs, os.stat: # in time, and with an error from which kubelet concludes that the mount is dead, if with one
    try:
        ask(sys.argv[1])
    except OSError as e:
        print("#", ask.__name__, e)
        assert errno.errorcode[e.errno] in ("ENOTCONN", "ESTALE", "EIO", "EACCES", "EHOSTDOWN"), e
END
    echo y >"$M.b/y" # another volume of the same server
    server stop
    server start 8<&-
    sleep 1
    [ "$(cat "$M/f")" = x ]
    [ "$(cat <&8)" = x ]
    echo z >"$M/z"
    [ "$(cat "$T/server/sometimes/z")" = z ]
    exec 8<&-
    rm "$M/z" "$M.b/y"
}

# What is mounted below an export has inode numbers of its own; two files must not have the same.
case_mounted_below() {
    mkdir "$T/server/export/sub"
    mount -t tmpfs tmpfs "$T/server/export/sub"
    server stop
    server start
    for i in $(seq 20); do echo "$i" >"$T/server/export/f$i"; echo "$i" >"$T/server/export/sub/f$i"; done
    mount_at "$M"
    [ "$(cat "$M/sub/f7")" = 7 ]
    [ -z "$(stat -c %i "$M"/f* "$M"/sub/f* "$M" "$M/sub" | sort | uniq -d)" ]
    ls -i "$M/sub" | while read -r ino name; do [ "$(stat -c %i "$M/sub/$name")" = "$ino" ] || fail "$name"; done
    find "$M" -type f | wc -l | grep -q '^40$'
    echo more >"$M/sub/f7"
    [ "$(cat "$T/server/export/sub/f7")" = more ]
    ! mv "$M/f1" "$M/sub/f1" 2>out || [ "$(cat "$M/sub/f1")" = 1 ] # mv(1) copies
    rm -r "$M/sub"/* "$M"/f*
    umount -l "$T/server/export/sub" # the server has it open
    rmdir "$T/server/export/sub"
}

run_cases "$@"
