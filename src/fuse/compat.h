/*
 * The one place where libfuse's versions differ (3.14 to 3.18), and what the kernel's protocol has that an
 * old <linux/fuse.h> does not.
 */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>

/* linux/fuse.h and fuse_lowlevel.h name the same bits differently; these are the protocol's. */
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40) /* linux/fuse.h 7.41 */
#endif
#define FUSE_NOTIFY_INC_EPOCH 8 /* linux/fuse.h 7.44 */

/*
 * What libfuse 3.14 cannot ask for, and later versions can: put into the INIT reply on its way out. Only
 * what the kernel offered in its INIT.
 */
#define COMPAT_INIT_FLAGS ((uint64_t) FUSE_PARALLEL_DIROPS | (uint64_t) FUSE_HANDLE_KILLPRIV_V2 | FUSE_DIRECT_IO_ALLOW_MMAP)

static inline void compat_patch_init(const struct fuse_init_in *in, struct fuse_init_out *out, bool idmap) {
        uint64_t offered = in->flags;

        if (in->flags & FUSE_INIT_EXT)
                offered |= (uint64_t) in->flags2 << 32;
        offered &= COMPAT_INIT_FLAGS | FUSE_ALLOW_IDMAP;
        /* with idmap the server sees root write, and would leave the set-user-ID bits: the kernel clears them itself */
        offered &= ~(idmap ? (uint64_t) FUSE_HANDLE_KILLPRIV_V2 : FUSE_ALLOW_IDMAP);
        out->flags |= (uint32_t) offered;
        if (in->flags & FUSE_INIT_EXT) {
                out->flags |= FUSE_INIT_EXT;
                out->flags2 |= (uint32_t) (offered >> 32);
        }
}
