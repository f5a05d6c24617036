/*
 * Who may do what. Each case prepares as root and then acts as uid 1000, gid 1000, with supplementary group
 * 2000. What root has done before, and what is in the caches because of it, must not help the user.
 */
#include <grp.h>

#include "cases.h"

#define UID   1000
#define GID   1000
#define GROUP 2000

static void as_user(void (*act)(void)) {
        pid_t pid = child_start();

        if (pid == 0) {
                become(UID, GID, GROUP);
                act();
                child_end();
        }
        child_wait(pid);
}

static void make(const char *name, uid_t uid, gid_t gid, mode_t mode) {
        file_text(name, "secret");
        OK(chown(name, uid, gid));
        OK(chmod(name, mode));
        file_is(name, "secret"); /* warm, in root's name */
}

static void private_file(void) {
        FAILS(open("a", O_RDONLY), EACCES);
        FAILS(open("a", O_WRONLY), EACCES);
        FAILS(open("a", O_RDWR), EACCES);
        FAILS(open("a", O_WRONLY | O_TRUNC), EACCES);
        FAILS(truncate("a", 0), EACCES);
        FAILS(access("a", R_OK), EACCES);
        FAILS(access("a", W_OK), EACCES);
        OK(access("a", F_OK));
        EQ(size_of("a"), 6);
}

static void case_access_file_of_other(void) {
        make("a", 0, 0, 0600);
        as_user(private_file);
        file_is("a", "secret");
        OK(chown("a", 3000, 3000));
        as_user(private_file);
}

static void readable_file(void) {
        file_is("a", "secret");
        FAILS(open("a", O_WRONLY), EACCES);
        FAILS(open("a", O_RDWR), EACCES);
        OK(access("a", R_OK));
        FAILS(access("a", W_OK), EACCES);
        FAILS(access("a", R_OK | W_OK), EACCES);
        FAILS(access("a", X_OK), EACCES);
}

static void case_access_readable_by_all(void) {
        make("a", 0, 0, 0644);
        as_user(readable_file);
}

static void write_only(void) {
        int fd;

        FAILS(open("a", O_RDONLY), EACCES);
        fd = OK(open("a", O_WRONLY));
        EQ(write(fd, "S", 1), 1);
        EQ(pwrite(fd, "E", 1, 1), 1);
        OK(close(fd));
        FAILS(access("a", R_OK), EACCES);
        OK(access("a", W_OK));
}

/* A write of a part of a page must not need to read the rest. */
static void case_access_write_only(void) {
        make("a", UID, GID, 0200);
        as_user(write_only);
        file_is("a", "SEcret");
}

static void group_file(void) {
        int fd = OK(open("a", O_RDWR));

        fd_is(fd, "secret");
        OK(close(fd));
        OK(access("a", R_OK | W_OK));
        FAILS(access("a", X_OK), EACCES);
        FAILS(open("other", O_RDONLY), EACCES);
}

static void case_access_supplementary_group(void) {
        make("a", 0, GROUP, 0660);
        make("other", 0, GROUP + 1, 0660);
        as_user(group_file);
}

/* A child in the groups from 7000 on. */
static pid_t in_groups(int n) {
        gid_t groups[32];
        pid_t pid;

        for (int i = 0; i < n; i++)
                groups[i] = (gid_t) (7000 + i);
        pid = child_start();
        if (pid == 0) {
                OK(setgroups((size_t) n, groups));
                OK(setresgid(GID, GID, GID));
                OK(setresuid(UID, UID, UID));
        }
        return pid;
}

static void case_access_fifteen_groups(void) {
        pid_t pid;

        make("first", 0, 7000, 0640);
        make("last", 0, 7014, 0640);
        make("none", 0, 7015, 0640);
        pid = in_groups(15);
        if (pid == 0) {
                file_is("first", "secret");
                file_is("last", "secret");
                FAILS(open("none", O_RDONLY), EACCES);
                child_end();
        }
        child_wait(pid);
}

/* AUTH_SYS has room for sixteen. */
static void case_access_twenty_groups(void) {
        static const char *const directories[] = { "g0", "g14", "g15", "g19" };
        static const gid_t of[] = { 7000, 7014, 7015, 7019 };
        char path[20];
        pid_t pid;

        for (int i = 0; i < 4; i++) {
                OK(mkdir(directories[i], 0770));
                OK(chown(directories[i], 0, of[i]));
                (void) snprintf(path, sizeof path, "%s/a", directories[i]);
                make(path, 0, of[i], 0660);
        }
        pid = in_groups(20);
        if (pid == 0) {
                for (int i = 0; i < 4; i++) {
                        (void) snprintf(path, sizeof path, "%s/a", directories[i]);
                        if (on_nfs && of[i] > 7015) {
                                FAILS(open(path, O_RDWR), EACCES);
                                continue;
                        }
                        file_is(path, "secret");
                        OK(close(file_open(path, O_RDWR)));
                }
                child_end();
        }
        child_wait(pid);
}

/* The owner's bits count for the owner, even where the group's would give more. */
static void owner_denied(void) {
        FAILS(open("a", O_RDONLY), EACCES);
        FAILS(access("a", R_OK), EACCES);
        OK(chmod("a", 0400));
        file_is("a", "secret");
}

static void case_access_owner_bits_first(void) {
        make("a", UID, GROUP, 0077);
        as_user(owner_denied);
}

static void private_directory(void) {
        struct stat st;

        FAILS(open("d/a", O_RDONLY), EACCES);
        FAILS(stat("d/a", &st), EACCES);
        FAILS(stat("d/none", &st), EACCES);
        FAILS(open("d/new", O_CREAT | O_WRONLY, 0644), EACCES);
        FAILS(open("d", O_RDONLY | O_DIRECTORY), EACCES);
        FAILS(chdir("d"), EACCES);
        FAILS(unlink("d/a"), EACCES);
        FAILS(mkdir("d/sub", 0755), EACCES);
        FAILS(rename("d/a", "d/b"), EACCES);
        FAILS(access("d/a", F_OK), EACCES);
        FAILS(access("d", X_OK), EACCES);
        OK(stat("d", &st));
}

/* What root looked up in a directory is not for those who may not search it. */
static void case_access_private_directory_warm(void) {
        OK(mkdir("d", 0700));
        make("d/a", 0, 0, 0666);
        file_is("d/a", "secret");
        CHECK(!exists("d/none"));
        as_user(private_directory);
        file_is("d/a", "secret");
        CHECK(!exists("d/none"));
        as_user(private_directory);
}

static void deep_private(void) {
        FAILS(open("d/sub/deeper/a", O_RDONLY), EACCES);
        FAILS(access("d/sub", F_OK), EACCES);
}

static void case_access_private_directory_above(void) {
        OK(mkdir("d", 0755));
        OK(mkdir("d/sub", 0755));
        OK(mkdir("d/sub/deeper", 0755));
        make("d/sub/deeper/a", 0, 0, 0666);
        OK(chmod("d", 0700)); /* it had been open to all, and the names may be remembered from then */
        as_user(deep_private);
}

static void search_only(void) {
        file_is("d/a", "secret");
        FAILS(open("d", O_RDONLY | O_DIRECTORY), EACCES);
        FAILS(open("d/new", O_CREAT | O_WRONLY, 0644), EACCES);
        OK(chdir("d"));
        file_is("a", "secret");
}

static void case_access_directory_search_only(void) {
        OK(mkdir("d", 0711));
        make("d/a", 0, 0, 0644);
        as_user(search_only);
}

static void sticky(void) {
        FAILS(unlink("d/roots"), EPERM);
        FAILS(rename("d/roots", "d/mine"), EPERM);
        OK(unlink("d/users"));
        file_text("d/mine", "x");
        FAILS(rename("d/mine", "d/roots"), EPERM);
        OK(unlink("d/mine"));
}

static void case_access_sticky_directory(void) {
        OK(mkdir("d", 0755));
        OK(chmod("d", 01777));
        make("d/roots", 0, 0, 0666);
        make("d/users", UID, GID, 0644);
        as_user(sticky);
        CHECK(exists("d/roots"));
}

static void read_only_directory(void) {
        FAILS(unlink("d/a"), EACCES);
        FAILS(open("d/b", O_CREAT | O_WRONLY, 0644), EACCES);
        FAILS(mkdir("d/e", 0755), EACCES);
        FAILS(symlink("x", "d/l"), EACCES);
        FAILS(link("d/a", "d/c"), EACCES);
        FAILS(rename("d/a", "d/c"), EACCES);
        FAILS(mkfifo("d/f", 0644), EACCES);
        FAILS(open("d/a", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
        FAILS(mkdir("d/a", 0755), EEXIST);
        OK(close(OK(open("d/a", O_CREAT | O_RDWR, 0644))));
}

static void case_access_directory_not_writable(void) {
        OK(mkdir("d", 0755));
        make("d/a", UID, GID, 0666);
        as_user(read_only_directory);
}

/* Rights that are taken away, and given, hold at once on the node where that was done. */
static void denied_now(void) {
        FAILS(open("a", O_RDONLY), EACCES);
        FAILS(access("a", R_OK), EACCES);
}
static void allowed_now(void) {
        OK(access("a", R_OK));
        file_is("a", "secret");
}

static void case_access_follows_chmod(void) {
        make("a", 0, 0, 0644);
        for (int i = 0; i < 5; i++) {
                as_user(allowed_now);
                OK(chmod("a", 0600));
                as_user(denied_now);
                OK(chown("a", 0, GROUP));
                OK(chmod("a", 0640));
                as_user(allowed_now);
                OK(chown("a", 0, 0));
                as_user(denied_now);
                OK(chmod("a", 0644));
        }
}

static void case_access_as_root(void) {
        make("a", UID, GID, 0);
        OK(access("a", R_OK | W_OK));
        FAILS(access("a", X_OK), EACCES);
        file_is("a", "secret");
        OK(chmod("a", 0100));
        OK(access("a", X_OK));
        FAILS(access("none", F_OK), ENOENT);
        FAILS(access("a", 077), EINVAL);
        OK(mkdir("d", 0));
        OK(access("d", R_OK | W_OK | X_OK));
        file_text("d/a", "x");
}

static void real_ids(void) {
        /* effective root, real user: access(2) asks for the real one */
        OK(setresgid(GID, 0, 0));
        OK(setresuid(UID, 0, 0));
        FAILS(access("a", R_OK), EACCES);
        OK(faccessat(AT_FDCWD, "a", R_OK, AT_EACCESS));
        file_is("a", "secret");
}

static void case_access_real_and_effective(void) {
        pid_t pid;

        make("a", 0, 0, 0600);
        pid = child_start();
        if (pid == 0) {
                real_ids();
                child_end();
        }
        child_wait(pid);
}

static void own_new_files(void) {
        struct stat st;

        file_text("d/a", "x");
        OK(mkdir("d/sub", 0700));
        OK(symlink("x", "d/l"));
        OK(mkfifo("d/f", 0600));
        for (const char *const *name = (const char *const[]){ "d/a", "d/sub", "d/l", "d/f", NULL }; *name; name++) {
                st = lstat_of(*name);
                EQ(st.st_uid, UID);
                EQ(st.st_gid, GID);
        }
        OK(chmod("d/a", 0));
        FAILS(open("d/a", O_RDONLY), EACCES);
        OK(unlink("d/a"));
}

static void case_access_new_files_belong_to_their_maker(void) {
        OK(mkdir("d", 0755));
        OK(chmod("d", 0777));
        as_user(own_new_files);
}

const Case access_cases[] = {
        CASE(access_file_of_other),
        CASE(access_readable_by_all),
        CASE(access_write_only),
        CASE(access_supplementary_group),
        CASE(access_fifteen_groups),
        CASE(access_twenty_groups),
        CASE(access_owner_bits_first),
        CASE(access_private_directory_warm),
        CASE(access_private_directory_above),
        CASE(access_directory_search_only),
        CASE(access_sticky_directory),
        CASE(access_directory_not_writable),
        CASE(access_follows_chmod),
        CASE(access_as_root),
        CASE(access_real_and_effective),
        CASE(access_new_files_belong_to_their_maker),
        { 0 },
};
