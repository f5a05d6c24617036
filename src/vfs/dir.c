/*
 * Directories: OPENDIR, READDIR(PLUS), RELEASEDIR.
 *
 * The kernel reads a directory a page (4 KiB) at a time, a server gives some hundred entries in one reply.
 * So each open directory keeps the last reply (DirStream) and the kernel's requests are answered from it; the
 * offset of an entry is the server's cookie, so any place can be asked for again, also by a successor of this
 * worker.
 *
 * The attributes and handles that READDIRPLUS brings fill the kernel's caches, and replace what is there. That is only right
 * as long as the names mean the same: once the directory may have changed since the reply was asked for
 * (cache_dir_is()), the rest of it is given as bare names.
 *
 * A server whose cookies go round in a circle would be read for ever: a cookie that comes twice in one reading is ELOOP,
 * as with the kernel's client. (Brent: each entry is compared with one that is remembered, at 1, 2, 4, 8... entries.)
 *
 * Some servers (nfs-ganesha 4) answer ENOENT when an entry is removed while they collect the attributes. RFC 1813 has no such
 * answer, and libc would take it for the end of the directory: so it is asked again, then without attributes, and is EIO in
 * the end.
 *
 * A server may find that a cookie is of another time than the directory (NFS3ERR_BAD_COOKIE): its verifier is
 * then fetched anew, once, and the same cookie tried with it.
 */
#include "volume.h"

#define DIR_REPLY_MAX      (128u * 1024)
#define NFS3ERR_BAD_COOKIE 10003
#define NFS3ERR_NOTSUPP    10004
#define NOENTS_PLUS_MAX    3
#define NOENTS_MAX         6

typedef struct DirEntry {
        uint64_t fileid, cookie;
        uint32_t name; /* offset in names */
        bool has_attr, has_fh;
        NfsAttr attr;
        NfsFh fh;
} DirEntry;

/*
 * One READDIR at a time uses it. But a successor may execute one again that was answered, beside the RELEASEDIR that followed, or
 * beside the next READDIR, perhaps on another reactor: the later one of these gets a stream of its own (dir_stream_use()).
 */
struct DirStream {
        _Atomic unsigned n_refs;
        uint64_t cookie; /* the reply begins after this entry */
        uint8_t verf[NFS_VERF_SIZE];
        CallTime time;
        DirState then;
        bool valid, eof;

        DirEntry *entries;
        size_t n_entries, entries_size;
        char *names;
        size_t names_len, names_size;
        uint64_t n_seen, mark_at, mark; /* entries since the beginning; the one that is remembered, and its cookie */
        size_t next;                    /* where the last answer ended: most likely where the next begins */
};

static void opendir_checked(Op *op, int err);
static void dir_fetch(Op *op);
static void dir_fetch_done(NfsCall *call);
static void dir_verf(Op *op);
static void dir_verf_done(NfsCall *call);
static void dir_answer(Op *op, size_t first);

DirStream *dir_stream_new(void) {
        DirStream *stream = calloc(1, sizeof *stream);

        if (stream)
                atomic_init(&stream->n_refs, 1);
        return stream;
}

DirStream *dir_stream_use(DirStream *stream) {
        if (atomic_fetch_add(&stream->n_refs, 1) == 1) /* its open's */
                return stream;
        (void) dir_stream_unref(stream);
        return dir_stream_new();
}

DirStream *dir_stream_unref(DirStream *stream) {
        if (!stream || atomic_fetch_sub(&stream->n_refs, 1) > 1)
                return NULL;
        free(stream->entries);
        free(stream->names);
        free(stream);
        return NULL;
}

/* May the caller read it? What READDIR would say later, to whoever reads then, is too late and not for open(2). */
void vfs_opendir(Op *op, uint64_t nodeid) {
        if (!op_begin(op, nodeid))
                return;
        op_bound(op); /* df(1) opens what it is asked about, and must end */
        op_access(op, NFS_ACCESS_READ, false, opendir_checked);
}

static void opendir_checked(Op *op, int err) {
        uint64_t fh;
        Open *open;
        int r;

        if (err && !op->out_of_time) /* READDIR asks the server again */
                return op_reply_err(op, err);
        r = open_add(op, op->inode, 0, &open, &fh);
        if (r < 0)
                return op_reply_err(op, -r);
        if (!open_dir(op->reactor->vfs, open, op)) {
                open_remove(op->reactor->vfs, open);
                return op_reply_err(op, ENOMEM);
        }
        op->reply->executing(op, 0, NULL, 0);
        op->open = open; /* op_finish() */
        op_finish(op);
        op->reply->open(op, fh, 0);
}

void vfs_releasedir(Op *op, uint64_t nodeid, uint64_t fh) {
        Open *open = open_get(op->reactor->vfs, fh, nodeid);

        if (!open)
                return op_reply_err(op, EBADF);
        open_remove(op->reactor->vfs, open);
        op_reply_err(op, 0);
}

/* What makes and removes names is stable on the server when it is answered (RFC 1813 section 4.8). */
void vfs_fsyncdir(Op *op, uint64_t nodeid) {
        op_reply_err(op, 0);
}

/* Does the kept reply hold what comes after cookie? */
static bool stream_find(DirStream *stream, uint64_t cookie, size_t *ret_first) {
        if (!stream->valid)
                return false;
        if (cookie == stream->cookie) {
                *ret_first = 0;
                return true;
        }
        if (stream->next > 0 && stream->next <= stream->n_entries && stream->entries[stream->next - 1].cookie == cookie) {
                *ret_first = stream->next;
                return stream->next < stream->n_entries || stream->eof;
        }
        for (size_t i = 0; i < stream->n_entries; i++)
                if (stream->entries[i].cookie == cookie) {
                        *ret_first = i + 1;
                        return i + 1 < stream->n_entries || stream->eof;
                }
        return false;
}

void vfs_readdir(Op *op, uint64_t nodeid, uint64_t fh, uint64_t offset) {
        size_t first;

        if (!op_begin(op, nodeid))
                return;
        op->open = open_get(op->reactor->vfs, fh, nodeid);
        if (!op->open)
                return op_reply_err(op, EBADF);
        op->cred = op->open->record->cred;
        if (!open_dir(op->reactor->vfs, op->open, op))
                return op_reply_err(op, ENOMEM);
        op->dir.offset = offset;
        op->dir.n_tries = op->dir.n_noents = 0;
        if (offset == 0) {
                op->stream->valid = false; /* rewinddir(3) asks for what is there now */
                memset(op->stream->verf, 0, sizeof op->stream->verf);
        }
        if (stream_find(op->stream, offset, &first))
                return dir_answer(op, first);
        dir_fetch(op);
}

static void dir_fetch(Op *op) {
        Vfs *vfs = op->reactor->vfs;
        DirStream *stream = op->stream;
        bool plus = op->plus && !vfs->no_readdirplus && op->dir.n_noents <= NOENTS_PLUS_MAX;
        NfsArgs *args = op_call(op, plus ? NFS_READDIRPLUS : NFS_READDIR, inode_fh(op->inode), dir_fetch_done);

        args->readdir.cookie = op->dir.offset;
        memcpy(args->readdir.verf, stream->verf, NFS_VERF_SIZE);
        args->readdir.count = DIR_REPLY_MAX;
        stream->then.version = dir_version(op->inode);
        stream->valid = false;
        op_send(op);
}

static int names_add(DirStream *stream, const char *name, uint32_t *ret) {
        size_t size = strlen(name) + 1, want = stream->names_len + size;

        if (want > stream->names_size) {
                size_t grown = MAX(want, stream->names_size * 2 + 4096);
                char *names = realloc(stream->names, grown);

                if (!names)
                        return -ENOMEM;
                stream->names = names;
                stream->names_size = grown;
        }
        memcpy(stream->names + stream->names_len, name, size);
        *ret = (uint32_t) stream->names_len;
        stream->names_len = want;
        return 0;
}

static int entries_add(DirStream *stream, const NfsDirent *dirent) {
        DirEntry *entry;
        uint32_t name;
        int r;

        if (stream->n_entries == stream->entries_size) {
                size_t grown = stream->entries_size * 2 + 64;
                DirEntry *entries = realloc(stream->entries, grown * sizeof *entries);

                if (!entries)
                        return -ENOMEM;
                stream->entries = entries;
                stream->entries_size = grown;
        }
        r = names_add(stream, dirent->name, &name);
        if (r < 0)
                return r;
        entry = &stream->entries[stream->n_entries++];
        entry->fileid = dirent->fileid;
        entry->cookie = dirent->cookie;
        entry->name = name;
        entry->has_attr = dirent->has_attr;
        entry->has_fh = dirent->has_fh;
        if (dirent->has_attr)
                entry->attr = dirent->attr;
        if (dirent->has_fh)
                entry->fh = dirent->fh;
        return 0;
}

/* Whether this cookie came before in the same reading. */
static bool stream_goes_round(DirStream *stream, uint64_t cookie) {
        if (stream->mark_at > 0 && cookie == stream->mark)
                return true;
        if (++stream->n_seen >= 2 * stream->mark_at) {
                stream->mark = cookie;
                stream->mark_at = stream->n_seen;
        }
        return false;
}

/* 0 or a positive errno. */
static int stream_fill(DirStream *stream, NfsCall *call, uint64_t cookie) {
        bool continued = stream->n_entries > 0 && stream->entries[stream->n_entries - 1].cookie == cookie;
        void *iter = call->res.readdir.entries;
        NfsDirent dirent;
        int r;

        if (!continued)
                stream->n_seen = stream->mark_at = 0;
        stream->n_entries = 0;
        stream->names_len = 0;
        stream->next = 0;
        while ((r = nfs_dirent_next(call, &iter, &dirent)) > 0) {
                if (stream_goes_round(stream, dirent.cookie))
                        return ELOOP;
                r = entries_add(stream, &dirent);
                if (r < 0)
                        return ENOMEM;
        }
        if (r < 0)
                return EIO;
        stream->cookie = cookie;
        stream->eof = call->res.readdir.eof || stream->n_entries == 0;
        stream->time = call_time(call);
        stream->then.sent = call->res.has_attr ? stream->time.sent : 0;
        stream->then.ctime = call->res.attr.ctime;
        memcpy(stream->verf, call->res.readdir.verf, NFS_VERF_SIZE);
        stream->valid = true;
        return 0;
}

static void dir_fetch_done(NfsCall *call) {
        Op *op = op_done(call);
        DirStream *stream = op->stream;
        int err;

        if (call->status == NFS3ERR_NOTSUPP && call->proc == NFS_READDIRPLUS) {
                op->reactor->vfs->no_readdirplus = true;
                return dir_fetch(op);
        }
        if (call->status == NFS3ERR_BAD_COOKIE && op->dir.n_tries++ == 0)
                return dir_verf(op);
        if (call->err == ENOENT)
                return ++op->dir.n_noents <= NOENTS_MAX ? dir_fetch(op) : op_reply_err(op, EIO);
        if (call->err)
                return op_reply_err(op, call->err);
        if (call->res.has_attr)
                cache_update(op->reactor->vfs, op->inode, &call->res.attr, call_time(call));
        err = stream_fill(stream, call, op->dir.offset);
        if (err)
                return op_reply_err(op, err);
        dir_answer(op, 0);
}

static void dir_verf(Op *op) {
        NfsArgs *args = op_call(op, NFS_READDIR, inode_fh(op->inode), dir_verf_done);

        args->readdir.count = 4096;
        op_send(op);
}

static void dir_verf_done(NfsCall *call) {
        Op *op = op_done(call);

        if (call->err)
                return op_reply_err(op, call->err);
        memcpy(op->stream->verf, call->res.readdir.verf, NFS_VERF_SIZE);
        dir_fetch(op);
}

/* ---- answering from the stream ---- */

static bool is_dot(const char *name) {
        return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* false: the kernel's buffer is full. */
static bool give_entry(Op *op, const DirStream *stream, const DirEntry *e, bool fresh) {
        const char *name = stream->names + e->name;
        mode_t type = e->has_attr ? e->attr.mode & S_IFMT : 0;
        uint64_t ino = vfs_ino(op->reactor->vfs, e->has_attr ? e->attr.fsid : cache_fsid(op->reactor->vfs, op->inode), e->fileid);
        VfsEntry entry;

        if (!fresh || !e->has_attr || !e->has_fh || is_dot(name) ||
            !cache_is_fresh(op->reactor->vfs, &e->attr, stream->time, reactor_now(op->reactor->reactor)) ||
            op_make_entry(op, op->inode, name, &e->fh, &e->attr, stream->time, &entry) != 0)
                return op->reply->dirent(op, name, ino, type, e->cookie, NULL);
        if (pages_are_dropped(op->reactor->vfs, entry.nodeid)) {
                inode_forget(op->reactor->vfs, entry.nodeid, 1);
                return op->reply->dirent(op, name, ino, type, e->cookie, NULL);
        }
        if (op->reply->dirent(op, name, ino, type, e->cookie, &entry))
                return true;
        inode_forget(op->reactor->vfs, entry.nodeid, 1);
        return false;
}

static void dir_answer(Op *op, size_t first) {
        DirStream *stream = op->stream;
        uint64_t now = reactor_now(op->reactor->reactor), left;
        Vfs *vfs = op->reactor->vfs;
        NfsAttr dir;
        bool fresh = op->plus && cache_attr(op->inode, now, false, &dir, &left) &&
                     cache_dir_is(vfs, op->inode, &stream->then, &dir, now);
        size_t i;

        for (i = first; i < stream->n_entries; i++)
                if (!give_entry(op, stream, &stream->entries[i], fresh))
                        break;
        stream->next = i;
        op_finish(op);
        op->reply->dir(op);
}
