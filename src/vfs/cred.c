/*
 * Who asks. A FUSE request carries uid, gid and the thread's id; supplementary groups are in
 * /proc/<tid>/status (23 µs), so they are kept for a second by tid, uid and gid.
 *
 * With the option idmap the kernel says who asks only where something is made, as the mount's mapping has it, and has checked
 * the permissions itself (linux/fuse.h, FUSE_ALLOW_IDMAP). The groups in /proc are not mapped: there are none.
 *
 * A thread that has gone, or the kernel itself (pid 0: writeback of mmap), has no groups but its gid.
 */
#include <stdio.h>

#include "base/io.h"
#include "volume.h"

#define CRED_LIFETIME NSEC_PER_SEC
#define ID_HIDDEN     ((uid_t) -1) /* FUSE_INVALID_UIDGID */

/* The "Groups:" line of /proc/<tid>/status: at most NFS_GROUPS_MAX, the gid left out. */
static void read_groups(pid_t pid, NfsCred *cred) {
        char path[64], text[4096];
        const char *p;

        (void) snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        if (io_read_file(path, text, sizeof text) < 0)
                return;
        p = strstr(text, "\nGroups:");
        if (!p)
                return;
        for (p += strlen("\nGroups:"); cred->n_groups < NFS_GROUPS_MAX;) {
                char *end;
                unsigned long gid;

                while (*p == ' ' || *p == '\t')
                        p++;
                gid = strtoul(p, &end, 10);
                if (end == p)
                        return;
                p = end;
                if ((gid_t) gid != cred->gid)
                        cred->groups[cred->n_groups++] = (gid_t) gid;
        }
}

void cred_of(VfsReactor *vr, Op *op) {
        CredEntry *entry = &vr->creds[(uint32_t) op->pid % CRED_CACHE_SIZE];
        uint64_t now = reactor_now(vr->reactor);

        if (vr->vfs->options->idmap) {
                op->cred = op->uid == ID_HIDDEN ? (NfsCred){ 0 } : (NfsCred){ .uid = op->uid, .gid = op->gid };
                return;
        }
        if (op->pid == 0) {
                op->cred = (NfsCred){ .uid = op->uid, .gid = op->gid };
                return;
        }
        if (entry->pid != op->pid || entry->expires <= now || entry->cred.uid != op->uid || entry->cred.gid != op->gid) {
                *entry = (CredEntry){ .pid = op->pid, .expires = now + CRED_LIFETIME };
                entry->cred.uid = op->uid;
                entry->cred.gid = op->gid;
                read_groups(op->pid, &entry->cred);
        }
        op->cred = entry->cred;
}
