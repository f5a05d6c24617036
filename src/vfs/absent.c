/*
 * Names that are not there.
 *
 * Programs look for the same file in the same places again and again (headers, libraries, configuration). The kernel would
 * not ask again for as long as it is told; but then it does not notice either that the directory has changed: one process
 * waits for a file, and ls(1) in the next window has long shown it. So the kernel keeps such an answer for a second, and what
 * it asks after that is answered from here: as long as the directory's attributes are believed and are what they were, as
 * in the kernel's own client (cache_dir_is()).
 *
 * Thread: any; absent_lock, a leaf.
 */
#include "volume.h"

#define ABSENT_MAX 16384u /* of a volume; the oldest goes */
#define IN_KERNEL  NSEC_PER_SEC

typedef struct Absent {
        UT_hash_handle by_key;
        TAILQ_ENTRY(Absent) absent_link;
        DirState then;
        uint64_t dir; /* the key: its node id, */
        char name[];  /* ... and the name, without NUL */
} Absent;

/* Under the lock. */
static Absent *find(const Vfs *vfs, const Inode *dir, const char *name, size_t len) {
        uint8_t key[sizeof dir->nodeid + NAME_SPACE];
        Absent *absent;

        memcpy(key, &dir->nodeid, sizeof dir->nodeid);
        memcpy(key + sizeof dir->nodeid, name, len);
        HASH_FIND(by_key, vfs->absents_by_key, key, sizeof dir->nodeid + len, absent);
        return absent;
}

/* Under the lock. */
static void drop(Vfs *vfs, Absent *absent) {
        TAILQ_REMOVE(&vfs->absents, absent, absent_link);
        HASH_DELETE(by_key, vfs->absents_by_key, absent);
        vfs->n_absents--;
        free(absent);
}

uint64_t absent_timeout(Op *op) {
        return MIN(cache_entry_timeout(op->reactor->vfs, op->inode, false, reactor_now(op->reactor->reactor)), IN_KERNEL);
}

bool absent_find(Op *op, const char *name) {
        uint64_t now = reactor_now(op->reactor->reactor), left;
        Vfs *vfs = op->reactor->vfs;
        bool found = false;
        Absent *absent;
        NfsAttr dir;

        if (strlen(name) > NFS_NAME_MAX || absent_timeout(op) == 0 || !cache_attr(op->inode, now, false, &dir, &left))
                return false;
        (void) pthread_mutex_lock(&vfs->absent_lock);
        absent = find(vfs, op->inode, name, strlen(name));
        if (absent) {
                found = cache_dir_is(vfs, op->inode, &absent->then, &dir, now);
                if (!found)
                        drop(vfs, absent);
        }
        (void) pthread_mutex_unlock(&vfs->absent_lock);
        return found;
}

void absent_add(Op *op, const char *name, uint64_t version, const NfsAttr *dir, CallTime time) {
        Vfs *vfs = op->reactor->vfs;
        size_t len = strlen(name);
        Absent *absent;

        if (len > NFS_NAME_MAX || !time.sent || absent_timeout(op) == 0)
                return;
        (void) pthread_mutex_lock(&vfs->absent_lock);
        absent = find(vfs, op->inode, name, len);
        if (absent)
                drop(vfs, absent);
        if (vfs->n_absents >= ABSENT_MAX)
                drop(vfs, TAILQ_FIRST(&vfs->absents));
        absent = malloc(sizeof *absent + len);
        if (absent) {
                *absent = (Absent){ .then = { version, time.sent, dir->ctime }, .dir = op->inode->nodeid };
                memcpy(absent->name, name, len);
                HASH_ADD_KEYPTR(by_key, vfs->absents_by_key, &absent->dir, sizeof absent->dir + len, absent);
                TAILQ_INSERT_TAIL(&vfs->absents, absent, absent_link);
                vfs->n_absents++;
        }
        (void) pthread_mutex_unlock(&vfs->absent_lock);
}

void absent_free(Vfs *vfs) {
        while (!TAILQ_EMPTY(&vfs->absents))
                drop(vfs, TAILQ_FIRST(&vfs->absents));
}
