/*
 * Names: LOOKUP and everything that makes a directory entry.
 *
 * Each of these is one RPC as a rule. A server need not return the new object's handle and attributes
 * (RFC 1813: post_op_fh3, post_op_attr); then a LOOKUP fetches them.
 *
 * Executed twice. A changing call whose reply was lost, because the connection broke (n_sent > 1) or
 * because a worker died (op->replayed), may meet its own effect: EEXIST then means that the object is
 * there, most likely by our doing, and is answered as a success if it is of the right kind. An exclusive
 * CREATE needs no such guess: the file bears a mark (mark.c), or the server compares a verifier, which is made of this
 * volume's random number and of the request's (RFC 1813 section 3.3.8). As a rule the server itself knows: what is sent
 * again goes out under the same XID from the same port, and its duplicate-request cache answers as it did before.
 */
#include <fcntl.h>
#include <stdio.h>

#include "base/crashpoint.h"
#include "volume.h"

#define STALE_MAX 3

enum { ANSWER_ENTRY, ANSWER_CREATE };                 /* what make_finish() answers: an entry, or an entry and an open */
enum { STEP_MAKE, STEP_SET_MODE, STEP_MAKE_GUARDED }; /* op_send_changing() */

static void lookup_send(Op *op);
static void lookup_absent(Op *op);
static void lookup_found(Op *op, const VfsFound *found);
static void lookup_done(NfsCall *call);
static void lookup_attr_done(NfsCall *call);
static void make_start(Op *op, enum NfsProc proc, const char *name);
static void make_done(NfsCall *call);
static void make_lookup(Op *op);
static void make_lookup_done(NfsCall *call);
static void make_finish(Op *op, const NfsFh *fh, const NfsAttr *attr, CallTime time);
static bool make_as_root(Op *op);
static void create_send(Op *op);
static void create_guarded(Op *op, uint64_t mark);
static void create_exists(Op *op);
static void create_is_ours(Op *op, const NfsAttr *attr, CallTime time);
static void make_attr_done(NfsCall *call);
static void create_set_mode_done(NfsCall *call);
static void create_look_done(NfsCall *call);
static void create_look_what_done(NfsCall *call);
static void create_set_mode(Op *op);

/* ---- lookup ---- */

void vfs_lookup(Op *op, uint64_t parent, const char *name) {
        VfsFound found;

        if (!op_begin(op, parent))
                return;
        op->name.asked = name;
        if (ahead_find(op, name, &found))
                return lookup_found(op, &found);
        if (absent_find(op, name))
                return lookup_absent(op);
        op->name.n_stale = 0;
        lookup_send(op);
}

static void lookup_send(Op *op) {
        op->name.dir_version = dir_version(op->inode);
        op_call(op, NFS_LOOKUP, inode_fh(op->inode), lookup_done)->name = op->name.asked;
        op_send(op);
}

/*
 * What was found was removed before the server, or we, had its attributes (nfs-ganesha says STALE to the LOOKUP, or leaves
 * the attributes out): by now the name may be another's, or nobody's. false: it was asked often enough.
 */
static bool lookup_again(Op *op) {
        if (op->name.n_stale++ >= STALE_MAX)
                return false;
        lookup_send(op);
        return true;
}

static void lookup_absent(Op *op) {
        VfsEntry entry = { .entry_timeout = absent_timeout(op) };

        if (entry.entry_timeout == 0)
                return op_reply_err(op, ENOENT);
        op_reply_entry(op, &entry);
}

static void lookup_found(Op *op, const VfsFound *found) {
        VfsEntry entry;
        int err = op_make_entry(op, op->inode, op->name.asked, &found->fh, &found->attr, found->time, &entry);

        if (err)
                return op_reply_err(op, err);
        if (found->is_old)
                entry.entry_timeout = 0;
        op_reply_entry(op, &entry);
}

/* Was this answer overtaken by one that knows of a change of the directory? */
static bool lookup_is_old(Op *op, const NfsRes *res) {
        uint64_t left;
        NfsAttr dir;

        return res->has_dir_attr && cache_attr(op->inode, 0, true, &dir, &left) &&
               (dir.ctime.tv_sec != res->dir_attr.ctime.tv_sec || dir.ctime.tv_nsec != res->dir_attr.ctime.tv_nsec);
}

static void lookup_done(NfsCall *call) {
        Op *op = op_done(call);
        Vfs *vfs = op->reactor->vfs;
        NfsRes *res = &call->res;

        if (res->has_dir_attr)
                cache_update(vfs, op->inode, &res->dir_attr, call_time(call));

        if (call->err == ENOENT) {
                if (res->has_dir_attr)
                        absent_add(op, op->name.asked, op->name.dir_version, &res->dir_attr, call_time(call));
                return lookup_absent(op);
        }
        if (call->err == ESTALE && lookup_again(op))
                return;
        if (call->err == EACCES && res->has_dir_attr) /* and not what RPC says of the credential */
                cache_search_refused(vfs, op->inode);
        if (call->err)
                return op_reply_err(op, call->err);
        ahead_missed(op);
        if (!res->has_attr) {
                /* LOOKUP again would be no better: ask for the attributes of what was found */
                op->name.fh = res->fh;
                (void) op_call(op, NFS_GETATTR, &op->name.fh, lookup_attr_done);
                return op_send(op);
        }
        lookup_found(op, &(VfsFound){ res->fh, res->attr, call_time(call), lookup_is_old(op, res) });
}

static void lookup_attr_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err == ESTALE && lookup_again(op))
                return;
        if (call->err)
                return op_reply_err(op, call->err);
        lookup_found(op, &(VfsFound){ .fh = op->name.fh, .attr = call->res.attr, .time = call_time(call) });
}

void vfs_forget(Vfs *vfs, uint64_t nodeid, uint64_t n) {
        inode_forget(vfs, nodeid, n);
}

/* ---- making an object ---- */

/* op->inode: the directory. The arguments that all of these share. */
static void make_start(Op *op, enum NfsProc proc, const char *name) {
        (void) snprintf(op->name.name, sizeof op->name.name, "%s", name);
        op->name.n_stale = 0;
        op->name.mark = 0;
        op->name.in_doubt = false;
        op->name.refused = 0;
        op_call(op, proc, inode_fh(op->inode), make_done)->name = op->name.name;
}

static void make_send(Op *op) {
        op->name.step = STEP_MAKE;
        op_send_changing(op, STEP_MAKE, NULL, 0);
}

static NfsSetAttr mode_only(mode_t mode) {
        return (NfsSetAttr){ .set_mode = true, .mode = mode & 07777 };
}

void vfs_mkdir(Op *op, uint64_t parent, const char *name, mode_t mode) {
        if (!op_begin(op, parent))
                return;
        op->name.type = S_IFDIR;
        op->name.answer = ANSWER_ENTRY;
        make_start(op, NFS_MKDIR, name);
        op->call.args.mkdir.attr = mode_only(mode);
        make_send(op);
}

void vfs_mknod(Op *op, uint64_t parent, const char *name, mode_t mode, dev_t rdev) {
        if (!op_begin(op, parent))
                return;
        op->name.type = mode & S_IFMT;
        op->name.answer = ANSWER_ENTRY;
        if (S_ISREG(mode) || (mode & S_IFMT) == 0) {
                op->name.type = S_IFREG;
                make_start(op, NFS_CREATE, name);
                op->call.args.create.mode = NFS_CREATE_GUARDED;
                op->call.args.create.attr = mode_only(mode);
        } else {
                make_start(op, NFS_MKNOD, name);
                op->call.args.mknod.attr = mode_only(mode);
                op->call.args.mknod.type = mode & S_IFMT;
                op->call.args.mknod.rdev = rdev;
        }
        make_send(op);
}

void vfs_symlink(Op *op, uint64_t parent, const char *name, const char *target) {
        if (!op_begin(op, parent))
                return;
        op->name.type = S_IFLNK;
        op->name.answer = ANSWER_ENTRY;
        make_start(op, NFS_SYMLINK, name);
        op->call.args.symlink.attr = mode_only(0777);
        op->call.args.symlink.target = target;
        make_send(op);
}

/* op->inode2: the file. */
void vfs_link(Op *op, uint64_t nodeid, uint64_t parent, const char *name) {
        if (!op_begin(op, parent) || !op_begin2(op, nodeid))
                return;
        op->name.type = op->inode2->record->type;
        op->name.answer = ANSWER_ENTRY;
        make_start(op, NFS_LINK, name);
        op->call.args.fh = inode_fh(op->inode2);
        op->call.args.link.dir = inode_fh(op->inode);
        make_send(op);
}

/*
 * With idmap a file that is there already must not be opened unasked: whether the caller may is the kernel's to say, and it
 * has not seen that file. It looks again when it is told ESTALE.
 */
static bool makes_exclusively(const Op *op) {
        return (op->name.flags & O_EXCL) || op->reactor->vfs->options->idmap;
}

/*
 * open(2) with O_CREAT of a name that the kernel believes is not there. O_EXCL: GUARDED with a mark; where the server may
 * not keep that, EXCLUSIVE, which carries no mode, so that a SETATTR follows. Else UNCHECKED, which opens what somebody
 * else made meanwhile.
 */
void vfs_create(Op *op, uint64_t parent, const char *name, mode_t mode, int flags) {
        if (!op_begin(op, parent))
                return;
        op->name.type = S_IFREG;
        op->name.answer = ANSWER_CREATE;
        op->name.flags = flags;
        op->name.attr = mode_only(mode);
        make_start(op, NFS_CREATE, name);
        if (makes_exclusively(op) && op->replayed && op->replayed_step == STEP_MAKE_GUARDED)
                return create_guarded(op, op->object_id);
        if (op->object) {
                /* a former worker made it; its mode and times may be missing, and with them the verifier */
                op->name.fh = *op->object;
                op->name.made_id = op->object_id;
                return create_set_mode(op);
        }
        create_send(op);
}

static NfsArgs *create_call(Op *op, enum NfsCreateMode mode) {
        NfsArgs *args = op_call(op, NFS_CREATE, inode_fh(op->inode), make_done);

        args->name = op->name.name;
        args->create.mode = mode;
        return args;
}

static void create_send(Op *op) {
        /* made with EXCLUSIVE before, perhaps: with a mark it would meet that as another's file */
        bool first = !op->replayed && !op->name.refused && op->name.n_stale == 0;
        uint64_t mark = makes_exclusively(op) && first ? mark_new(op) : 0, verf;
        NfsArgs *args;

        if (mark)
                return create_guarded(op, mark);
        op->name.mark = 0;
        op->name.in_doubt = false;
        if (makes_exclusively(op)) {
                args = create_call(op, NFS_CREATE_EXCLUSIVE);
                verf = op->reactor->vfs->memory->connection_id ^ (op->unique * UINT64_C(0x9e3779b97f4a7c15));
                memcpy(args->create.verf, &verf, sizeof args->create.verf);
        } else {
                args = create_call(op, NFS_CREATE_UNCHECKED);
                args->create.attr = op->name.attr;
                args->create.attr.set_size = (op->name.flags & O_TRUNC) != 0;
        }
        make_send(op);
}

/*
 * The handle of what was made is stale: it is gone, removed by another client; or the server has replaced its handles, and it is
 * there with its id. false: there have been enough of these.
 */
static bool create_again(Op *op) {
        if (op->name.answer != ANSWER_CREATE || op->name.n_stale++ >= STALE_MAX)
                return false;
        if (op->name.mark && op->name.step == STEP_MAKE_GUARDED) {
                op->name.in_doubt = true;
                make_lookup(op);
                return true;
        }
        op_call(op, NFS_LOOKUP, inode_fh(op->inode), create_look_done)->name = op->name.name;
        op_send(op);
        return true;
}

static void create_look_done(NfsCall *call) {
        Op *op = op_done(call);
        const NfsRes *res = &call->res;

        if (call->err && call->err != ENOENT)
                return op_reply_err(op, call->err);
        if (call->err || !res->has_attr || res->attr.fileid != op->name.made_id)
                return create_send(op);
        op->name.fh = res->fh;
        create_set_mode(op);
}

/* Without a mark: where there is no EXCLUSIVE (RFC 1813: a server may not support it), this is the next best. */
static void create_guarded(Op *op, uint64_t mark) {
        NfsArgs *args = create_call(op, NFS_CREATE_GUARDED);

        args->create.attr = op->name.attr;
        if (mark) {
                args->create.attr.set_atime = NFS_TIME_CLIENT;
                args->create.attr.atime = mark_time(mark);
        }
        op->name.mark = mark;
        op->name.in_doubt = false;
        op->name.step = STEP_MAKE_GUARDED;
        op_send_changing(op, STEP_MAKE_GUARDED, NULL, mark);
}

/*
 * To set a time to a value, and not to "now", one must be the owner: that the maker is not would be strange, but no reason to
 * fail.
 */
static bool mark_may_be_refused(int err) {
        return err == EPERM || err == EACCES || err == EINVAL || err == EOPNOTSUPP;
}

/* Without O_EXCL it may be opened, but the kernel has to look at it first. */
static void create_exists(Op *op) {
        op_reply_err(op, op->name.flags & O_EXCL ? EEXIST : ESTALE);
}

/* There is something else: UNCHECKED takes what is there (Linux' server: whatever it is). */
static void make_is_other(Op *op) {
        if (op->name.answer == ANSWER_CREATE)
                return create_exists(op);
        op_reply_err(op, EEXIST);
}

/* UNCHECKED: by now there is something that cannot be opened so, a symbolic link perhaps? (nfs-ganesha says EINVAL) */
static bool create_may_be_odd(const Op *op, const NfsCall *call) {
        return op->name.answer == ANSWER_CREATE && call->args.create.mode == NFS_CREATE_UNCHECKED &&
               (call->err == EINVAL || call->err == EISDIR || call->err == EOPNOTSUPP);
}

static void create_look_what(Op *op, int err) {
        op->name.refused = err;
        op_call(op, NFS_LOOKUP, inode_fh(op->inode), create_look_what_done)->name = op->name.name;
        op_send(op);
}

static void create_look_what_done(NfsCall *call) {
        Op *op = op_done(call);

        if (!call->err && call->res.has_attr && !S_ISREG(call->res.attr.mode))
                return create_exists(op);
        op_reply_err(op, op->name.refused);
}

static void make_done(NfsCall *call) {
        Op *op = op_done(call);
        NfsRes *res = &call->res;

        cache_dir_changed(op->reactor->vfs, op->inode, &res->wcc, call_time(call));
        if (call->err == EEXIST && op->name.answer == ANSWER_ENTRY && op_may_be_done(op))
                return make_lookup(op);
        if (call->err == EEXIST && op->name.mark && (op_may_be_done(op) || op->name.n_stale > 0)) {
                op->name.in_doubt = true;
                return make_lookup(op);
        }
        if (call->err == EOPNOTSUPP && call->proc == NFS_CREATE && call->args.create.mode == NFS_CREATE_EXCLUSIVE)
                return create_guarded(op, 0);
        if (call->err == ESTALE && call->proc == NFS_CREATE && op->name.n_stale++ < STALE_MAX)
                return op_send_changing(op, op->name.step, NULL, 0); /* what was there went, as in lookup_done() */
        if (call->err == EEXIST && op->name.answer == ANSWER_CREATE)
                return create_exists(op);
        if (call->err && create_may_be_odd(op, call))
                return create_look_what(op, call->err);
        if ((call->err == EACCES || call->err == EPERM) && make_as_root(op))
                return;
        if (op->name.mark && !op->name.refused && mark_may_be_refused(call->err)) {
                op->name.refused = call->err;
                return create_send(op);
        }
        if (call->err)
                return op_reply_err(op, call->err);

        if (call->proc == NFS_LINK) {
                op->name.fh = *inode_fh(op->inode2);
                return make_finish(op, &op->name.fh, res->has_attr ? &res->attr : NULL, call_time(call));
        }
        if (!res->has_fh)
                return make_lookup(op);
        op->name.fh = res->fh;
        op->name.made_id = res->has_attr ? res->attr.fileid : 0;
        if (op->name.answer == ANSWER_CREATE && makes_exclusively(op))
                crash_point(CREATE_MADE);
        if (call->proc == NFS_CREATE && call->args.create.mode == NFS_CREATE_EXCLUSIVE) {
                if (!op->name.refused && res->has_attr)
                        op->name.mark = mark_to_try(op, &res->attr, call_time(call));
                return create_set_mode(op);
        }
        if (op->name.mark && res->has_attr)
                mark_made(op, op->name.mark, &res->attr, call_time(call));
        make_finish(op, &op->name.fh, res->has_attr ? &res->attr : NULL, call_time(call));
}

/* Of what is being made. */
static NfsSetAttr *make_attr(Op *op) {
        switch (op->call.proc) {
        case NFS_CREATE:
                return op->name.answer == ANSWER_CREATE ? &op->name.attr : &op->call.args.create.attr;
        case NFS_MKDIR:
                return &op->call.args.mkdir.attr;
        case NFS_SYMLINK:
                return &op->call.args.symlink.attr;
        case NFS_MKNOD:
                return &op->call.args.mknod.attr;
        default:
                return NULL;
        }
}

/*
 * idmap: the kernel let the caller do it; if the server does not, perhaps because of groups that we do not know, root does it
 * for him. A directory with the set-group-ID bit gives its group. false: that is no way out.
 */
static bool make_as_root(Op *op) {
        NfsSetAttr *attr = make_attr(op);

        if (!op->reactor->vfs->options->idmap || op->cred.uid == 0 || !attr)
                return false;
        attr->set_uid = attr->set_gid = true;
        attr->uid = op->cred.uid;
        attr->gid = op->cred.gid;
        inode_lock(op->inode);
        if (op->inode->has_attr && (op->inode->attr.mode & S_ISGID))
                attr->gid = op->inode->attr.gid;
        inode_unlock(op->inode);
        op->cred = (NfsCred){ 0 };
        if (op->name.mark)
                create_guarded(op, op->name.mark);
        else if (op->name.answer == ANSWER_CREATE)
                create_send(op);
        else
                op_send_changing(op, op->name.step, NULL, 0);
        return true;
}

/* The server did not say what it made, or it was made before: find out. */
static void make_lookup(Op *op) {
        op_call(op, NFS_LOOKUP, inode_fh(op->inode), make_lookup_done)->name = op->name.name;
        op_send(op);
}

static void make_lookup_done(NfsCall *call) {
        Op *op = op_done(call);
        const NfsRes *res = &call->res;

        if (call->err == ENOENT && op->name.in_doubt) /* whoever made it, it has gone since */
                return op->name.n_stale++ < STALE_MAX ? create_guarded(op, op->name.mark) : create_exists(op);
        if (call->err)
                return op_reply_err(op, call->err);
        if (res->has_attr && (res->attr.mode & S_IFMT) != op->name.type)
                return make_is_other(op);
        op->name.fh = res->fh;
        if (op->name.in_doubt && res->has_attr)
                return create_is_ours(op, &res->attr, call_time(call));
        if (op->name.answer == ANSWER_CREATE && makes_exclusively(op) && !op->name.mark)
                return create_set_mode(op);
        make_finish(op, &op->name.fh, res->has_attr ? &res->attr : NULL, call_time(call));
}

/* It was there: made by op, whose answer was lost, or by somebody else. */
static void create_is_ours(Op *op, const NfsAttr *attr, CallTime time) {
        if (!mark_is(op->name.mark, attr))
                return create_exists(op);
        make_finish(op, &op->name.fh, attr, time);
}

/* EXCLUSIVE keeps the verifier in the times: both, and the mode, are set now. */
static void create_set_mode(Op *op) {
        NfsArgs *args = op_call(op, NFS_SETATTR, &op->name.fh, create_set_mode_done);

        args->setattr.attr = op->name.attr;
        args->setattr.attr.set_atime = op->name.mark ? NFS_TIME_CLIENT : NFS_TIME_SERVER;
        args->setattr.attr.atime = mark_time(op->name.mark);
        args->setattr.attr.set_mtime = NFS_TIME_SERVER;
        op_send_changing(op, STEP_SET_MODE, &op->name.fh, op->name.made_id);
}

static void create_set_mode_done(NfsCall *call) {
        Op *op = op_done(call);
        NfsWcc *wcc = &call->res.wcc;

        if (call->err == ESTALE && create_again(op))
                return;
        if (op->name.mark && mark_may_be_refused(call->err)) {
                op->name.refused = call->err;
                op->name.mark = 0;
                return create_set_mode(op);
        }
        if (call->err)
                return op_reply_err(op, call->err);
        if (op->name.refused && op->name.refused != EACCES) /* that may have been the directory's, just before a chmod(2) */
                marks_give_up(op->reactor->vfs);
        if (op->name.mark && wcc->has_after)
                mark_learn(op, op->name.mark, &wcc->after, call_time(call));
        make_finish(op, &op->name.fh, wcc->has_after ? &wcc->after : NULL, call_time(call));
}

static void make_attr_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err == ESTALE && create_again(op))
                return;
        if (call->err)
                return op_reply_err(op, call->err);
        if (op->name.in_doubt)
                return create_is_ours(op, &call->res.attr, call_time(call));
        if (op->name.mark && op->name.step == STEP_MAKE_GUARDED)
                mark_made(op, op->name.mark, &call->res.attr, call_time(call));
        make_finish(op, &op->name.fh, &call->res.attr, call_time(call));
}

static void reply_created(Op *op, const VfsEntry *entry) {
        Vfs *vfs = op->reactor->vfs;
        Inode *inode = inode_pin(vfs, entry->nodeid);
        int flags = op->name.flags, err = ESTALE;
        bool direct = (flags & O_APPEND) != 0;
        uint64_t fh;
        Open *open;

        if (vfs->options->idmap)
                op->cred = (NfsCred){ 0 }; /* as any other open */
        if (inode) {
                err = -open_add(op, inode, flags, &open, &fh);
                if (!err)
                        (void) cache_keep_pages(inode);
                inode_unpin(vfs, inode);
        }
        if (err) {
                inode_forget(vfs, entry->nodeid, 1);
                return op_reply_err(op, err);
        }
        op_finish(op);
        op->reply->create(op, entry, fh, direct ? VFS_OPEN_DIRECT_IO : 0);
}

/* attr NULL: not known yet. A server that says it made something else than it was asked for is broken: that is no EEXIST. */
static void make_finish(Op *op, const NfsFh *fh, const NfsAttr *attr, CallTime time) {
        VfsEntry entry;
        int err;

        if (!attr) {
                if (fh != &op->name.fh)
                        op->name.fh = *fh;
                (void) op_call(op, NFS_GETATTR, &op->name.fh, make_attr_done);
                return op_send(op);
        }
        if ((attr->mode & S_IFMT) != op->name.type)
                return op->name.answer == ANSWER_CREATE && !makes_exclusively(op) ? make_is_other(op) : op_reply_err(op, EIO);
        err = op_make_entry(op, op->inode, op->name.name, fh, attr, time, &entry);
        if (err)
                return op_reply_err(op, err);
        if (op->name.answer == ANSWER_CREATE)
                return reply_created(op, &entry);
        op_reply_entry(op, &entry);
}
