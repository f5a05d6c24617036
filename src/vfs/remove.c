/*
 * Names that go: REMOVE, RMDIR, RENAME; and files that are unlinked while somebody has them open.
 *
 * NFSv3 knows no open files: a REMOVE takes the data away from under those who have it open. As the kernel's
 * client does, such a file is renamed to ".nfs<fileid><node id><volume>" instead and removed at its last
 * close. A directory knows how many open files have their name in it, and the volume how many have names that
 * may be anywhere (open.c); only if there are any does an unlink, or a rename over a name, first look up what
 * the name means.
 *
 * The .nfs name is removed once what gave it, and what was renamed over the file then, was answered, not before: a server may do
 * two things at a time in any order.
 *
 * A close returns before that removal is done, even before we hear of it; and with it a directory becomes empty. So
 * RMDIR waits for the .nfs names that are going, if the server finds the directory not empty.
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
#define GOING_NS        (5 * NSEC_PER_MSEC) /* between two looks at what is going */
#define RELEASES_MAX    20u                 /* looks: the kernel sends a RELEASE when it has the time */
#define AGAIN_MAX       3u
#define ABSENT_NS       (500 * NSEC_PER_MSEC) /* until a .nfs name that was not there is removed once more */

enum { STEP_REMOVE, STEP_HIDE };                                              /* op_send_changing(): unlink, rmdir */
enum { STEP_RENAME, STEP_LINK_TARGET, STEP_MOVE_TARGET, STEP_RENAME_HIDDEN }; /* rename; the last: over what has its .nfs name */

/* Of a .nfs name, at the last close. */
typedef struct Removal {
        NfsCall call;
        NfsCred cred;
        unsigned n_creds; /* that were refused */
        VfsReactor *reactor;
        Inode *inode, *dir; /* pinned */
        char name[SILLY_NAME_SIZE];
        ReviveWait revive; /* of the directory */
        bool was_absent;
        Timer again;
        TAILQ_ENTRY(Removal) removal_link;
} Removal;

static void remove_again(Op *op);
static void remove_look_done(NfsCall *call);
static void remove_hide(Op *op, Inode *victim);
static void remove_hide_done(NfsCall *call);
static void remove_send(Op *op);
static void remove_done(NfsCall *call);
static void rmdir_not_empty(Op *op);
static void rmdir_again(Op *op);
static void rmdir_found(NfsCall *call);
static void rmdir_wait(Op *op);

static void rename_again(Op *op);
static void rename_begin(Op *op);
static void rename_look(Op *op);
static void rename_look_done(NfsCall *call);
static void hide_target(Op *op, Inode *victim, unsigned step);
static void link_target(Op *op);
static void link_target_done(NfsCall *call);
static void move_target(Op *op);
static void hide_target_done(NfsCall *call);
static void rename_look_again(Op *op);
static void rename_send(Op *op);
static void rename_done(NfsCall *call);
static void rename_reply(Op *op, int err);
static void rename_follow(Op *op);
static void rename_follow_done(NfsCall *call);

static void silly_name(const Vfs *vfs, const Inode *inode, char buf[static SILLY_NAME_SIZE]) {
        (void) snprintf(buf, SILLY_NAME_SIZE, ".nfs%016llx%08x%08x", (unsigned long long) inode->record->fileid,
                        (uint32_t) inode->nodeid, (uint32_t) vfs->memory->connection_id);
}

bool is_silly_name(const Vfs *vfs, const Inode *inode, const char *name) {
        char silly[SILLY_NAME_SIZE];

        silly_name(vfs, inode, silly);
        return strcmp(name, silly) == 0;
}

static void look_up(Op *op, const Inode *dir, const char *name, void (*done)(NfsCall *call)) {
        op_call(op, NFS_LOOKUP, inode_fh(dir), done)->name = name;
        op_send(op);
}

/* The open file that a dead worker was hiding, pinned; NULL: none. */
static Inode *replayed_victim(Op *op) {
        Inode *victim = op->object_id ? inode_pin(op->reactor->vfs, op->object_id) : NULL;

        if (victim && !S_ISREG(victim->record->type)) { /* the memory is damaged */
                inode_unpin(op->reactor->vfs, victim);
                return NULL;
        }
        return victim;
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
                return look_up(op, op->inode, op->name.name, remove_look_done);
        remove_send(op);
}

void vfs_rmdir(Op *op, uint64_t parent, const char *name) {
        if (!op_begin(op, parent))
                return;
        (void) snprintf(op->name.name, sizeof op->name.name, "%s", name);
        op->name.type = S_IFDIR;
        op->name.n_again = op->name.n_looks = 0;
        op->name.waited = false;
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

/* If a worker died over op, that was to have this name, perhaps. */
static bool is_hidden_as(const Inode *inode, const Op *op, const char *name) {
        return inode->record->silly_dir && !op->recovered && is_silly_name(op->reactor->vfs, inode, name);
}

/* The open file that a LOOKUP found, pinned, if its last name is about to go; else NULL. */
static Inode *open_victim(Op *op, const NfsCall *call, const Inode *dir, const char *name) {
        Vfs *vfs = op->reactor->vfs;
        bool has_others;
        Inode *victim;

        if (call->err)
                return NULL;
        victim = inode_pin_found(vfs, &call->res.fh, call->res.has_attr ? &call->res.attr : NULL, dir->nodeid, name);
        if (!victim)
                return NULL;
        has_others = call->res.has_attr && call->res.attr.nlink > 1;
        if (has_others)
                inode_note_unlinked(victim, dir, name);
        /* its .nfs name has gone, or goes, by itself */
        if (has_others || is_hidden_as(victim, op, name) || !S_ISREG(victim->record->type) || !inode_is_open(vfs, victim)) {
                inode_unpin(vfs, victim);
                return NULL;
        }
        return victim;
}

/* Is what a LOOKUP found the .nfs name of an open file? As with the kernel's client that cannot be removed: rm -r would. */
static bool is_in_use(Op *op, const NfsCall *call, const char *name) {
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = call->err ? NULL : inode_pin_fh(vfs, &call->res.fh);
        bool is = inode && is_hidden_as(inode, op, name) && inode_is_open(vfs, inode);

        if (inode)
                inode_unpin(vfs, inode);
        return is;
}

static void remove_look_done(NfsCall *call) {
        Op *op = op_done(call);
        Inode *victim;

        if (call->err && call->err != ENOENT && call->err != ESTALE)
                return op_reply_err(op, call->err);
        if (is_in_use(op, call, op->name.name))
                return op_reply_err(op, EBUSY);
        victim = open_victim(op, call, op->inode, op->name.name);
        if (victim)
                return remove_hide(op, victim);
        remove_send(op);
}

/* Before: a successor must know that there is something to remove. false: the last close came first. */
static bool hide_begin(Op *op, Inode *victim, const Inode *dir) {
        bool again = op->replayed && op->name.n_stale == 0;

        if (!inode_hide_begin(op->reactor->vfs, victim, dir->nodeid, again)) {
                inode_unpin(op->reactor->vfs, victim);
                return false;
        }
        op->victim = victim;
        background_begin(op->reactor); /* the end of the connection waits for it, for a name that nobody would remove */
        return true;
}

/* Its last close may have come in the meantime, and removed nothing. */
static void hide_end(Op *op, const Inode *dir) {
        Inode *victim = TAKE_PTR(op->victim);

        if (inode_hide_end(op->reactor->vfs, victim, dir->nodeid, op->name.is_hidden))
                remove_silly(op->reactor, victim, &op->cred);
        inode_unpin(op->reactor->vfs, victim);
        background_end(op->reactor);
}

/* It has its .nfs name now. */
static void note_hidden(Op *op, const Inode *dir, const char *name) {
        cache_expire(op->victim);
        inode_note_place(op->victim, dir->nodeid, name);
        op->name.is_hidden = true;
}

/*
 * It has its name still. Without an answer (its caller was killed, or a soft mount's time-out) it may yet get the .nfs name, so
 * that is removed at the last close.
 */
static void not_hidden(Op *op, const Inode *dir) {
        op->name.is_hidden = op->call.status == 0;
        hide_end(op, dir);
}

static void remove_hide(Op *op, Inode *victim) {
        NfsArgs *args;

        if (!hide_begin(op, victim, op->inode))
                return remove_send(op);
        crash_point(SILLY_NOTED);
        silly_name(op->reactor->vfs, victim, op->name.to_name);
        args = op_call(op, NFS_RENAME, inode_fh(op->inode), remove_hide_done);
        args->name = op->name.name;
        args->rename.to_dir = inode_fh(op->inode);
        args->rename.to_name = op->name.to_name;
        op_send_changing(op, STEP_HIDE, NULL, victim->nodeid);
}

static void remove_hide_done(NfsCall *call) {
        Op *op = op_done(call);

        cache_dir_changed(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        if (call->err && !(call->err == ENOENT && op_may_be_done(op))) {
                not_hidden(op, op->inode);
                return op_reply_err(op, call->err);
        }
        crash_point(SILLY_HIDDEN);
        note_hidden(op, op->inode, op->name.to_name);
        hide_end(op, op->inode);
        op_reply_err(op, 0);
}

static void remove_send(Op *op) {
        enum NfsProc proc = S_ISDIR(op->name.type) ? NFS_RMDIR : NFS_REMOVE;

        op->name.n_gone = atomic_load(&op->reactor->vfs->n_silly_gone);
        op_call(op, proc, inode_fh(op->inode), remove_done)->name = op->name.name;
        op_send_changing(op, STEP_REMOVE, NULL, 0);
}

static void remove_done(NfsCall *call) {
        Op *op = op_done(call);

        cache_name_gone(op->reactor->vfs);
        cache_dir_changed(op->reactor->vfs, op->inode, &call->res.wcc, call_time(call));
        if (call->err == ENOENT && op_may_be_done(op))
                call->err = 0;
        if (call->err == ENOTEMPTY && S_ISDIR(op->name.type))
                return rmdir_not_empty(op);
        op_reply_err(op, call->err);
}

/* ---- a directory in which only .nfs names are, that are going ---- */

/* Are names being removed in dir? */
static bool are_going(Vfs *vfs, uint64_t dir) {
        const Removal *removal;

        (void) pthread_mutex_lock(&vfs->table_lock);
        TAILQ_FOREACH(removal, &vfs->silly_removals, removal_link)
                if (removal->dir->nodeid == dir)
                        break;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        return removal;
}

static void rmdir_not_empty(Op *op) {
        op->reply->executing(op, STEP_REMOVE, NULL, 0); /* nothing was done: a successor must not have that answer repeated */
        if (op->inode2)
                return rmdir_wait(op);
        if (atomic_load(&op->reactor->vfs->n_hidden) > 0)
                return look_up(op, op->inode, op->name.name, rmdir_found);
        rmdir_again(op);
}

/* One may have gone after RMDIR was done, and its answer came before; but it may be another directory's. */
static void rmdir_again(Op *op) {
        if (op->name.n_gone == atomic_load(&op->reactor->vfs->n_silly_gone) || op->name.n_again++ >= AGAIN_MAX)
                return op_reply_err(op, ENOTEMPTY);
        remove_send(op);
}

static void rmdir_found(NfsCall *call) {
        Op *op = op_done(call);

        if (!call->err)
                op->inode2 = inode_pin_found(op->reactor->vfs, &call->res.fh, call->res.has_attr ? &call->res.attr : NULL,
                                             op->inode->nodeid, op->name.name);
        if (!op->inode2)
                return op_reply_err(op, call->err == EINTR ? EINTR : ENOTEMPTY);
        rmdir_wait(op);
}

static void rmdir_look_again(Timer *timer) {
        op_goes_on(container_of(timer, Op, bound), rmdir_wait);
}

static void rmdir_wait(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        uint64_t dir = op->inode2->nodeid;

        if (op->interrupted)
                return op_reply_err(op, EINTR);
        /* once in any case: a reactor may just be between a RELEASE and the removal */
        if (op->name.n_looks == 0 || are_going(vfs, dir) || (op->name.n_looks < RELEASES_MAX && opens_hidden(vfs, dir))) {
                op->name.n_looks++;
                op->name.waited = true;
                op->bound.fired = rmdir_look_again;
                return timer_arm(op->reactor->reactor, &op->bound, now_ns() + GOING_NS);
        }
        if (!op->name.waited)
                return rmdir_again(op);
        op->name.waited = false;
        remove_send(op);
}

/* ---- rename ---- */

/* inode: from the directory, inode2: to the directory. */
void vfs_rename(Op *op, uint64_t parent, const char *name, uint64_t to_parent, const char *to_name, unsigned flags) {
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

        if (victim && (op->replayed_step == STEP_LINK_TARGET || op->replayed_step == STEP_MOVE_TARGET))
                return hide_target(op, victim, op->replayed_step);
        if (victim && op->replayed_step == STEP_RENAME_HIDDEN)
                op->name.is_hidden = hide_begin(op, victim, op->inode2);
        else if (victim)
                inode_unpin(op->reactor->vfs, victim);
        rename_send(op);
}

static void rename_begin(Op *op) {
        if (op->name.flags || open_children(op->reactor->vfs, op->inode2) > 0)
                return rename_look(op);
        rename_send(op);
}

static void rename_look(Op *op) {
        look_up(op, op->inode2, op->name.to_name, rename_look_done);
}

static void hide_target_done(NfsCall *call) {
        Op *op = op_done(call);

        cache_dir_changed(op->reactor->vfs, op->inode2, &call->res.wcc, call_time(call));
        if (!call->err || (call->err == ENOENT && op_may_be_done(op))) {
                note_hidden(op, op->inode2, op->name.hidden);
                return rename_send(op);
        }
        not_hidden(op, op->inode2);
        if (call->err != ENOENT && call->err != ESTALE)
                return rename_reply(op, call->err);
        if (op->name.n_stale++ == 0)
                return rename_look_again(op);
        rename_send(op);
}

/* Somebody has removed the target, or all handles were replaced. */
static void rename_look_again(Op *op) {
        free(TAKE_PTR(op->name.hidden));
        rename_look(op);
}

/*
 * The name that is renamed over belongs to an open file: that gets a second name first, so that there is no instant at
 * which the name is missing.
 */
static void hide_target(Op *op, Inode *victim, unsigned step) {
        char hidden[SILLY_NAME_SIZE];

        silly_name(op->reactor->vfs, victim, hidden);
        op->name.hidden = strdup(hidden);
        if (!op->name.hidden) {
                inode_unpin(op->reactor->vfs, victim);
                return op_reply_err(op, ENOMEM);
        }
        if (!hide_begin(op, victim, op->inode2))
                return rename_send(op);
        crash_point(SILLY_TARGET);
        if (step == STEP_MOVE_TARGET)
                return move_target(op);
        link_target(op);
}

static void link_target(Op *op) {
        op_call(op, NFS_LINK, inode_fh(op->victim), link_target_done)->name = op->name.hidden;
        op->call.args.link.dir = inode_fh(op->inode2);
        op_send_changing(op, STEP_LINK_TARGET, NULL, op->victim->nodeid);
}

static bool may_mean_no_links(int err) {
        switch (err) {
        case 0:
        case ENOENT:
        case ESTALE:
        case EACCES:
        case EROFS:
        case ENOSPC:
        case EDQUOT:
                return false;
        }
        return true;
}

static void link_target_done(NfsCall *call) {
        Op *op = OP_OF(call);

        if (call->err == EEXIST && op_may_be_done(op))
                call->err = 0;
        if (call->status == 0 || !may_mean_no_links(call->err))
                return hide_target_done(call);
        move_target(op_done(call));
}

/* Not every server, and not every file system behind one, has links, and they say that in many ways: then it is moved away. */
static void move_target(Op *op) {
        NfsArgs *args = op_call(op, NFS_RENAME, inode_fh(op->inode2), hide_target_done);

        args->name = op->name.to_name;
        args->rename.to_dir = inode_fh(op->inode2);
        args->rename.to_name = op->name.hidden;
        op_send_changing(op, STEP_MOVE_TARGET, NULL, op->victim->nodeid);
}

static void rename_look_done(NfsCall *call) {
        Op *op = op_done(call);
        Inode *victim;

        if (call->err && call->err != ENOENT)
                return op_reply_err(op, call->err);
        if (!call->err && (op->name.flags & RENAME_NOREPLACE))
                return op_reply_err(op, EEXIST);
        if (is_in_use(op, call, op->name.to_name))
                return op_reply_err(op, EBUSY);
        victim = open_victim(op, call, op->inode2, op->name.to_name);
        if (victim)
                return hide_target(op, victim, STEP_LINK_TARGET);
        rename_send(op);
}

static void rename_send(Op *op) {
        NfsArgs *args = op_call(op, NFS_RENAME, inode_fh(op->inode), rename_done);

        args->name = op->name.name;
        args->rename.to_dir = inode_fh(op->inode2);
        args->rename.to_name = op->name.to_name;
        op_send_changing(op, op->victim ? STEP_RENAME_HIDDEN : STEP_RENAME, NULL, op->victim ? op->victim->nodeid : 0);
}

static void rename_reply(Op *op, int err) {
        free(TAKE_PTR(op->name.hidden));
        if (op->victim)
                hide_end(op, op->inode2);
        op_reply_err(op, err);
}

static void rename_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;

        cache_name_gone(vfs);
        cache_renamed(vfs);
        cache_dir_changed(vfs, op->inode, &call->res.wcc, call_time(call));
        if (op->inode2 != op->inode)
                cache_dir_changed(vfs, op->inode2, &call->res.wcc2, call_time(call));
        if (call->err == ENOENT && op_may_be_done(op))
                call->err = 0;
        if (call->err)
                return rename_reply(op, call->err);
        if (op->inode2 == op->inode)
                opens_renamed(vfs, op->inode, op->name.name, op->name.to_name);
        if (op->inode2 != op->inode) {
                inodes_moved(vfs);
                if (open_children(vfs, op->inode) > 0)
                        return rename_follow(op);
        }
        rename_reply(op, 0);
}

/* What was renamed may be open: its directory is another one now. */
static void rename_follow(Op *op) {
        look_up(op, op->inode2, op->name.to_name, rename_follow_done);
}

static void rename_follow_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;
        Inode *moved = call->err ? NULL : inode_pin_fh(vfs, &call->res.fh);

        if (moved) {
                inode_moved(vfs, moved, op->inode2->nodeid, op->name.to_name);
                inode_unpin(vfs, moved);
        }
        rename_reply(op, 0);
}

/* ---- at the last close ---- */

static void removal_done(NfsCall *call);
static void removal_settle(Removal *removal);

static void removal_send(Removal *removal) {
        removal->call = (NfsCall){ .proc = NFS_REMOVE, .cred = &removal->cred, .done = removal_done };
        removal->call.args.fh = inode_fh(removal->dir);
        removal->call.args.name = removal->name;
        nfs_call_send(removal->reactor->conn, &removal->call);
}

static void removal_revived(ReviveWait *wait) {
        Removal *removal = container_of(wait, Removal, revive);

        if (wait->revived)
                return removal_send(removal);
        removal_settle(removal);
}

static void removal_done(NfsCall *call) {
        Removal *removal = container_of(call, Removal, call);

        if (call->err == ESTALE && revive_again(removal->reactor, removal->dir, call, removal_revived, &removal->revive))
                return;
        removal_settle(removal);
}

static NfsCred owner_of(Inode *inode) {
        NfsCred cred = { 0 };

        inode_lock(inode);
        if (inode->has_attr) {
                cred.uid = inode->attr.uid;
                cred.gid = inode->attr.gid;
        }
        inode_unlock(inode);
        return cred;
}

/*
 * Who closed it last need not be somebody who may remove it; somebody who might has (and a successor does not know him). false:
 * nobody who comes to mind may.
 */
static bool removal_next_cred(Removal *removal) {
        switch (removal->n_creds++) {
        case 0:
                removal->cred = owner_of(removal->dir);
                return true;
        case 1:
                removal->cred = owner_of(removal->inode); /* of a directory like /tmp */
                return true;
        case 2:
                removal->cred = (NfsCred){ 0 };
                return true;
        }
        return false;
}

static void removal_free(Removal *removal) {
        Vfs *vfs = removal->reactor->vfs;

        (void) pthread_mutex_lock(&vfs->table_lock);
        TAILQ_REMOVE(&vfs->silly_removals, removal, removal_link);
        (void) pthread_mutex_unlock(&vfs->table_lock);
        inode_unpin(vfs, removal->dir);
        inode_unpin(vfs, removal->inode);
        background_end(removal->reactor);
        free(removal);
}

/* Unless it was opened meanwhile, by a name that it has still: then its next last close does it. */
static void removal_again(Timer *timer) {
        Removal *removal = container_of(timer, Removal, again);

        if (!inode_give_up(removal->reactor->vfs, removal->inode))
                return removal_free(removal);
        removal_send(removal);
}

/* It may not be there yet: what gives it was sent, and its caller killed before that was answered. */
static bool removal_is_early(Removal *removal) {
        if (removal->call.err != ENOENT || removal->was_absent)
                return false;
        removal->was_absent = true;
        inode_keep(removal->reactor->vfs, removal->inode);
        removal->again.fired = removal_again;
        timer_arm(removal->reactor->reactor, &removal->again, now_ns() + ABSENT_NS);
        return true;
}

static void removal_settle(Removal *removal) {
        const NfsCall *call = &removal->call;
        Vfs *vfs = removal->reactor->vfs;

        if ((call->err == EACCES || call->err == EPERM) && removal_next_cred(removal))
                return removal_send(removal);
        if (removal_is_early(removal))
                return;
        if (!call->err && removal->was_absent)
                log_info("%s was removed only when the server was asked once more", removal->name);
        if (call->err && call->err != ENOENT)
                log_warning("%s stays on the server: %s", removal->name, strerror(call->err));
        cache_dir_changed(vfs, removal->dir, &call->res.wcc, call_time(call));
        crash_point(SILLY_REMOVED);
        atomic_fetch_add(&vfs->n_silly_gone, 1); /* before it is not hidden any more: see rmdir_again() */
        inode_given_up(vfs, removal->inode);
        removal_free(removal);
}

void remove_silly(VfsReactor *vr, Inode *inode, const NfsCred *cred) {
        Inode *dir = inode_pin(vr->vfs, atomic_load(&inode->record->silly_dir));
        Removal *removal = dir ? calloc(1, sizeof *removal) : NULL;

        if (!removal) {
                if (dir)
                        inode_unpin(vr->vfs, dir);
                inode_given_up(vr->vfs, inode);
                log_warning("a removed file's .nfs name stays on the server: %s",
                            dir ? "out of memory" : "its directory is gone");
                return;
        }
        inode_repin(vr->vfs, inode);
        removal->cred = *cred;
        removal->reactor = vr;
        removal->inode = inode;
        removal->dir = dir;
        silly_name(vr->vfs, inode, removal->name);
        (void) pthread_mutex_lock(&vr->vfs->table_lock);
        TAILQ_INSERT_TAIL(&vr->vfs->silly_removals, removal, removal_link);
        (void) pthread_mutex_unlock(&vr->vfs->table_lock);
        background_begin(vr);
        removal_send(removal);
}

void remove_left_over(VfsReactor *vr) {
        static const NfsCred root = { .uid = 0 };
        Vfs *vfs = vr->vfs;
        uint32_t high = atomic_load(&vfs->memory->inodes_high);

        for (uint32_t i = 1; i < high; i++) {
                Inode *inode = inode_give_up_pinned(vfs, i);

                if (!inode)
                        continue;
                remove_silly(vr, inode, &root);
                inode_unpin(vfs, inode);
        }
}

void vfs_opens_end(VfsReactor *vr) {
        Vfs *vfs = vr->vfs;

        if (vr->index != 0)
                return;
        (void) pthread_mutex_lock(&vfs->table_lock);
        vfs->ended = true;
        (void) pthread_mutex_unlock(&vfs->table_lock);
        remove_left_over(vr);
}
