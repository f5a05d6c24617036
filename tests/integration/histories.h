/*
 * histories: the model (histories-model.c) for who runs the operations (histories.c).
 */
#pragma once

#include "cases.h"

#define N_NAMES   5
#define N_TOP     3 /* of them are not in s */
#define SIZE_MAX_ 40000
#define OPS_MAX   60
#define VERSIONS  (OPS_MAX * 2 + 2)
#define OBJECTS   OPS_MAX
#define LATE      0.2 /* s */

enum Actor { CLIENT_A, CLIENT_B, SERVER, N_ACTORS };

/* What a file held after one change. */
typedef struct Version {
        double flushed; /* when everybody could have it; 0: not yet */
        size_t size;
        uint8_t *data;
} Version;

typedef struct Object {
        bool dir;
        ino_t ino;
        int n_names;
        bool reserved;    /* its inode number is another file's, and does not come back */
        bool orphaned[2]; /* somebody else took its last name: this client's open files of it may be stale */
        int writer;       /* who has data that is not flushed; -1: nobody */
        int n;
        Version versions[VERSIONS];
        uint16_t seen[2][SIZE_MAX_]; /* no older version of this byte is to be seen by this client */
        int seen_size[2];
} Object;

/* What the mounts promise. */
typedef struct Promise {
        double data_s, names_s;
        bool positive, nocto, synchronous;
} Promise;

extern Promise promise;
/* How long after its time something may still be believed, s: LATE, and the longest operation of this history, for it may be
 * between the daemon's answer and the kernel's clock that a busy machine let it wait. */
extern double late;
extern enum Actor acting; /* for messages */
extern char failure[2000];
extern bool failed;
extern unsigned change; /* the number of changes so far: what is written has it in it */
extern Object *objects; /* OBJECTS of them */
extern int n_objects;

double now(void);
/* The first one counts. */
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
void model_reset(void);

/* Names. start: when the operation began. */
int object_of(int name); /* -1: nothing */
void bind_name(enum Actor actor, int name, int object);
bool may_be_absent(enum Actor actor, int name, double start);
bool may_be(enum Actor actor, int name, bool dir, double start);
/* Is there no doubt what actor takes it for? */
bool is_certain(enum Actor actor, int name, double start);
/* Which object actor has met under that name; -1: none that it may be. */
int met(enum Actor actor, int name, ino_t ino, double start);
/* actor was told that it is not there. */
void absent(enum Actor actor, int name, const char *what, double start);
void name_lost(int object, enum Actor actor);

/* Contents. */
Object *object_new(bool dir, ino_t ino);
Version *latest(Object *o);
void flushed(Object *o);
/* From now on client sees what was flushed before `before`. */
void refresh(Object *o, int client, double before);
/* What is too old to be believed, at start. */
void expire(Object *o, enum Actor actor, double start);
void wrote(Object *o, enum Actor actor, size_t at, const uint8_t *data, size_t len);
void truncated(Object *o, enum Actor actor, size_t size);
void check_size(Object *o, enum Actor actor, size_t size, const char *what);
/* n bytes were read at `at`, of asked. */
void check_data(Object *o, enum Actor actor, size_t at, const uint8_t *data, size_t n, size_t asked);
/* May another one's data be written over? */
bool may_write(const Object *o, enum Actor actor);
bool may_write_name(enum Actor actor, int name, double start); /* whatever it takes the name for */
/* Its last name was taken by somebody else: then an open file may be stale. */
bool stale_is_fine(const Object *o, enum Actor actor);
