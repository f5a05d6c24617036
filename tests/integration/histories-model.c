/*
 * What two clients of one export may see (histories.c says what that is): of each name what it was, of each file what it held,
 * and what each of them must have heard of.
 */
#include <stdarg.h>
#include <time.h>

#include "histories.h"

/* What a name was. */
typedef struct Binding {
        int object; /* -1: nothing */
        double since;
} Binding;

typedef struct Name {
        Binding was[OPS_MAX * 2 + 2];
        int n;
        int seen[N_ACTORS]; /* this one, or a later one */
} Name;

Promise promise = { .data_s = 60, .names_s = 60 };
enum Actor acting;
char failure[2000];
double late = LATE;
bool failed;
unsigned change;
Object *objects;
int n_objects;
static Name table[N_NAMES];

double now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

void wrong(const char *format, ...) {
        va_list args;
        int n;

        if (failed)
                return;
        failed = true;
        n = snprintf(failure, sizeof failure, "%c: ", "ABS"[acting]);
        va_start(args, format);
        (void) vsnprintf(failure + n, sizeof failure - (size_t) n, format, args);
        va_end(args);
}

void model_reset(void) {
        for (int i = 0; i < N_NAMES; i++)
                table[i] = (Name){ .n = 1, .was = { { .object = -1 } } };
        n_objects = 0;
        change = 0;
        late = LATE;
        failed = false;
}

/* ---- names ---- */

static Binding *current(int name) {
        return &table[name].was[table[name].n - 1];
}

int object_of(int name) {
        return current(name)->object;
}

void bind_name(enum Actor actor, int name, int object) {
        Name *entry = &table[name];

        entry->was[entry->n++] = (Binding){ .object = object, .since = now() };
        entry->seen[actor] = entry->n - 1;
}

/* May actor, beginning at start, still take the name for what it was then? */
static bool is_candidate(enum Actor actor, int name, int i, double start) {
        const Name *entry = &table[name];

        if (i == entry->n - 1)
                return true;
        if (actor == SERVER || i < entry->seen[actor] || (promise.positive && entry->was[i].object < 0))
                return false;
        return promise.names_s > 0 && entry->was[i + 1].since + promise.names_s + late >= start;
}

bool may_be_absent(enum Actor actor, int name, double start) {
        for (int i = 0; i < table[name].n; i++)
                if (table[name].was[i].object < 0 && is_candidate(actor, name, i, start))
                        return true;
        return false;
}

bool may_be(enum Actor actor, int name, bool dir, double start) {
        for (int i = 0; i < table[name].n; i++) {
                int o = table[name].was[i].object;

                if (o >= 0 && objects[o].dir == dir && is_candidate(actor, name, i, start))
                        return true;
        }
        return false;
}

/* Is there no doubt what actor takes it for? */
bool is_certain(enum Actor actor, int name, double start) {
        for (int i = 0; i < table[name].n - 1; i++)
                if (table[name].was[i].object != object_of(name) && is_candidate(actor, name, i, start))
                        return false;
        return true;
}

/* Which object actor has met under that name; -1: none that it may be. */
int met(enum Actor actor, int name, ino_t ino, double start) {
        Name *entry = &table[name];

        if (object_of(name) >= 0 && objects[object_of(name)].ino == ino) {
                for (int i = 0; i < entry->n; i++)
                        if (entry->was[i].object == object_of(name) && is_candidate(actor, name, i, start)) {
                                entry->seen[actor] = i;
                                break;
                        }
                return object_of(name);
        }
        for (int i = 0; i < entry->n; i++)
                if (entry->was[i].object >= 0 && objects[entry->was[i].object].ino == ino &&
                    is_candidate(actor, name, i, start)) {
                        entry->seen[actor] = i;
                        return entry->was[i].object;
                }
        return -1;
}

void absent(enum Actor actor, int name, const char *what, double start) {
        if (!may_be_absent(actor, name, start))
                wrong("%s: ENOENT, but the name is there", what);
}

/* ---- contents ---- */

Version *latest(Object *o) {
        return &o->versions[o->n - 1];
}

Object *object_new(bool dir, ino_t ino) {
        Object *o = &objects[n_objects++];

        for (int i = 0; i < o->n; i++)
                free(o->versions[i].data);
        memset(o, 0, sizeof *o);
        o->dir = dir;
        o->ino = ino;
        o->n_names = 1;
        o->writer = -1;
        o->n = 1;
        o->versions[0] = (Version){ .flushed = now(), .data = calloc(1, SIZE_MAX_) };
        return o;
}

void flushed(Object *o) {
        for (int i = 0; i < o->n; i++)
                if (!o->versions[i].flushed)
                        o->versions[i].flushed = now();
        o->writer = -1;
}

static void raise_to(Object *o, int client, int version) {
        for (size_t i = 0; i < SIZE_MAX_; i++)
                if (o->seen[client][i] < version)
                        o->seen[client][i] = (uint16_t) version;
        o->seen_size[client] = o->seen_size[client] < version ? version : o->seen_size[client];
}

/* From now on client sees what was flushed before `before`. */
void refresh(Object *o, int client, double before) {
        int last = 0;

        for (int i = 0; i < o->n && o->versions[i].flushed && o->versions[i].flushed <= before; i++)
                last = i;
        raise_to(o, client, last);
}

/* What is too old to be believed, at start. */
void expire(Object *o, enum Actor actor, double start) {
        if (actor == SERVER)
                return;
        refresh(o, (int) actor, promise.data_s > 0 ? start - promise.data_s - late : start);
}

static Version *version_add(Object *o) {
        Version *v = &o->versions[o->n];

        *v = (Version){ .size = latest(o)->size, .data = malloc(SIZE_MAX_) };
        memcpy(v->data, latest(o)->data, SIZE_MAX_);
        o->n++;
        change++;
        return v;
}

static void changed_range(Object *o, enum Actor actor, size_t from, size_t to, bool size) {
        if (actor != SERVER) {
                for (size_t i = from; i < to; i++)
                        o->seen[actor][i] = (uint16_t) (o->n - 1);
                if (size)
                        o->seen_size[actor] = o->n - 1;
        }
        if (actor == SERVER || promise.synchronous)
                flushed(o);
        else
                o->writer = (int) actor;
}

void wrote(Object *o, enum Actor actor, size_t at, const uint8_t *data, size_t len) {
        Version *v = version_add(o);
        size_t end = at + len, before = v->size;

        memcpy(v->data + at, data, len);
        if (end > v->size)
                v->size = end;
        changed_range(o, actor, before < at ? before : at, end, end >= before);
}

void truncated(Object *o, enum Actor actor, size_t size) {
        Version *v = version_add(o);
        size_t before = v->size;

        if (size < v->size)
                memset(v->data + size, 0, v->size - size);
        v->size = size;
        changed_range(o, actor, size < before ? size : before, SIZE_MAX_, true);
        flushed(o);
}

/* The server has what was flushed, perhaps more. */
static int seen_size_of(const Object *o, enum Actor actor) {
        int k = 0;

        if (actor != SERVER)
                return o->seen_size[actor];
        while (k + 1 < o->n && o->versions[k + 1].flushed)
                k++;
        return k;
}

void check_size(Object *o, enum Actor actor, size_t size, const char *what) {
        int first = seen_size_of(o, actor);

        for (int k = first; k < o->n; k++)
                if (o->versions[k].size == size)
                        return;
        wrong("%s: the size is %zu; it is %zu, and was %zu when this client had to look", what, size, latest(o)->size,
              o->versions[first].size);
}

void check_data(Object *o, enum Actor actor, size_t at, const uint8_t *data, size_t n, size_t asked) {
        bool length = false;
        int first = seen_size_of(o, actor);

        for (int k = first; k < o->n && !length; k++) {
                size_t size = o->versions[k].size;
                size_t there = size > at ? size - at : 0;

                length = n == (there < asked ? there : asked);
        }
        if (!length)
                return wrong("%zu bytes read at %zu of %zu asked for; the size is %zu, and was %zu", n, at, asked,
                             latest(o)->size, o->versions[first].size);
        for (size_t i = at; i < at + n; i++) {
                bool found = false;

                for (int k = actor == SERVER ? first : o->seen[actor][i]; k < o->n && !found; k++)
                        found = o->versions[k].data[i] == data[i - at] && i < o->versions[k].size;
                if (!found)
                        return wrong("byte %zu is %u instead of %u (version %d of %d)", i, data[i - at], latest(o)->data[i],
                                     actor == SERVER ? first : o->seen[actor][i], o->n - 1);
        }
}

/* May another one's data be written over? */
bool may_write(const Object *o, enum Actor actor) {
        return o->writer < 0 || o->writer == (int) actor;
}

bool may_write_name(enum Actor actor, int name, double start) {
        for (int i = 0; i < table[name].n; i++) {
                int o = table[name].was[i].object;

                if (o >= 0 && !may_write(&objects[o], actor) && is_candidate(actor, name, i, start))
                        return false;
        }
        return true;
}

/* Its last name was taken by somebody else: then an open file may be stale. */
bool stale_is_fine(const Object *o, enum Actor actor) {
        return actor != SERVER && o->orphaned[actor] && errno == ESTALE;
}

void name_lost(int object, enum Actor actor) {
        Object *o = &objects[object];

        if (--o->n_names > 0)
                return;
        for (int c = 0; c < 2; c++)
                o->orphaned[c] = o->orphaned[c] || c != (int) actor;
}
