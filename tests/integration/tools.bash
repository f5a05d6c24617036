#!/bin/bash
# What people do with a volume: the usual tools, each compared with the same on a local directory.
export G_EXPORTS='MDCACHE { Dir_Chunk = 0; }' # see files.bash
. "$(dirname "$0")/lib.bash"

need() { command -v "$1" >/dev/null || { echo "no $1"; exit 77; }; }

# A tree of everything: files of many sizes, modes and times, symlinks, hard links, a fifo, odd names, holes.
make_tree() { # DIR
    python3 - "$1" <<'PY'
import os, random, sys
d = sys.argv[1]
random.seed(7)
os.mkdir(d)
for k in range(8):
    sub = f"{d}/sub{k}" + ("/deeper" if k % 2 else "")
    os.makedirs(sub)
    for i in range(40):
        p = f"{sub}/file {i}"
        with open(p, "wb") as f: f.write(random.randbytes(random.choice([0, 1, 100, 4095, 4096, 20000, 300000])))
        os.chmod(p, random.choice([0o644, 0o600, 0o755, 0o444, 0o4755]))
        os.utime(p, ns=(10**18 + i * 1234567, 10**18 + i * 7654321 + k))
    os.symlink("file 1", f"{sub}/link")
    os.symlink("x" * 3000, f"{sub}/long link")
    os.link(f"{sub}/file 2", f"{d}/hard {k}")
    os.mkfifo(f"{sub}/fifo", 0o640)
    os.utime(f"{sub}/fifo", ns=(10**18, 10**18 + 5))
with open(f"{d}/sparse", "wb") as f:
    f.truncate(50_000_000)
    f.seek(20_000_000)
    f.write(b"island" * 1000)
open(f"{d}/\udcff\nodd\t name", "w").close()
for p in ("sparse", "\udcff\nodd\t name"): os.utime(f"{d}/{p}", ns=(10**18, 10**18 + 123456789))
os.chown(f"{d}/sub0/file 3", 1234, 5678)
for top, _, _ in os.walk(d, topdown=False):
    os.utime(top, ns=(10**18, 10**18 + len(top)))
PY
}

# Every name with type, mode, owner, links, size, mtime (ns; not of symlinks: ganesha keeps none), target and contents.
# DIR_TIMES=no: without those of directories.
manifest() { # DIR
    python3 - "$1" <<'PY'
import hashlib, os, stat, sys
os.chdir(os.fsencode(sys.argv[1]))
for top, dirs, files in os.walk(b"."):
    dirs.sort()
    for name in sorted(dirs + files) + ([b""] if top == b"." else []):
        p = os.path.join(top, name)
        st = os.lstat(p)
        what = b""
        if stat.S_ISREG(st.st_mode): what = hashlib.md5(open(p, "rb").read()).hexdigest()
        if stat.S_ISLNK(st.st_mode): what = os.readlink(p)
        isdir = stat.S_ISDIR(st.st_mode)
        print(p, oct(st.st_mode), st.st_uid, st.st_gid, 0 if isdir else st.st_nlink, 0 if isdir else st.st_size,
              0 if stat.S_ISLNK(st.st_mode) or isdir and os.environ.get("DIR_TIMES") == "no" else st.st_mtime_ns, what)
PY
}

same_tree() { # DIR DIR
    manifest "$1" >"$T/manifest.1"
    manifest "$2" >"$T/manifest.2"
    diff "$T/manifest.1" "$T/manifest.2" >"$T/manifest.diff" || { head -n 20 "$T/manifest.diff"; return 1; }
}

prepare() { # the mount $M, a local directory $L, a tree in it
    L=$T/local
    rm -rf "$L" "$T"/server/export/*
    mkdir "$L"
    mount_at "$M"
}

finish() {
    [ "$(status_of restarts)" = 0 ]
    rm -rf "$L" "$M"/*
}

case_tar() {
    prepare
    make_tree "$L/tree"
    tar -C "$L" --format=posix -cf "$L/a.tar" tree
    tar -C "$M" -xpf "$L/a.tar"
    same_tree "$L/tree" "$M/tree"
    tar -C "$M" -df "$L/a.tar"
    diff -r --no-dereference "$L/tree/sub1" "$M/tree/sub1" 2>&1 | grep -v fifo | diff - /dev/null
    # and back
    tar -C "$M" --format=posix -cf "$M/b.tar" tree
    mkdir "$L/back"
    tar -C "$L/back" -xpf "$M/b.tar"
    same_tree "$L/tree" "$L/back/tree"
    finish
}

case_cp_a() {
    prepare
    make_tree "$L/tree"
    cp -a "$L/tree" "$M/tree"
    same_tree "$L/tree" "$M/tree"
    cp -a "$M/tree" "$M/again"
    same_tree "$L/tree" "$M/again"
    cp -a "$M/again" "$L/back"
    same_tree "$L/tree" "$L/back"
    finish
}

case_cp_sparse() {
    prepare
    make_tree "$L/tree"
    cp --sparse=always "$L/tree/sparse" "$M/sparse"
    cmp "$L/tree/sparse" "$M/sparse"
    [ "$(stat -c %b "$M/sparse")" -lt 1000 ] # blocks of 512
    cp --sparse=always "$M/sparse" "$L/back"
    cmp "$L/tree/sparse" "$L/back"
    [ "$(stat -c %b "$L/back")" -lt 1000 ]
    cp --sparse=never "$M/sparse" "$M/full"
    cmp "$L/tree/sparse" "$M/full"
    cp --reflink=auto "$M/sparse" "$M/auto"
    cmp "$L/tree/sparse" "$M/auto"
    finish
}

limit_git=120
case_git() {
    need git
    export HOME=$T GIT_CONFIG_NOSYSTEM=1
    git config --global user.email t@example.invalid
    git config --global user.name t
    git config --global init.defaultBranch main
    git config --global --add safe.directory '*'
    prepare
    python3 - "$L" <<'PY' | { git init -q "$L/repo"; git -C "$L/repo" fast-import --quiet; }
import random, sys
out = sys.stdout
random.seed(3)
files = {}
for c in range(300):
    out.write(f"commit refs/heads/main\nmark :{c + 1}\ncommitter t <t@example.invalid> {1600000000 + c} +0000\ndata 8\ncommit\n\n")
    if c: out.write(f"from :{c}\n")
    for _ in range(3):
        name = f"dir{random.randrange(10)}/sub{random.randrange(5)}/file{random.randrange(20)}"
        text = "".join(f"line {random.random()}\n" for _ in range(random.randrange(200)))
        out.write(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
PY
    git clone -q --no-hardlinks "$L/repo" "$M/clone"
    git clone -q --no-hardlinks "$L/repo" "$L/clone"
    git -C "$M/clone" fsck --full --strict
    [ "$(git -C "$M/clone" rev-list --count HEAD)" = 300 ]
    diff -r --exclude=.git "$L/clone" "$M/clone"
    git clone -q --no-hardlinks "$M/clone" "$M/clone2" # between two directories of the mount
    # work in it
    (
        cd "$M/clone"
        for i in 1 2 3 4 5 6 7 8 9 10; do
            echo "change $i" >>dir1/new
            git add -A
            git commit -qm "change $i"
        done
        git checkout -q HEAD~50
        [ -z "$(git status --porcelain)" ]
        git checkout -q main
        git mv dir1 moved
        git commit -qm move
        git gc -q --aggressive --prune=now
        git fsck --full --strict
        [ -z "$(git status --porcelain)" ]
        [ "$(git rev-list --count HEAD)" = 311 ]
    )
    git -C "$M/clone2" pull -q
    git -C "$M/clone2" fsck --full
    finish
}

case_rsync() {
    need rsync
    prepare
    make_tree "$L/tree"
    rsync -aHS "$L/tree" "$M/"
    same_tree "$L/tree" "$M/tree"
    rsync -aH "$M/tree" "$L/back/"
    same_tree "$L/tree" "$L/back/tree"
    # the second run has nothing to do
    rsync -aHc --omit-link-times --itemize-changes "$L/tree" "$M/" | diff - /dev/null
    rsync -aH --omit-link-times --itemize-changes "$M/tree" "$L/back/" | diff - /dev/null
    # and after a change only that goes (by default rsync takes times within one second for the same)
    echo changed >"$L/tree/sub0/file 5"
    rm "$L/tree/sub2/file 6"
    rsync -aH --omit-link-times --modify-window=-1 --delete --itemize-changes "$L/tree" "$M/" >out
    cat out
    [ "$(grep -c '^>f' out)" = 1 ]
    [ "$(grep -c '^\*deleting' out)" = 1 ]
    same_tree "$L/tree" "$M/tree"
    finish
}

sqlite_work() { # DB MODE
    python3 - "$1" "$2" <<'PY'
import os, random, sqlite3, sys
path, mode = sys.argv[1:]
random.seed(5)
db = sqlite3.connect(path, timeout=30)
got = db.execute(f"pragma journal_mode={mode}").fetchone()[0]
assert got == mode, got
db.execute("create table t (id integer primary key, k text, v blob)")
db.execute("create index tk on t (k)")
for i in range(300):
    with db:
        for _ in range(5):
            db.execute("insert into t (k, v) values (?, ?)", (str(random.random()), random.randbytes(random.randrange(3000))))
        if i % 5 == 0: db.execute("delete from t where id % 7 = ?", (i % 7,))
        if i % 9 == 0: db.execute("update t set v = ? where id % 11 = ?", (random.randbytes(100), i % 11))
    if i % 50 == 49:
        try:
            with db:
                db.execute("delete from t")
                raise ZeroDivisionError
        except ZeroDivisionError: pass
db.execute("vacuum")
print(db.execute("select count(*), sum(length(v)), sum(k) from t").fetchone())
print(db.execute("pragma integrity_check").fetchone())
db.close()
PY
}

sqlite_many() { # DB: processes that add, each 30 transactions, to one database
    python3 - "$1" <<'PY'
import multiprocessing, sqlite3, sys
path = sys.argv[1]
db = sqlite3.connect(path, timeout=60)
db.execute("create table if not exists n (who integer, i integer)")
db.commit()
db.close()
def work(who):
    c = sqlite3.connect(path, timeout=60)
    for i in range(30):
        with c:
            c.execute("begin immediate")
            c.execute("insert into n values (?, ?)", (who, i))
    c.close()
ps = [multiprocessing.Process(target=work, args=(w,)) for w in range(4)]
for p in ps: p.start()
for p in ps: p.join()
assert all(p.exitcode == 0 for p in ps)
db = sqlite3.connect(path)
assert db.execute("select count(*), count(distinct who * 1000 + i) from n").fetchone() == (120, 120)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
PY
}

limit_sqlite=120
case_sqlite() {
    prepare
    for mode in delete truncate persist; do
        sqlite_work "$L/$mode.db" $mode >"$L/out"
        sqlite_work "$M/$mode.db" $mode >"$M/out"
        grep -q ok "$M/out"
        cmp "$L/out" "$M/out"
    done
    sqlite_many "$M/delete.db"
    finish
}

# The write-ahead log's index is a file mapped by all: they are processes of one node, so that works too.
limit_sqlite_wal=120
case_sqlite_wal() {
    prepare
    sqlite_work "$L/wal.db" wal >"$L/out"
    sqlite_work "$M/wal.db" wal >"$M/out"
    grep -q ok "$M/out"
    cmp "$L/out" "$M/out"
    sqlite_many "$M/wal.db"
    finish
}

make_project() { # DIR: this project's own sources that need nothing but libc, and a Makefile
    mkdir -p "$1/include"
    cp -r "$top/src/base" "$1/base"
    cp -r "$top/include/base" "$1/include/base"
    cat >"$1/main.c" <<'C'
#include <stdio.h>
#include "generated.h"
int main(void) { return printf("%d\n", TOTAL) < 0; }
C
    cat >"$1/Makefile" <<'MAKE'
CFLAGS = -O1 -std=gnu11 -D_GNU_SOURCE -Iinclude -Ibase -I. -include stddef.h $(shell pkg-config --cflags libbsd-overlay)
OBJECTS = $(patsubst %.c,%.o,$(wildcard base/*.c)) $(foreach i,1 2 3 4 5 6 7 8 9 10 11 12,unit$(i).o)
all: program
program: main.o libproject.a
	$(CC) -o $@ main.o -L. -lproject
libproject.a: $(OBJECTS)
	ar rcsD $@ $^
main.o: generated.h
generated.h: Makefile
	echo '#define TOTAL 4711' >$@.tmp && mv $@.tmp $@
unit%.c: generated.h
	printf '#include "generated.h"\nint unit$*(int x) { return x * $* + TOTAL; }\n' >$@
clean:
	rm -f *.o base/*.o libproject.a program generated.h unit*.c
MAKE
}

limit_make=120
case_make() {
    need gcc
    need make
    prepare
    make_project "$L/project"
    make_project "$M/project"
    make -s -j4 -C "$L/project"
    make -s -j4 -C "$M/project"
    [ "$("$M/project/program")" = 4711 ]
    (cd "$L/project" && md5sum ./*.o base/*.o libproject.a) >"$L/sums"
    (cd "$M/project" && md5sum ./*.o base/*.o libproject.a) | diff "$L/sums" -
    make -C "$M/project" | grep -q 'Nothing to be done' # times are such that nothing is made again
    touch "$M/project/base/io.c"
    [ "$(make -n -C "$M/project" | grep -c -- ' -c ')" = 1 ]
    make -s -C "$M/project" clean
    [ "$(find "$M/project" -name '*.o' | wc -l)" = 0 ]
    finish
}

case_dpkg_deb() {
    need dpkg-deb
    prepare
    make_tree "$L/package"
    rm "$L"/package/*/fifo "$L"/package/*/*/fifo "$L"/package/*odd*
    mkdir "$L/package/DEBIAN"
    printf 'Package: nfsvol-test\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.invalid>\nDescription: test\n' \
        >"$L/package/DEBIAN/control"
    dpkg-deb -Zgzip -b "$L/package" "$L/p.deb"
    dpkg-deb -Zgzip -b "$L/package" "$M/p.deb"
    # dpkg-deb makes the symlinks last, which moves the times of their directories
    export DIR_TIMES=no
    dpkg-deb -x "$L/p.deb" "$L/out"
    dpkg-deb -x "$L/p.deb" "$M/out"
    same_tree "$L/out" "$M/out"
    dpkg-deb -x "$M/p.deb" "$M/out2"
    same_tree "$L/out" "$M/out2"
    finish
}

case_find_and_du() {
    prepare
    make_tree "$L/tree"
    cp -a "$L/tree" "$M/tree"
    (cd "$L/tree" && find . ! -type l -printf '%p %y %m %u %g %T@\n' | LC_ALL=C sort) >"$L/list"
    (cd "$M/tree" && find . ! -type l -printf '%p %y %m %u %g %T@\n' | LC_ALL=C sort) | diff "$L/list" -
    (cd "$L/tree" && find . -type f -size +100k -newermt 2001-01-01 | LC_ALL=C sort) >"$L/list"
    (cd "$M/tree" && find . -type f -size +100k -newermt 2001-01-01 | LC_ALL=C sort) | diff "$L/list" -
    # of files only: directories have no size that two file systems agree on
    (cd "$L/tree" && find . -type f -print0 | du -bc --files0-from=- | tail -n 1) >"$L/size"
    (cd "$M/tree" && find . -type f -print0 | du -bc --files0-from=- | tail -n 1) | diff "$L/size" -
    [ "$(du -s "$M/tree" | cut -f1)" = "$(du -s "$T/server/export/tree" | cut -f1)" ]
    grep -rlc island "$M/tree" | grep -q sparse
    rm -r "$M/tree"
    [ -z "$(ls -A "$M")" ]
    finish
}

case_shell_edits() { # sed -i, shell redirection, sort -o, patch, tail -f, mktemp, install, dd
    prepare
    for d in "$L" "$M"; do
        (
            cd "$d"
            seq 10000 >numbers
            sed -i 's/7/seven/' numbers
            sort -r -o numbers numbers
            { echo first; cat numbers; echo last; } >all
            head -n 100 all >>all
            sed 's/first/1st/' all >all.new
            diff -u --label a --label b all all.new >patch || :
            patch -s all patch
            cmp all all.new
            install -m 711 -o 5 all installed
            dd if=all of=dd bs=1000 seek=3 conv=notrunc status=none
            dd if=dd of=dd2 bs=512 skip=1 count=20 conv=sync,fsync status=none
            truncate -s 12345 dd2
            split -b 3000 all part.
            cat part.* | cmp - all
            gzip -k all && zcat all.gz | cmp - all && rm all.gz
            mv -T part.aa renamed
            ln -f renamed hard
            ln -sfn renamed soft
            cp -l renamed linked
        )
    done
    (cd "$L" && md5sum ./*) >"$T/sums"
    (cd "$M" && md5sum ./*) | diff "$T/sums" -
    [ "$(stat -c '%a %u %h' "$M/installed")" = '711 5 1' ]
    [ "$(stat -c %h "$M/renamed")" = 3 ]
    finish
}

fio_job() { # DIR NAME OPTIONS...
    local dir=$1 name=$2
    shift 2
    fio --directory="$dir" --name="$name" --size=24m --bsrange=512-128k --rw=randwrite --verify=crc32c --verify_fatal=1 \
        --do_verify=1 --ioengine=psync --output="$T/fio.out" --minimal --numjobs=2 "$@" || { cat "$T/fio.out"; return 1; }
    rm "$dir/$name".*
}

limit_fio=120
case_fio() {
    need fio
    prepare
    for d in "$L" "$M"; do
        fio_job "$d" buffered
        fio_job "$d" synced --fsync=64
        fio_job "$d" mapped --ioengine=mmap --bsrange=4k-64k
        fio_job "$d" mixed --rw=randrw
    done
    fio_job "$M" direct --direct=1 --bsrange=4k-256k
    fio_job "$M" deep --direct=1 --ioengine=libaio --iodepth=16 --bsrange=4k-64k
    finish
}

run_cases "$@"
