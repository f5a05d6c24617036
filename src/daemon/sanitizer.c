/*
 * Only in builds with a sanitizer. A daemon has neither a stderr nor the caller's environment: what a sanitizer
 * finds goes to /tmp/nfsvol-sanitizer.<pid>, where the tests look.
 */
#define OPTIONS "log_path=/tmp/nfsvol-sanitizer:print_stacktrace=1"

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void) {
        return OPTIONS;
}

const char *__ubsan_default_options(void) {
        return OPTIONS;
}

const char *__tsan_default_options(void) {
        return OPTIONS;
}
