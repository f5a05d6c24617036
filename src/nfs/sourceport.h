/*
 * The local port of libnfs's connections.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Until source_port_end(), what this thread binds is bound to: port, if it is not 0 and can be had; else one below 1024
 * (reserved, if that is permitted) or any above.
 */
void source_port_begin(bool reserved, uint16_t port);
void source_port_end(void);
