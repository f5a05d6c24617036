/*
 * What the channels of one mount share. See include/fuse/channel.h.
 */
#include "base/log.h"
#include "private.h"

int fuse_volume_new(Memory *memory, Vfs *vfs, void (*finished)(void *userdata), void *userdata, FuseVolume **ret) {
        FuseVolume *volume;
        int r;

        if (!memory_init_is_sane(memory)) {
                log_error("what the kernel and we agreed on is damaged");
                return -EPROTO;
        }
        volume = calloc(1, sizeof *volume);
        if (!volume)
                return -ENOMEM;
        volume->memory = memory;
        volume->vfs = vfs;
        volume->finished = finished;
        volume->userdata = userdata;
        r = notifier_new(volume, &volume->notifier);
        if (r < 0) {
                free(volume);
                return r;
        }
        *ret = volume;
        return 0;
}

FuseVolume *fuse_volume_free(FuseVolume *volume) {
        if (!volume)
                return NULL;
        (void) notifier_free(volume->notifier);
        free(volume);
        return NULL;
}
