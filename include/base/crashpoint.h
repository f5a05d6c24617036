/*
 * Points at which a worker can be made to die: each window between two changes of what a successor goes by.
 * For tests; only in builds with -Dcrash_points=true, and nothing at all in others.
 *
 * NFSVOL_CRASH_AT in the worker's environment says where: "all", or "NAME[:EVERY[:SIGNAL]],...". At such a point
 * the process kills itself with SIGKILL, or that signal, once in EVERY times, at random, and has logged "crash point
 * NAME" before.
 */
#pragma once

/* name, usual EVERY, the window */
#define CRASH_POINTS(X)                                                                                                          \
        X(SLOT_READING, "slot-reading", 15000, "a request has been read, its slot does not say so")                              \
        X(SLOT_QUEUED, "slot-queued", 15000, "... it says so, the request stands in the large buffer")                           \
        X(SLOT_MOVED, "slot-moved", 15000, "... and in the slot; nothing is done for it")                                        \
        X(FORGET_FREED, "forget-freed", 2000, "a FORGET's slot is free, it is not applied")                                      \
        X(EXECUTING, "executing", 4000, "it is noted that the server may execute it, it was not asked")                          \
        X(XID_NOTED, "xid-noted", 8000, "the XID is noted, nothing was sent under it")                                           \
        X(CALL_SENT, "call-sent", 8000, "RPCs were sent")                                                                        \
        X(REPLY_ARRIVED, "reply-arrived", 8000, "the server has answered, nothing is recorded")                                  \
        X(REPLY_KEPT, "reply-kept", 4000, "the kernel's reply is kept, and not written")                                         \
        X(REPLY_WRITTEN, "reply-written", 15000, "the kernel has the reply, the slot is not free")                               \
        X(SLOT_FREED, "slot-freed", 15000, "the slot is free")                                                                   \
        X(APPEND_PLACED, "append-placed", 1000, "an appending WRITE has its place")                                              \
        X(INODE_COUNTED, "inode-counted", 2000, "a lookup is counted, the kernel does not know")                                 \
        X(INODE_RELEASED, "inode-released", 2000, "an inode is no longer used")                                                  \
        X(HANDLE_TAKEN, "handle-taken", 60, "another handle of an inode is noted, the inode does not say so")                    \
        X(HANDLE_REPLACED, "handle-replaced", 60, "... and it does")                                                             \
        X(OPEN_ADDED, "open-added", 600, "a file is open, the kernel does not know")                                             \
        X(OPEN_REMOVED, "open-removed", 600, "a file is closed, its RELEASE is not answered")                                    \
        X(SILLY_NOTED, "silly-noted", 30, "an open file is noted as hidden, and is not")                                         \
        X(SILLY_HIDDEN, "silly-hidden", 60, "it has its .nfs name")                                                              \
        X(SILLY_TARGET, "silly-target", 60, "the same of a file that is renamed over")                                           \
        X(SILLY_REMOVED, "silly-removed", 60, "the .nfs name is gone, that is not noted")                                        \
        X(CREATE_MADE, "create-made", 300, "an exclusive CREATE was executed, its mode is not set")                              \
        X(EXTENT_FILLED, "extent-filled", 2000, "written data are copied, nothing says so")                                      \
        X(EXTENT_PUBLISHED, "extent-published", 2000, "they are kept, the WRITE is not answered")                                \
        X(EXTENT_ENLARGED, "extent-enlarged", 100, "they are there twice: in a larger extent, too")                              \
        X(EXTENT_GATHERED, "extent-gathered", 50, "... or in one with its neighbours")                                           \
        X(EXTENT_SENT, "extent-sent", 2000, "marked as sent, and not sent")                                                      \
        X(EXTENT_ANSWERED, "extent-answered", 2000, "the server has them, that is not noted")                                    \
        X(EXTENT_UNSTABLE, "extent-unstable", 300, "... in its memory, and that is noted")                                       \
        X(EXTENT_FREED, "extent-freed", 2000, "they are on its disk, the extent is free")                                        \
        X(COMMIT_SENT, "commit-sent", 60, "a COMMIT is about to go out")                                                         \
        X(COMMIT_ANSWERED, "commit-answered", 60, "it was answered, that is not noted")                                          \
        X(LOCK_ASKED, "lock-asked", 200, "a lock is noted as asked for")                                                         \
        X(LOCK_ANSWERED, "lock-answered", 200, "the lock manager has answered, that is not noted")                               \
        X(LOCK_HELD, "lock-held", 200, "a lock is held, what it replaces is not cut")                                            \
        X(LOCK_CUT, "lock-cut", 60, "a range is cut in two, its right part is noted")                                            \
        X(PORT_NOTED, "port-noted", 60, "the connection's port is noted")                                                        \
        X(MEMORY_LOADED, "memory-loaded", 60, "recovery: the tables are loaded")                                                 \
        X(INIT_REPLAYED, "init-replayed", 60, "recovery: INIT is negotiated again")                                              \
        X(SLOT_REPLAYED, "slot-replayed", 200, "recovery: one request of several")                                               \
        X(SERVING_SOON, "serving-soon", 60, "recovery: all is done, the keeper does not know")

#ifdef NFSVOL_CRASH_POINTS

enum CrashPoint {
#define CRASH_POINT_(id, name, every, window) CRASH_##id,
        CRASH_POINTS(CRASH_POINT_)
#undef CRASH_POINT_
                CRASH_N_POINTS,
};

/* Reads NFSVOL_CRASH_AT. 0, or -EINVAL: the log says what is wrong with it. */
int crash_points_load(void);
void crash_points_list(void); /* to standard output */
void crash_point_passed(enum CrashPoint point);

#define crash_point(id) crash_point_passed(CRASH_##id)

#else

#define crash_point(id) ((void) 0)

#endif
