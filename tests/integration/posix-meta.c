/* Attributes: chmod(2), chown(2), stat(2), statfs(2), extended attributes. */
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "cases.h"

static void case_chmod(void) {
        static const unsigned modes[] = { 0, 0400, 0644, 0777, 01755, 02755, 04755, 07777 };
        int fd;

        file_text("a", "x");
        OK(mkdir("d", 0755));
        fd = file_open("a", O_RDONLY);
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
                OK(chmod("a", modes[i]));
                EQ(mode_of("a"), modes[i]);
                OK(fchmod(fd, modes[i] ^ 0111));
                EQ(mode_of("a"), modes[i] ^ 0111);
                OK(chmod("d", modes[i]));
                EQ(mode_of("d"), modes[i]);
        }
        FAILS(chmod("none", 0644), ENOENT);
        FAILS(chmod("a/b", 0644), ENOTDIR);
        CHECK(S_ISREG(stat_of("a").st_mode));
        EQ(size_of("a"), 1);
        OK(close(fd));
}

static void case_chmod_of_symlink_target(void) {
        file_text("a", "x");
        OK(symlink("a", "l"));
        OK(chmod("l", 0600));
        EQ(mode_of("a"), 0600);
}

static void case_chown(void) {
        int fd;

        file_text("a", "x");
        OK(chown("a", 1000, 2000));
        EQ(stat_of("a").st_uid, 1000);
        EQ(stat_of("a").st_gid, 2000);
        OK(chown("a", (uid_t) -1, 3000));
        EQ(stat_of("a").st_uid, 1000);
        EQ(stat_of("a").st_gid, 3000);
        OK(chown("a", 4000, (gid_t) -1));
        EQ(stat_of("a").st_uid, 4000);
        EQ(stat_of("a").st_gid, 3000);
        OK(chown("a", (uid_t) -1, (gid_t) -1));
        fd = file_open("a", O_RDONLY);
        OK(fchown(fd, 0, 0));
        EQ(stat_of("a").st_uid, 0);
        OK(chown("a", 2000000000, 2000000001));
        EQ(stat_of("a").st_uid, 2000000000);
        EQ(stat_of("a").st_gid, 2000000001);
        OK(close(fd));
}

static void case_lchown(void) {
        file_text("a", "x");
        OK(symlink("a", "l"));
        OK(lchown("l", 1000, 1001));
        EQ(lstat_of("l").st_uid, 1000);
        EQ(stat_of("a").st_uid, 0);
        OK(chown("l", 5, 6));
        EQ(stat_of("a").st_uid, 5);
        EQ(lstat_of("l").st_uid, 1000);
}

static void case_chown_by_owner(void) {
        pid_t pid;

        file_text("a", "x");
        file_text("roots", "x");
        OK(chown("a", 1000, 1000));
        OK(chmod("a", 06755));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, 2000);
                FAILS(chown("a", 1001, (gid_t) -1), EPERM);
                FAILS(chown("a", (uid_t) -1, 3000), EPERM);
                OK(chown("a", (uid_t) -1, 2000)); /* a group of his */
                FAILS(chmod("roots", 0777), EPERM);
                FAILS(chown("roots", 1000, 1000), EPERM);
                child_end();
        }
        child_wait(pid);
        EQ(stat_of("a").st_gid, 2000);
        EQ(mode_of("a"), 0755); /* chown(2) takes set-user-id and set-group-id away */
}

static void case_write_takes_setuid_away(void) {
        pid_t pid;

        file_text("a", "x");
        OK(chmod("a", 06777));
        pid = child_start();
        if (pid == 0) {
                int fd;

                become(1000, 1000, (gid_t) -1);
                fd = file_open("a", O_WRONLY);
                EQ(write(fd, "y", 1), 1);
                OK(close(fd));
                child_end();
        }
        child_wait(pid);
        EQ(mode_of("a"), 0777);
        OK(chmod("a", 06777));
        pid = child_start();
        if (pid == 0) {
                become(1000, 1000, (gid_t) -1);
                OK(truncate("a", 0));
                child_end();
        }
        child_wait(pid);
        EQ(mode_of("a"), on_nfs ? 06777 : 0777);
}

/* Not only when the file is closed: who has written sees it at once, and so does who asks by name. */
static void case_setid_bits_go_at_once(void) {
        struct stat st;
        pid_t pid;
        int fd;

        for (int how = 0; how < 2; how++) {
                file_text("a", "xyz");
                OK(chmod("a", 06777));
                pid = child_start();
                if (pid == 0) {
                        become(1000, 1000, (gid_t) -1);
                        fd = file_open("a", O_RDWR);
                        if (how == 0)
                                EQ(pwrite(fd, "w", 1, 0), 1);
                        else
                                OK(ftruncate(fd, 1));
                        OK(fstat(fd, &st));
                        EQ(st.st_mode & 07777, how == 1 && on_nfs ? 06777 : 0777);
                        EQ(mode_of("a"), st.st_mode & 07777);
                        OK(close(fd));
                        child_end();
                }
                child_wait(pid);
                EQ(mode_of("a"), how == 1 && on_nfs ? 06777 : 0777);
        }
        OK(chmod("a", 06755));
        fd = file_open("a", O_RDONLY);
        OK(fchown(fd, 1000, (gid_t) -1));
        OK(fstat(fd, &st));
        EQ(st.st_mode & 07777, 0755);
        OK(chmod("a", 06755));
        OK(chown("a", (uid_t) -1, 1000));
        EQ(mode_of("a"), 0755);
        /* without the group's x, the bit is not a matter of who runs it */
        OK(chmod("a", 02745));
        OK(chown("a", 0, 0));
        EQ(mode_of("a"), 02745);
        OK(close(fd));
}

static void case_setgid_directory(void) {
        OK(mkdir("d", 0755));
        OK(chown("d", 0, 5000));
        OK(chmod("d", 02775));
        file_text("d/a", "x");
        EQ(stat_of("d/a").st_gid, 5000);
        OK(mkdir("d/sub", 0755));
        EQ(stat_of("d/sub").st_gid, 5000);
        CHECK(mode_of("d/sub") & 02000);
        OK(symlink("x", "d/l"));
        EQ(lstat_of("d/l").st_gid, 5000);
}

static void case_stat_fields(void) {
        struct stat st, dir;

        file_text("a", "12345");
        st = stat_of("a");
        dir = stat_of(".");
        EQ(st.st_size, 5);
        EQ(st.st_nlink, 1);
        EQ(st.st_dev, dir.st_dev);
        CHECK(st.st_ino != 0 && st.st_ino != dir.st_ino);
        CHECK(st.st_blksize >= 512);
        CHECK(S_ISREG(st.st_mode));
        CHECK(st.st_blocks >= 0 && st.st_blocks <= 128);
}

static void case_stat_errors(void) {
        struct stat st;

        file_text("a", "x");
        FAILS(stat("none", &st), ENOENT);
        FAILS(stat("a/b", &st), ENOTDIR);
        FAILS(stat("", &st), ENOENT);
        FAILS(stat("a/", &st), ENOTDIR);
        FAILS(stat("none/..", &st), ENOENT);
        OK(fstatat(OK(open("a", O_RDONLY)), "", &st, AT_EMPTY_PATH));
        EQ(st.st_size, 1);
}

static void case_statx(void) {
        struct statx stx;

        file_text("a", "123");
        OK(statx(AT_FDCWD, "a", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx));
        EQ(stx.stx_size, 3);
        EQ(stx.stx_mode & 07777, 0644);
        OK(statx(AT_FDCWD, "a", AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &stx));
        EQ(stx.stx_size, 3);
        CHECK((stx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
}

static void case_inode_numbers_are_stable(void) {
        ino_t ino;
        int fd;

        OK(mkdir("d", 0755));
        file_text("d/a", "x");
        ino = stat_of("d/a").st_ino;
        fd = file_open("d/a", O_RDWR);
        OK(rename("d", "e"));
        OK(rename("e/a", "b"));
        OK(link("b", "c"));
        EQ(stat_of("b").st_ino, ino);
        EQ(stat_of("c").st_ino, ino);
        EQ(write(fd, "y", 1), 1);
        OK(close(fd));
        OK(chmod("b", 0600));
        EQ(stat_of("b").st_ino, ino);
}

static void case_statfs(void) {
        struct statvfs vfs, by_file;
        int fd;

        OK(statvfs(".", &vfs));
        CHECK(vfs.f_bsize >= 512 && vfs.f_frsize >= 512);
        CHECK(vfs.f_blocks > 0 && vfs.f_bfree <= vfs.f_blocks && vfs.f_bavail <= vfs.f_bfree);
        CHECK(vfs.f_files > 0 && vfs.f_ffree <= vfs.f_files);
        EQ(vfs.f_namemax, 255);
        fd = file_open("a", O_CREAT | O_RDWR);
        OK(fstatvfs(fd, &by_file));
        EQ(by_file.f_blocks, vfs.f_blocks);
        EQ(by_file.f_frsize, vfs.f_frsize);
        OK(close(fd));
}

static void case_xattr(void) {
        char buf[64];
        int fd;

        file_text("a", "x");
        fd = file_open("a", O_RDWR);
        if (!on_nfs) {
                if (setxattr("a", "trusted.x", "v", 1, 0) < 0 && errno == EOPNOTSUPP)
                        case_skip("extended attributes are not supported here");
                EQ(getxattr("a", "trusted.x", buf, sizeof buf), 1);
                EQ(buf[0], 'v');
                OK(removexattr("a", "trusted.x"));
                FAILS(getxattr("a", "trusted.x", buf, sizeof buf), ENODATA);
                OK(close(fd));
                return;
        }
        FAILS(getxattr("a", "user.x", buf, sizeof buf), EOPNOTSUPP);
        FAILS(setxattr("a", "user.x", "v", 1, 0), EOPNOTSUPP);
        FAILS(fsetxattr(fd, "user.x", "v", 1, XATTR_CREATE), EOPNOTSUPP);
        FAILS(removexattr("a", "user.x"), EOPNOTSUPP);
        FAILS(getxattr("a", "security.capability", buf, sizeof buf), EOPNOTSUPP);
        /* kernels differ in how they say that there is no ACL; for cp(1) and ls(1) both mean that */
        CHECK(getxattr("a", "system.posix_acl_access", buf, sizeof buf) < 0);
        CHECK(errno == EOPNOTSUPP || errno == ENODATA);
        if (listxattr("a", buf, sizeof buf) != 0)
                EQ(errno, EOPNOTSUPP);
        OK(close(fd));
}

const Case meta_cases[] = {
        CASE(chmod),
        CASE(chmod_of_symlink_target),
        CASE(chown),
        CASE(lchown),
        CASE(chown_by_owner),
        CASE(write_takes_setuid_away),
        CASE(setid_bits_go_at_once),
        CASE(setgid_directory),
        CASE(stat_fields),
        CASE(stat_errors),
        CASE(statx),
        CASE(inode_numbers_are_stable),
        CASE(statfs),
        CASE(xattr),
        { 0 },
};
