/*
 * Names that go: REMOVE, RMDIR, RENAME; and files that are unlinked while somebody has them open.
 *
 * NFSv3 knows no open files: a REMOVE takes the data away from under those who have it open. As the kernel's
 * client does, such a file is renamed to ".nfs<fileid><node id><volume>" instead and removed at its last
 * close. A directory knows how many open files have their name in it, and the volume how many have names that
 * may be anywhere (open.c); only if there are any does an unlink, or a rename over a name, first look up what
 * the name means.
 *
 * Executed twice (see name.c): ENOENT after a lost reply means that the name is gone, by our doing. What a dead worker sent
 * is sent again without looking first: the names may mean something else by now, because it was executed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <linux/fs.h>

#include "base/crashpoint.h"
#include "base/log.h"
#include "volume.h"

#define SILLY_NAME_SIZE 48

enum { STEP_REMOVE, STEP_HIDE }; /* op_send_changing(): unlink, rmdir */
enum { STEP_RENAME, STEP_LINK_TARGET, STEP_MOVE_TARGET }; /* rename */

static void remove_again(Op *op);
static void remove_look(Op *op);
static void remove_look_done(NfsCall *call);
static void remove_hide(Op *op, Inode *victim);
static void remove_hide_done(NfsCall *call);
static void remove_send(Op *op);
static void remove_done(NfsCall *call);

static void rename_again(Op *op);
static void rename_begin(Op *op);
static void rename_look(Op *op);
static void rename_look_done(NfsCall *call);
static void hide_target(Op *op, Inode *victim, unsigned step);
static void link_target(Op *op);
static void link_target_done(NfsCall *call);
static void move_target(Op *op);
static void hide_target_done(NfsCall *call);
static void rename_send(Op *op);
static void rename_done(NfsCall *call);
static void rename_follow(Op *op);
static void rename_follow_done(NfsCall *call);

static void silly_name(const Vfs *vfs, const Inode *inode, char buf[static SILLY_NAME_SIZE]) {
        (void) snprintf(buf, SILLY_NAME_SIZE, ".nfs%016llx%08x%08x", (unsigned long long) inode->record->fileid,
                        (uint32_t) inode->nodeid, (uint32_t) vfs->memory->connection_id);
}

static bool may_be_own_effect(const Op *op) {
        return op->replayed || op->call.n_sent > 1;
}

/* The open file that a dead worker was hiding, pinned; NULL: none. */
static Inode *replayed_victim(Op *op) {
        return op->object ? inode_pin_fh(op->reactor->vfs, op->object) : NULL;
}

/* ---- unlink, rmdir ---- */

void vfs_unlink(Op *op, uint64_t parent, const char *name) {
        if (!op_begin(op, parent))
                return;
        (void) snprintf(op->name.name, sizeof op->name.name, "%s", name);
        op->name.type = S_IFREG;
        removal_begin(op, op->inode);
        if (op->replayed)
                return remove_again(op);
        if (open_children(op->reactor->vfs, op->inode) > 0)
                return remove_look(op);
        remove_send(op);
}

void vfs_rmdir(Op *op, uint64_t parent, const char *name) {
        if (!op_begin(op, parent))
                return;
        (void) snprintf(op->name.name, sizeof op->name.name, "%s", name);
        op->name.type = S_IFDIR;
        remove_send(op);
}

/* A worker died over it: the RPC that it sent goes out again as it was. */
static void remove_again(Op *op) {
        Inode *victim = replayed_victim(op);

        if (op->replayed_step == STEP_HIDE && victim)
                return remove_hide(op, victim);
        if (victim)
                inode_unpin(op->reactor->vfs, victim);
        remove_send(op);
}

static void remove_look(Op *op) {
        op_call(op, NFS_LOOKUP, inode_fh(op->inode), remove_look_done)->name = op->name.name;
        op_send(op);
}

/* The open file that a LOOKUP found, pinned, if its last name is about to go; else NULL. */
static Inode *open_victim(Op *op, const NfsCall *call) {
        Vfs *vfs = op->reactor->vfs;
        Inode *victim;

        if (call->err || (call->res.has_attr && call->res.attr.nlink > 1))
                return NULL;
        victim = inode_pin_fh(vfs, &call->res.fh);
        /* a name of what is hidden already: a .nfs name, or, if a worker died over this, the one that is to go */
        if (victim && ((victim->record->silly_dir && !op->recovered) || !S_ISREG(victim->record->type) || !inode_is_open(vfs, victim))) {
                inode_unpin(vfs, victim);
                return NULL;
        }
        return victim;
}

static void remove_look_done(NfsCall *call) {
        Op *op = op_done(call);
        Inode *victim = open_victim(op, call);

        if (call->err == EINTR)
                return op_reply_err(op, EINTR);
        if (victim)
                return remove_hide(op, victim);
        remove_send(op);
}

/* It has its .nfs name now. Its last close may have come in the meantime, and removed nothing. */
static void note_hidden(Op *op, Inode *victim, Inode *dir) {
        cache_expire(victim);
        if (!inode_give_up(op->reactor->vfs, victim))
                return;
        victim->record->silly_dir = dir->nodeid;
        remove_silly(op->reactor, victim, &op->cred);
}

static void remove_hide(Op *op, Inode *victim) {
        NfsArgs *args;

        op->inode2 = victim;
        victim->record->silly_dir = op->inode->nodeid; /* before: a successor must know that there is something to remove */
        crash_point(SILLY_NOTED);
        silly_name(op->reactor->vfs, victim, op->name.to_name);
        args = op_call(op, NFS_RENAME, inode_fh(op->inode), remove_hide_done);
        args->name = op->name.name;
        args->rename.to_dir = inode_fh(op->inode);
        args->rename.to_name = op->name.to_name;
        op_send_changing(op, STEP_HIDE, inode_fh(victim));
}

static void remove_hide_done(NfsCall *call) {
        Op *op = op_done(call);

        cache_dir_changed(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        if (call->err && !(call->err == ENOENT && may_be_own_effect(op))) {
                op->inode2->record->silly_dir = 0;
                return op_reply_err(op, call->err);
        }
        crash_point(SILLY_HIDDEN);
        note_hidden(op, op->inode2, op->inode);
        op_reply_err(op, 0);
}

static void remove_send(Op *op) {
        enum NfsProc proc = S_ISDIR(op->name.type) ? NFS_RMDIR : NFS_REMOVE;

        op_call(op, proc, inode_fh(op->inode), remove_done)->name = op->name.name;
        op_send_changing(op, STEP_REMOVE, NULL);
}

static void remove_done(NfsCall *call) {
        Op *op = op_done(call);

        cache_name_gone(op->reactor->vfs);
        cache_dir_changed(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        if (call->err == ENOENT && may_be_own_effect(op))
                call->err = 0;
        op_reply_err(op, call->err);
}

/* ---- rename ---- */

/* inode: from the directory, inode2: to the directory. */
void vfs_rename(Op *op, uint64_t parent, const char *name, uint64_t to_parent, const char *to_name,
                unsigned flags) {
        if (flags & ~(unsigned) RENAME_NOREPLACE)
                return op_reply_err(op, EINVAL);
        if (!op_begin(op, parent) || !op_begin2(op, to_parent))
                return;
        (void) snprintf(op->name.name, sizeof op->name.name, "%s", name);
        (void) snprintf(op->name.to_name, sizeof op->name.to_name, "%s", to_name);
        op->name.flags = (int) flags;
        removal_begin(op, op->inode2);
        if (op->replayed)
                return rename_again(op);
        rename_begin(op);
}

/* A worker died over it: the RPC that it sent goes out again as it was. */
static void rename_again(Op *op) {
        Inode *victim = replayed_victim(op);

        if (op->replayed_step != STEP_RENAME && victim)
                return hide_target(op, victim, op->replayed_step);
        if (victim)
                inode_unpin(op->reactor->vfs, victim);
        rename_send(op);
}

static void rename_begin(Op *op) {
        if (op->name.flags || open_children(op->reactor->vfs, op->inode2) > 0)
                return rename_look(op);
        rename_send(op);
}

static void rename_look(Op *op) {
        op_call(op, NFS_LOOKUP, inode_fh(op->inode2), rename_look_done)->name = op->name.to_name;
        op_send(op);
}

static void hide_target_done(NfsCall *call) {
        Op *op = op_done(call);
        Inode *victim = inode_pin_fh(op->reactor->vfs, &op->name.fh);

        cache_dir_changed(op->reactor->vfs, op->inode2, &call->res.wcc, call_time(call));
        if (victim && call->err && !(call->err == ENOENT && may_be_own_effect(op)))
                victim->record->silly_dir = 0;
        else if (victim)
                note_hidden(op, victim, op->inode2);
        if (victim)
                inode_unpin(op->reactor->vfs, victim);
        rename_send(op);
}

/*
 * The name that is renamed over belongs to an open file: that gets a second name first, so that there is no instant at
 * which the name is missing.
 */
static void hide_target(Op *op, Inode *victim, unsigned step) {
        char hidden[SILLY_NAME_SIZE];

        silly_name(op->reactor->vfs, victim, hidden);
        op->name.fh = *inode_fh(victim);
        op->name.hidden = strdup(hidden);
        if (op->name.hidden)
                victim->record->silly_dir = op->inode2->nodeid;
        crash_point(SILLY_TARGET);
        inode_unpin(op->reactor->vfs, victim);
        if (!op->name.hidden)
                return op_reply_err(op, ENOMEM);
        if (step == STEP_MOVE_TARGET)
                return move_target(op);
        link_target(op);
}

static void link_target(Op *op) {
        op_call(op, NFS_LINK, &op->name.fh, link_target_done)->name = op->name.hidden;
        op->call.args.link.dir = inode_fh(op->inode2);
        op_send_changing(op, STEP_LINK_TARGET, &op->name.fh);
}

static void link_target_done(NfsCall *call) {
        Op *op = OP_OF(call);

        if (call->err == EEXIST && may_be_own_effect(op))
                call->err = 0;
        if (call->err != EOPNOTSUPP && call->err != EMLINK && call->err != EPERM)
                return hide_target_done(call);
        move_target(op_done(call));
}

/* Not every server, and not every file system behind one, has links: then it is moved away. */
static void move_target(Op *op) {
        NfsArgs *args = op_call(op, NFS_RENAME, inode_fh(op->inode2), hide_target_done);

        args->name = op->name.to_name;
        args->rename.to_dir = inode_fh(op->inode2);
        args->rename.to_name = op->name.hidden;
        op_send_changing(op, STEP_MOVE_TARGET, &op->name.fh);
}

static void rename_look_done(NfsCall *call) {
        Op *op = op_done(call);
        Inode *victim;

        if (call->err && call->err != ENOENT)
                return op_reply_err(op, call->err);
        if (!call->err && (op->name.flags & RENAME_NOREPLACE))
                return op_reply_err(op, EEXIST);
        victim = open_victim(op, call);
        if (victim)
                return hide_target(op, victim, STEP_LINK_TARGET);
        rename_send(op);
}

static void rename_send(Op *op) {
        NfsArgs *args = op_call(op, NFS_RENAME, inode_fh(op->inode), rename_done);

        args->name = op->name.name;
        args->rename.to_dir = inode_fh(op->inode2);
        args->rename.to_name = op->name.to_name;
        op_send_changing(op, STEP_RENAME, NULL);
}

static void rename_reply(Op *op, int err) {
        free(op->name.hidden);
        op->name.hidden = NULL;
        op_reply_err(op, err);
}

static void rename_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;

        cache_name_gone(vfs);
        cache_dir_changed(vfs, op->inode, &call->res.wcc, call_time(call));
        if (op->inode2 != op->inode)
                cache_dir_changed(vfs, op->inode2, &call->res.wcc2, call_time(call));
        if (call->err == ENOENT && may_be_own_effect(op))
                call->err = 0;
        if (call->err)
                return rename_reply(op, call->err);
        if (op->inode2 != op->inode) {
                inodes_moved(vfs);
                if (open_children(vfs, op->inode) > 0)
                        return rename_follow(op);
        }
        rename_reply(op, 0);
}

/* What was renamed may be open: its directory is another one now. */
static void rename_follow(Op *op) {
        op_call(op, NFS_LOOKUP, inode_fh(op->inode2), rename_follow_done)->name = op->name.to_name;
        op_send(op);
}

static void rename_follow_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;
        Inode *moved = call->err ? NULL : inode_pin_fh(vfs, &call->res.fh);

        if (moved) {
                inode_moved(vfs, moved, op->inode2->nodeid);
                inode_unpin(vfs, moved);
        }
        rename_reply(op, 0);
}

/* ---- at the last close ---- */

typedef struct Removal {
        NfsCall call;
        NfsCred cred;
        VfsReactor *reactor;
        Inode *inode, *dir; /* pinned */
        char name[SILLY_NAME_SIZE];
} Removal;

static void removal_done(NfsCall *call) {
        Removal *removal = container_of(call, Removal, call);
        Vfs *vfs = removal->reactor->vfs;

        if (call->err && call->err != ENOENT)
                log_warning("%s stays on the server: %s", removal->name, strerror(call->err));
        cache_dir_changed(vfs, removal->dir, &call->res.wcc, call_time(call));
        crash_point(SILLY_REMOVED);
        removal->inode->record->silly_dir = 0; /* not before: a successor would not know of it */
        inode_given_up(vfs, removal->inode);
        inode_unpin(vfs, removal->dir);
        inode_unpin(vfs, removal->inode);
        background_end(removal->reactor);
        free(removal);
}

void remove_silly(VfsReactor *vr, Inode *inode, const NfsCred *cred) {
        Inode *dir = inode_pin(vr->vfs, inode->record->silly_dir);
        Removal *removal = dir ? calloc(1, sizeof *removal) : NULL;

        if (!removal) {
                if (dir)
                        inode_unpin(vr->vfs, dir);
                inode->record->silly_dir = 0;
                return log_warning("a removed file's .nfs name stays on the server: %s",
                                   dir ? "out of memory" : "its directory is gone");
        }
        inode_repin(vr->vfs, inode);
        removal->cred = *cred;
        removal->reactor = vr;
        removal->inode = inode;
        removal->dir = dir;
        silly_name(vr->vfs, inode, removal->name);
        removal->call = (NfsCall){ .proc = NFS_REMOVE, .cred = &removal->cred, .done = removal_done };
        removal->call.args.fh = inode_fh(dir);
        removal->call.args.name = removal->name;
        background_begin(vr);
        nfs_call_send(vr->conn, &removal->call);
}

void remove_left_over(VfsReactor *vr) {
        static const NfsCred root = { .uid = 0 };
        Vfs *vfs = vr->vfs;
        uint32_t high = atomic_load(&vfs->memory->inodes_high);

        for (uint32_t i = 1; i < high; i++) {
                Inode *inode = &vfs->inodes[i];

                if (inode->record && atomic_load(&inode->record->used) && inode->record->silly_dir &&
                    inode_give_up(vfs, inode))
                        remove_silly(vr, inode, &root);
        }
}
