/*
 * The journal's part of vfs/verify.h: each slot that is in use is a request that is being executed, and the other way round.
 */
#include "private.h"

static void verify_slot(VfsVerify *verify, FuseChannel *channel, uint32_t i, uint64_t *buffers) {
        FuseOp *fop = &channel->ops[i];
        Slot *slot = &channel->journal->slots[i];
        uint64_t what = (uint64_t) channel->index * SLOTS + i;
        uint32_t state = atomic_load(&slot->state);
        bool sound = slot->buffer >= -1 && slot->buffer < BUFFERS;

        if (!fop->active)
                return vfs_verify_equal(verify, VERIFY_SLOT_STATE, what, state, SLOT_FREE);
        vfs_verify_equal(verify, VERIFY_SLOT_STATE, what, state, state == SLOT_EXEC ? SLOT_EXEC : SLOT_QUEUED);
        vfs_verify_equal(verify, VERIFY_SLOT_REQUEST, what, sound && slot_is_sane(slot, slot_header(channel, slot)), true);
        if (sound && slot->buffer >= 0)
                buffers[slot->buffer / 64] |= UINT64_C(1) << slot->buffer % 64;
        vfs_verify_op(verify, &fop->op);
}

static void verify_channel(VfsVerify *verify, FuseChannel *channel) {
        uint64_t buffers[BUFFERS / 64] = { 0 };
        uint32_t high = journal_slots(channel->journal), n_active = 0, n_free = 0;
        const FuseOp *fop;

        vfs_verify_reactor(verify, channel->vr);
        for (uint32_t i = 0; i < high; i++) {
                verify_slot(verify, channel, i, buffers);
                n_active += channel->ops[i].active;
        }
        TAILQ_FOREACH(fop, &channel->free_ops, free_link)
                n_free++;
        vfs_verify_equal(verify, VERIFY_SLOT_COUNT, channel->index, channel->n_active, n_active);
        vfs_verify_equal(verify, VERIFY_SLOT_COUNT, channel->index, n_free, high - n_active);
        if (channel->read_buffer >= 0)
                buffers[channel->read_buffer / 64] |= UINT64_C(1) << channel->read_buffer % 64;
        for (unsigned w = 0; w < ELEMENTSOF(buffers); w++)
                vfs_verify_equal(verify, VERIFY_BUFFERS, channel->index, channel->taken[w], buffers[w]);
}

void fuse_volume_verify(FuseVolume *volume) {
        VfsVerify *verify = vfs_verify_begin(volume->vfs);

        for (unsigned i = 0; verify && i < volume->memory->n_reactors; i++)
                verify_channel(verify, volume->channels[i]);
        if (verify)
                vfs_verify_end(verify);
}
