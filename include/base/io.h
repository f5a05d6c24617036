/*
 * Whole reads and writes, and descriptors over unix sockets.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Reads until EOF or size bytes; EINTR is retried. Number of bytes or negative errno. */
ssize_t io_read_full(int fd, void *buf, size_t size);

/* Writes everything; 0 or negative errno. */
int io_write_full(int fd, const void *buf, size_t size);

/* Reads a small file (procfs) whole, NUL-terminated, at most size - 1 bytes. Length or negative errno. */
ssize_t io_read_file(const char *path, char *buf, size_t size);

/* Writes a string to an existing file in one write (procfs, sysfs). 0 or negative errno. */
int io_write_file(const char *path, const char *text);
