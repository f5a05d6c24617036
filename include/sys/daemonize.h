/*
 * What nfsvold is started with, and how it tells the one who started it.
 *
 *   nfsvold --id ID --source HOST:/PATH --options TEXT [--target DIR] --status-fd N [--lock-fd N]
 *           [--foreground] [--debug]
 *
 * DIR is where the first mount will be: systemd is told to stop that mount before the daemon. TEXT is the canonical session
 * text (conf/options.h). The starter holds the volume's lock, and the daemon with it (its descriptor, and so the same open file
 * description) until it has answered: if the starter is killed, nobody starts another daemon before this one has gone or
 * is ready. On the status descriptor (a stream socket) the daemon writes, once, one of these lines and closes it. What the
 * starter has shut down cannot be written to any more: the daemon then takes everything back and ends, as it does when
 * SIGTERM or SIGINT comes before "ok".
 *
 *   "ok\n"                    mounted at <rundir>/<id>/mnt, control socket listening
 *   "subdir <export>\n"       the server exports <export>, a parent of the path: use that volume and bind
 *                             the rest of the path; this daemon has gone
 *   "again <text>\n"          failed for now (refused, timed out, no route, resolver): retry= and bg try again;
 *                             exit code 32 otherwise
 *   "error <exit> <text>\n"   text for the user; exit: the helper's exit code (mount(8))
 *   EOF without a line        the daemon died
 */
#pragma once

#define DAEMON_STATUS_MAX 4352
