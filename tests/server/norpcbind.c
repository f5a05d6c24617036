/*
 * For LD_PRELOAD into Debian's nfs-ganesha 4.3, so that it serves NFSv3 and MOUNT3 on a machine (or in a
 * network namespace) without rpcbind and without rpc.statd.
 *
 * Its build registers with rpcbind and ends if that fails: rpcb_set() and rpcb_unset() here say that all went
 * well. NLM is switched off in the tests' configuration, so nothing asks for a status monitor.
 */
int rpcb_set(unsigned program, unsigned version, const void *config, const void *address);
int rpcb_unset(unsigned program, unsigned version, const void *config);

int rpcb_set(unsigned program, unsigned version, const void *config, const void *address) {
        (void) program;
        (void) version;
        (void) config;
        (void) address;
        return 1;
}

int rpcb_unset(unsigned program, unsigned version, const void *config) {
        (void) program;
        (void) version;
        (void) config;
        return 1;
}
