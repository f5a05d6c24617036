/*
 * nfsvol: one program under several names.
 *
 *   mount.fuse.nfs, mount.nfs, mount.nfs4   as mount(8) calls them: the verb mount
 *   umount.fuse.nfs                         as umount(8) calls it: the verb umount
 *   nfsvol HOST:/PATH DIR ...               as mount.fuse calls it for `mount -t fuse nfsvol#...`
 *   nfsvol VERB ...                         people
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "config.h"

typedef struct Verb {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *help;
} Verb;

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const Verb verbs[] = {
        { "mount", cmd_mount, "HOST:/PATH DIR [-o OPTIONS]   mount a directory of an NFS server" },
        { "umount", cmd_umount, "[-fl] DIR                    unmount it again, without touching other users" },
        { "list", cmd_list, "[--json]                       the volumes of this machine" },
        { "status", cmd_status, "[--json] [--verify] [DIR|SOURCE|ID]   how they are" },
        { "upgrade", cmd_upgrade, "--all | DIR|SOURCE|ID...       go on with the installed version" },
        { "help", cmd_help, "[options]                      this, or all mount options" },
        { "version", cmd_version, "                            the version" },
};

static const Verb names[] = {
        { "mount.fuse.nfs", cmd_mount, NULL },   { "mount.nfs", cmd_mount, NULL },   { "mount.nfs4", cmd_mount, NULL },
        { "umount.fuse.nfs", cmd_umount, NULL }, { "umount.nfs", cmd_umount, NULL }, { "umount.nfs4", cmd_umount, NULL },
};

static void print_help(FILE *out) {
        (void) fprintf(out, "Usage: nfsvol VERB ...\n\n");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                (void) fprintf(out, "  nfsvol %s %s\n", verbs[i].name, verbs[i].help);
        (void) fprintf(out, "\n`nfsvol VERB --help` says more; so does nfsvol(8).\n");
}

static int cmd_help(int argc, char **argv) {
        if (argc > 1 && strcmp(argv[1], "options") == 0)
                mount_options_help(stdout);
        else
                print_help(stdout);
        return EXIT_CODE_OK;
}

static int cmd_version(int argc, char **argv) {
        (void) printf("nfsvol %s\n", NFSVOL_VERSION);
        return EXIT_CODE_OK;
}

/* Closed 0, 1 or 2 would be taken by the next open(2), and then be detached or written to by mistake. */
static void stdio_ensure(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        while (fd >= 0 && fd <= 2);
        (void) fd_close(fd);
}

/* For verbs: "nfsvol mount" in messages and usages. */
static int run_verb(const Verb *verb, int argc, char **argv) {
        char name[64];

        (void) snprintf(name, sizeof name, "nfsvol %s", verb->name);
        argv[0] = name;
        return verb->run(argc, argv);
}

static int dispatch(int argc, char **argv) {
        static char program[] = "nfsvol";
        const char *slash = strrchr(argv[0], '/');

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(slash ? slash + 1 : argv[0], names[i].name) == 0) {
                        argv[0] = (char *) (uintptr_t) names[i].name;
                        return names[i].run(argc, argv);
                }
        if (argc < 2) {
                print_help(stderr);
                return EXIT_CODE_USAGE;
        }
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (strcmp(argv[1], verbs[i].name) == 0)
                        return run_verb(&verbs[i], argc - 1, argv + 1);
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
                return cmd_help(1, argv);
        if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
                return cmd_version(1, argv);
        if (strchr(argv[1], ':')) {
                argv[0] = program;
                return cmd_mount(argc, argv);
        }
        (void) fprintf(stderr, "nfsvol: unknown verb %.64s (nfsvol help lists them)\n", argv[1]);
        return EXIT_CODE_USAGE;
}

int main(int argc, char **argv) {
        int r;

        if (argc < 1)
                return EXIT_CODE_USAGE;
        stdio_ensure();
        interrupt_init();
        r = dispatch(argc, argv);
        if (fflush(stdout) != 0 && r == EXIT_CODE_OK)
                r = EXIT_CODE_SYSTEM;
        return r;
}
