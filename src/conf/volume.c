/*
 * A volume's id.
 */
#include <sha2.h>
#include <stdio.h>
#include <string.h>

#include "conf/source.h"

/*
 * SHA-256, cut to 64 bits: whoever may name sources and options (a pod's author) must not be able to
 * find ones that share another volume's id and so its session.
 */
void volume_id(const char *source, const char *session, uint64_t unique, char ret_id[static VOLUME_ID_SIZE]) {
        uint8_t digest[SHA256_DIGEST_LENGTH];
        char number[24];
        SHA2_CTX ctx;

        (void) snprintf(number, sizeof number, "%llu", (unsigned long long) unique);
        SHA256Init(&ctx);
        /* With the NUL bytes: no two different triples give the same stream. */
        SHA256Update(&ctx, (const uint8_t *) source, strlen(source) + 1);
        SHA256Update(&ctx, (const uint8_t *) session, strlen(session) + 1);
        SHA256Update(&ctx, (const uint8_t *) number, strlen(number) + 1);
        SHA256Final(digest, &ctx);
        for (size_t i = 0; i < (VOLUME_ID_SIZE - 1) / 2; i++)
                (void) snprintf(ret_id + 2 * i, 3, "%02x", digest[i]);
}
