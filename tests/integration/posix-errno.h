/*
 * The group "errno": every system call times every errno that it gives. Its cases only look: each is a call that fails, in one
 * directory, and afterwards the directory is as it was.
 *
 *   posix-errno.c          the directory, the bad paths and descriptors, and the product of them and the calls
 *   posix-errno-paths.c    the calls that take a path
 *   posix-errno-fds.c      the calls that take a descriptor
 *   posix-errno-names.c    what applies to one call alone, of names
 *   posix-errno-files.c    and of open files
 */
#pragma once

#include "cases.h"

#define NONE (-1) /* instead of an errno: the call does not fail, or not because of this */

/* A path may be bad in one of these ways; and a call may not like what it finds there. */
enum {
        OF_FILE,
        OF_DIRECTORY,
        OF_FULL_DIRECTORY,
        OF_LINK,
        OF_LINK_TO_DIRECTORY,
        OF_DANGLING_LINK,
        OF_LOOP,
        OF_FIFO,
        OF_SOCKET,
        OF_DOT,
        OF_DOT_DOT,
        OF_MISSING,
        OF_MISSING_SLASH,
        OF_FILE_SLASH,
        OF_LINK_SLASH,
        OF_LINK_TO_DIRECTORY_SLASH,
        IN_MISSING,
        IN_FILE,
        IN_DANGLING_LINK,
        IN_LOOP,
        OF_EMPTY_PATH,
        OF_LONG_NAME,
        OF_LONG_PATH,
        OF_BAD_POINTER,
        AT_CLOSED_DESCRIPTOR,
        AT_FILE,
        IN_REMOVED_DIRECTORY,
        BELOW_UNSEARCHABLE,
        IN_UNWRITABLE,
        IN_STICKY,
        OF_SECRET_FILE,
        OF_SECRET_DIRECTORY,
        ON_READ_ONLY_MOUNT,
        OF_MOUNT_POINT,
        ON_OTHER_MOUNT,
        N_BAD_PATHS,
};

/* What a call does with a path: which of them are bad for it. */
enum {
        AT = 1,       /* it is told in which directory to begin */
        MAKES = 2,    /* it wants nothing to be there yet */
        TAKES = 4,    /* the name goes */
        REPLACES = 8, /* it makes the name, or takes what is there */
        CHANGES = 16, /* not on a read-only mount */
        STAYS = 32,   /* a symbolic link is not followed */
};

typedef struct PathCall {
        const char *name;
        long (*run)(int at, const char *path);
        unsigned does;
        const char *on;             /* the name that it works on; NULL: file, or new if it makes it */
        short instead[N_BAD_PATHS]; /* of the errno that is usual for such a path; 0: that one */
} PathCall;

enum {
        FD_CLOSED,
        FD_PATH, /* O_PATH */
        FD_READER,
        FD_WRITER,
        FD_DIRECTORY,
        FD_FIFO,
        FD_OF_OTHER,
        FD_ON_READ_ONLY_MOUNT,
        N_BAD_FDS,
};

typedef struct FdCall {
        const char *name;
        long (*run)(int fd);
        short instead[N_BAD_FDS]; /* of EBADF for those that are closed or O_PATH, and of no errno for the others */
} FdCall;

extern const PathCall errno_paths[];
extern const FdCall errno_fds[];
extern const Case errno_name_cases[], errno_file_cases[];

/* A case is a line of a list: call, errno, why, expression. X is ROW_FUNCTION, and then ROW_CASE. */
#define ROW_FUNCTION(call, err, why, ...)                                                                                        \
        static void call##_##err##_##why(void) {                                                                                 \
                row_fails("errno_" #call "_" #err "_" #why, (__VA_ARGS__), err, #__VA_ARGS__);                                   \
        }
#define ROW_CASE(call, err, why, ...) { "errno_" #call "_" #err "_" #why, .run = call##_##err##_##why },

/* The call that gave r gives err; or on NFS what is in the list of differences. */
void row_fails(const char *name, long r, int err, const char *what);

/* For use in an expression, before the call: (as_user(), unlink("sticky/file")). */
void as_user(void);
void mounted(unsigned long flags); /* the directory once more, at mnt, with these flags */
void in_removed(void);             /* the cwd is not there any more */
int fd_of(const char *path, int flags);
long exec_at(int at, const char *path, int flags); /* by a child, which becomes cat(1) if nothing is wrong */
int closed_fd(void);
void *nowhere(void); /* where no memory is */
bool is_nowhere(const void *p);
