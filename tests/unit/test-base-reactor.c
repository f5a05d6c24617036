/* base/reactor.c: order, removal from within callbacks, the mailbox. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/reactor.h"

static Reactor *reactor;
static char trace[64];
static size_t n_trace;

static void note(char c) {
        trace[n_trace++] = c;
        trace[n_trace] = '\0';
}

static void setup(void) {
        n_trace = 0;
        cr_assert_eq(reactor_new(&reactor), 0);
}

static void teardown(void) {
        reactor_free(reactor);
}

TestSuite(reactor, .init = setup, .fini = teardown);

static void timer_a(Timer *timer) {
        (void) timer;
        note('a');
}
static void timer_b(Timer *timer) {
        (void) timer;
        note('b');
}

Test(reactor, timers_fire_in_the_order_of_their_time) {
        Timer a = { .fired = timer_a }, b = { .fired = timer_b };
        uint64_t now = now_ns();

        timer_arm(reactor, &b, now + 2 * NSEC_PER_MSEC);
        timer_arm(reactor, &a, now + NSEC_PER_MSEC);
        while (n_trace < 2)
                cr_assert_eq(reactor_turn(reactor, UINT64_MAX), 0);
        cr_assert_str_eq(trace, "ab");
        cr_assert_eq(a.due, 0);
}

Test(reactor, a_timer_armed_again_moves) {
        Timer a = { .fired = timer_a }, b = { .fired = timer_b };
        uint64_t now = now_ns();

        timer_arm(reactor, &a, now + NSEC_PER_MSEC);
        timer_arm(reactor, &b, now + 3 * NSEC_PER_MSEC);
        timer_arm(reactor, &a, now + 5 * NSEC_PER_MSEC);
        while (n_trace < 2)
                (void) reactor_turn(reactor, UINT64_MAX);
        cr_assert_str_eq(trace, "ba");
}

static Timer other;
static void timer_disarms(Timer *timer) {
        (void) timer;
        note('d');
        timer_disarm(&other);
}

Test(reactor, a_timer_may_disarm_another_that_is_due) {
        Timer first = { .fired = timer_disarms };

        other = (Timer){ .fired = timer_a };
        timer_arm(reactor, &first, 1);
        timer_arm(reactor, &other, 2);
        (void) reactor_turn(reactor, 0);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "d");
}

typedef struct Pair {
        FdSource source;
        struct Pair *other;
} Pair;

static void ready_removes_both(FdSource *source, uint32_t events) {
        Pair *pair = container_of(source, Pair, source);

        (void) events;
        note('r');
        fd_source_remove(&pair->other->source);
        fd_source_remove(&pair->source);
}

Test(reactor, a_source_may_remove_another_that_is_ready) {
        int fd1 = eventfd(1, 0), fd2 = eventfd(1, 0);
        Pair a = { .source.ready = ready_removes_both }, b = { .source.ready = ready_removes_both };

        a.other = &b;
        b.other = &a;
        cr_assert_eq(fd_source_add(reactor, &a.source, fd1, EPOLLIN), 0);
        cr_assert_eq(fd_source_add(reactor, &b.source, fd2, EPOLLIN), 0);
        (void) reactor_turn(reactor, 0);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "r");
        (void) close(fd1);
        (void) close(fd2);
}

static void ready_notes(FdSource *source, uint32_t events) {
        (void) source;
        note(events & EPOLLIN ? 'i' : '?');
}

/* Such a descriptor cannot be modified, only added anew. */
Test(reactor, an_exclusive_source_is_switched_off_and_on) {
        int fd = eventfd(1, 0);
        FdSource source = { .ready = ready_notes };

        cr_assert_eq(fd_source_add(reactor, &source, fd, EPOLLIN | EPOLLEXCLUSIVE), 0);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "i");
        cr_assert_eq(fd_source_modify(&source, 0), 0);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "i");
        cr_assert_eq(fd_source_modify(&source, EPOLLIN | EPOLLEXCLUSIVE), 0);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "ii");
        fd_source_remove(&source);
        (void) close(fd);
}

static void task_t(Task *task) {
        (void) task;
        note('t');
}
static void hook_h(Hook *hook) {
        (void) hook;
        note('h');
}

Test(reactor, hooks_run_after_tasks_once_a_turn) {
        Task task = { .run = task_t };
        Hook hook = { .run = hook_h };

        reactor_add_hook(reactor, &hook);
        reactor_defer(reactor, &task);
        reactor_defer(reactor, &task);            /* queued once */
        (void) reactor_turn(reactor, UINT64_MAX); /* does not wait: there is a task */
        cr_assert_str_eq(trace, "th");
        reactor_remove_hook(reactor, &hook);
        reactor_defer(reactor, &task);
        reactor_undefer(reactor, &task);
        (void) reactor_turn(reactor, 0);
        cr_assert_str_eq(trace, "th");
}

#define N_POSTS 10000
static _Atomic unsigned n_run;
typedef struct Posted {
        Task task;
        bool last;
} Posted;

static void posted_run(Task *task) {
        n_run++;
        if (container_of(task, Posted, task)->last)
                reactor_stop(reactor, 7);
}

static void *poster(void *arg) {
        Posted *posted = arg;

        for (unsigned i = 0; i < N_POSTS; i++)
                reactor_post(reactor, &posted[i].task);
        return NULL;
}

Test(reactor, posts_from_another_thread_all_arrive) {
        Posted *posted = calloc(N_POSTS, sizeof *posted);
        pthread_t thread;

        for (unsigned i = 0; i < N_POSTS; i++)
                posted[i].task.run = posted_run;
        posted[N_POSTS - 1].last = true;
        cr_assert_eq(pthread_create(&thread, NULL, poster, posted), 0);
        cr_assert_eq(reactor_run(reactor), 7);
        pthread_join(thread, NULL);
        cr_assert_eq(n_run, N_POSTS);
        free(posted);
}

static Task answer, work;

static void answer_run(Task *task) {
        (void) task;
        n_run++;
}

static void work_run(Task *task) {
        (void) task;
        reactor_post(reactor, &answer);
}

static void work_due(Timer *timer) {
        (void) timer;
        reactor_defer(reactor, &work);
}

/* What the reactor's own thread posts is no reason to wake up once more. */
Test(reactor, a_post_of_its_own_belongs_to_the_turn) {
        Timer timer = { .fired = work_due };

        answer.run = answer_run;
        work.run = work_run;
        timer_arm(reactor, &timer, 1);
        cr_assert_eq(reactor_turn(reactor, 0), 0);
        cr_assert_eq(n_run, 1);
}

static Task asked = { .run = task_t };
static unsigned n_asks;

static void hook_asks(Hook *hook) {
        (void) hook;
        note('h');
        if (n_asks > 0) {
                n_asks--;
                reactor_post(reactor, &asked);
        }
}

/* What a hook asks for is done before the next wait, and the hooks run again; but who always asks does not keep the loop. */
Test(reactor, what_hooks_ask_for_belongs_to_the_turn) {
        Hook hook = { .run = hook_asks };

        reactor_add_hook(reactor, &hook);
        n_asks = 1;
        cr_assert_eq(reactor_turn(reactor, 0), 0);
        cr_assert_str_eq(trace, "hth");
        n_asks = 1000;
        cr_assert_eq(reactor_turn(reactor, 0), 0);
        cr_assert_lt(strlen(trace), 20);
        cr_assert_eq(reactor_turn(reactor, UINT64_MAX), 0); /* does not wait: there is a task */
        reactor_remove_hook(reactor, &hook);
}
