/*
 * The XDR primitives of libnfs that a malicious server can make write or read out of bounds, once more and
 * checked. 4.0.0 to 6.0.2 need it; 7.0.0 checks more by itself, but decodes directories recursively, too.
 *
 * libnfs calls them through its PLT, so the definitions in our executables win over its own, provided
 * the linker takes this object: see meson.build (link_whole). tests/wire/test-forged.c shows both.
 *
 * What is refused that the library's own let through:
 *   bytes, string   a length whose sum with the position wraps around, or beyond its maximum; a pointer
 *                   that is already set is never followed (a forged CALL message puts a function there);
 *                   a NUL inside a string
 *   opaque          no check at all in the library
 *   array           a count that multiplied by the element size wraps around
 *   entry3 and entryplus3   decoded recursively there, about 128 bytes of stack an entry
 *   nlm4_oh         opaque in the protocol, a C string in the library: the owner of a lock that another client holds may
 *                   be any bytes, so it is skipped (nobody here asks for it)
 */
#include "src/nfs/compat.h"

#include <stddef.h>
#include <stdlib.h>

#define DECODE_MAX (64u << 20) /* the largest single allocation a reply may cause */

/* libnfs walks and frees these, by next. Its own has buf at offset 12, where no uint64_t should be. */
struct zdr_mem {
        struct zdr_mem *next;
        uint32_t size;
        _Alignas(8) char buf[];
};

void *zdr_malloc(ZDR *zdrs, uint32_t size);
uint32_t zdr_entry3(ZDR *zdrs, entry3 *entry);
uint32_t zdr_entryplus3(ZDR *zdrs, entryplus3 *entry);
uint32_t zdr_nlm4_oh(ZDR *zdrs, nlm4_oh *oh);
extern uint32_t zdr_fileid3(ZDR *, fileid3 *);
extern uint32_t zdr_filename3(ZDR *, filename3 *);
extern uint32_t zdr_cookie3(ZDR *, cookie3 *);
extern uint32_t zdr_post_op_attr(ZDR *, post_op_attr *);
extern uint32_t zdr_post_op_fh3(ZDR *, post_op_fh3 *);

void *zdr_malloc(ZDR *zdrs, uint32_t size) {
        struct zdr_mem *mem;

        if (size > DECODE_MAX)
                return NULL;
        mem = malloc(offsetof(struct zdr_mem, buf) + size);
        if (!mem)
                return NULL;
        mem->next = zdrs->mem;
        mem->size = size;
        zdrs->mem = mem;
        return mem->buf;
}

static uint32_t room(const ZDR *zdrs) {
        uint32_t pos = (uint32_t) zdrs->pos, size = (uint32_t) zdrs->size;

        return pos < size ? size - pos : 0;
}

static uint32_t padding(uint32_t n) {
        return -n & 3;
}

bool_t libnfs_zdr_opaque(ZDR *zdrs, char *objp, uint32_t size) {
        uint32_t pad = padding(size);

        if (size > room(zdrs))
                return FALSE;
        if (size == 0)
                return TRUE; /* objp may be NULL */
        if (zdrs->x_op == ZDR_ENCODE) {
                if (pad > room(zdrs) - size)
                        return FALSE;
                memcpy(zdrs->buf + zdrs->pos, objp, size);
                memset(zdrs->buf + zdrs->pos + size, 0, pad);
        } else {
                memcpy(objp, zdrs->buf + zdrs->pos, size);
        }
        zdrs->pos += (int) (size + pad);
        return TRUE;
}

bool_t libnfs_zdr_bytes(ZDR *zdrs, char **bufp, uint32_t *size, uint32_t maxsize) {
        if (!libnfs_zdr_u_int(zdrs, size) || *size > room(zdrs))
                return FALSE;
        if (zdrs->x_op == ZDR_ENCODE)
                return libnfs_zdr_opaque(zdrs, *bufp, *size);
        if (maxsize > 0 && *size > maxsize)
                return FALSE;
        *bufp = zdrs->buf + zdrs->pos;
        zdrs->pos += (int) (*size + padding(*size));
        return TRUE;
}

bool_t libnfs_zdr_string(ZDR *zdrs, char **strp, uint32_t maxsize) {
        uint32_t size = zdrs->x_op == ZDR_ENCODE ? (uint32_t) strlen(*strp) : 0;

        if (!libnfs_zdr_u_int(zdrs, &size) || size > room(zdrs))
                return FALSE;
        if (zdrs->x_op == ZDR_ENCODE)
                return libnfs_zdr_opaque(zdrs, *strp, size);
        if (size > maxsize || memchr(zdrs->buf + zdrs->pos, '\0', size))
                return FALSE; /* the C string would be shorter than what was sent */
        if (size < room(zdrs) && zdrs->buf[(uint32_t) zdrs->pos + size] == '\0') {
                *strp = zdrs->buf + zdrs->pos; /* the padding ends it */
                zdrs->pos += (int) (size + padding(size));
                return TRUE;
        }
        *strp = zdr_malloc(zdrs, size + 1);
        if (!*strp)
                return FALSE;
        (*strp)[size] = '\0';
        return libnfs_zdr_opaque(zdrs, *strp, size);
}

bool_t libnfs_zdr_array(ZDR *zdrs, char **arrp, uint32_t *size, uint32_t maxsize, uint32_t elsize, zdrproc_t proc) {
        if (!libnfs_zdr_u_int(zdrs, size))
                return FALSE;
        if (zdrs->x_op == ZDR_DECODE) {
                /* Every element takes four bytes at least. */
                if (*size > maxsize || *size > room(zdrs) / 4 || (uint64_t) *size * elsize > DECODE_MAX)
                        return FALSE;
                *arrp = zdr_malloc(zdrs, *size * elsize);
                if (!*arrp)
                        return FALSE;
                memset(*arrp, 0, (size_t) *size * elsize);
        }
        for (uint32_t i = 0; i < *size; i++)
                if (!proc(zdrs, *arrp + (size_t) i * elsize))
                        return FALSE;
        return TRUE;
}

/* The flag that another entry follows, and room for it. *next is NULL at the end. */
static bool next_entry(ZDR *zdrs, void **next, uint32_t size) {
        bool_t more = *next != NULL;

        if (!libnfs_zdr_bool(zdrs, &more))
                return false;
        if (!more) {
                *next = NULL;
                return true;
        }
        if (zdrs->x_op == ZDR_DECODE) {
                *next = zdr_malloc(zdrs, size);
                if (!*next)
                        return false;
                memset(*next, 0, size);
        }
        return true;
}

uint32_t zdr_entry3(ZDR *zdrs, entry3 *entry) {
        for (; entry; entry = entry->nextentry) {
                void *next = entry->nextentry;

                if (!zdr_fileid3(zdrs, &entry->fileid) || !zdr_filename3(zdrs, &entry->name) ||
                    !zdr_cookie3(zdrs, &entry->cookie) || !next_entry(zdrs, &next, sizeof *entry))
                        return FALSE;
                entry->nextentry = next;
        }
        return TRUE;
}

uint32_t zdr_entryplus3(ZDR *zdrs, entryplus3 *entry) {
        for (; entry; entry = entry->nextentry) {
                void *next = entry->nextentry;

                if (!zdr_fileid3(zdrs, &entry->fileid) || !zdr_filename3(zdrs, &entry->name) ||
                    !zdr_cookie3(zdrs, &entry->cookie) || !zdr_post_op_attr(zdrs, &entry->name_attributes) ||
                    !zdr_post_op_fh3(zdrs, &entry->name_handle) || !next_entry(zdrs, &next, sizeof *entry))
                        return FALSE;
                entry->nextentry = next;
        }
        return TRUE;
}

uint32_t zdr_nlm4_oh(ZDR *zdrs, nlm4_oh *oh) {
        static char skipped[] = "";
        char *bytes = NULL;
        uint32_t size = 0;

        if (zdrs->x_op == ZDR_ENCODE)
                return (uint32_t) libnfs_zdr_string(zdrs, oh, NLM_MAXNAME);
        if (!libnfs_zdr_bytes(zdrs, &bytes, &size, NLM_MAXNAME * 4))
                return FALSE;
        *oh = skipped;
        return TRUE;
}
