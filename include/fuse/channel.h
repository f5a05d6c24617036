/*
 * FUSE: the kernel's requests in, answers out.
 *
 * A FuseVolume is what the channels of one mount share; a FuseChannel is one reactor's /dev/fuse
 * descriptor with a libfuse session and the journal that its requests are read into. fuse/ translates,
 * and keeps the journal; what a request means is vfs/'s business.
 *
 * Theory of operation: src/fuse/channel.c.
 */
#pragma once

#include "vfs/vfs.h"

typedef struct FuseVolume FuseVolume;
typedef struct FuseChannel FuseChannel;

/*
 * Forks the notifier (so: before there are threads) and sets vfs's notify hooks. finished(userdata) is called once, on some
 * reactor, when the kernel has no mount left and everything written is on the server. 0 or negative errno.
 */
int fuse_volume_new(Memory *memory, Vfs *vfs, void (*finished)(void *userdata), void *userdata, FuseVolume **ret);
/* After the channels' threads have ended. */
FuseVolume *fuse_volume_free(FuseVolume *volume);
/* Checks the tables, and leaves the report in the memory (vfs/verify.h). All of the channels' threads stand still. */
void fuse_volume_verify(FuseVolume *volume);

/*
 * The channel of reactor number index. This and the next are called on the thread that makes the reactors, before any of them
 * runs. 0 or negative errno.
 */
int fuse_channel_new(FuseVolume *volume, unsigned index, Reactor *reactor, VfsReactor *vr, FuseChannel **ret);
/* All channels are there: executes what a former worker left in their journals; then they read. */
void fuse_volume_recover(FuseVolume *volume);
FuseChannel *fuse_channel_free(FuseChannel *channel);

/*
 * Stops reading. left(userdata) is called once, on the channel's thread and perhaps at once, when every request that had
 * been read has been answered: from then on nothing is lost if the process ends.
 */
void fuse_channel_leave(FuseChannel *channel, void (*left)(void *userdata), void *userdata);
/* Every request that was read has been answered. On its thread, or when that has ended. */
bool fuse_channel_is_idle(const FuseChannel *channel);

/*
 * Answers every request with EIO, those in the journal too, until the kernel has no mount left (0). For a process that
 * does nothing else. What must not be lost (INIT, RELEASE) is left in the journal for a worker. 0, 1: it was told to leave, or
 * negative errno.
 */
int fuse_refuse(Memory *memory);
/* Before that: the signal that tells it to leave. It does between two requests, for one that was read is nobody else's. */
void fuse_refuse_until(int sig);
