/* A disk on which the Nth operation of a process fails, or is its last: loaded by LD_PRELOAD, armed by `fail_at`.
 *
 * Not strace's inject: that counts in each thread apart, so that most places would never be the Nth of any; and it
 * cannot tell a write to a file from the write by which one thread wakes another. Files are regular ones, but for the
 * three standard streams. What reads, or only looks, is left alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation { NONE, WRITE, SYNC, NAME, CREATE, REMOVE };

static const char *const operations[] = {"", "write", "sync", "name", "create", "remove"};

static enum operation chosen = NONE;
static int failure, lasting, told = -1;
static atomic_int left;

/* Let the Nth (1-based) `operation` of this process fail with `error`, and with `ever` all later ones; error 0 is
 * SIGKILL. Where it strikes is written to the descriptor `log`. Returns 0 for an operation that does not exist. */
int fail_at(const char *operation, int nth, int error, int ever, int log) {
    for (enum operation one = WRITE; one <= REMOVE; one++)
        if (strcmp(operation, operations[one]) == 0) chosen = one;
    failure = error, lasting = ever, told = log;
    atomic_store(&left, nth);
    return chosen != NONE;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

enum strike { SPARED, FIRST, LATER };

static enum strike strikes(enum operation operation, const char *what) {
    if (operation != chosen) return SPARED;
    int before = atomic_fetch_sub(&left, 1);
    if (before == 1) dprintf(told, "%s %s\n", operations[operation], what);
    if (before > 1 || (before < 1 && !lasting)) return SPARED;
    errno = failure;
    return before == 1 ? FIRST : LATER;
}

static enum strike strikes_file(enum operation operation, int fd) {
    struct stat file;
    char link[32], path[4096] = "";
    if (operation != chosen || fd <= STDERR_FILENO || fd == told) return SPARED;
    if (fstat(fd, &file) != 0 || !(S_ISREG(file.st_mode) || S_ISDIR(file.st_mode))) return SPARED;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0) path[0] = 0;
    return strikes(operation, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define UNLESS(struck)             \
    if (struck) {                  \
        if (failure == 0) die();   \
        return -1;                 \
    }

/* A process that is killed in a write leaves half of it behind; so does a disk that is full from now on. */
ssize_t write(int fd, const void *data, size_t size) {
    switch (strikes_file(WRITE, fd)) {
    case SPARED:
        return REAL(write)(fd, data, size);
    case FIRST:
        if (failure == 0) {
            REAL(write)(fd, data, size / 2);
            die();
        }
        return lasting && size > 1 ? REAL(write)(fd, data, size / 2) : -1;
    default:
        return -1;
    }
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    UNLESS(strikes_file(WRITE, fd))
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    UNLESS(strikes_file(WRITE, fd))
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *data, int count) {
    UNLESS(strikes_file(WRITE, fd))
    return REAL(writev)(fd, data, count);
}

int fsync(int fd) {
    UNLESS(strikes_file(SYNC, fd))
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    UNLESS(strikes_file(SYNC, fd))
    return REAL(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    UNLESS(strikes(NAME, to))
    return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    UNLESS(strikes(NAME, to))
    return REAL(renameat)(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    UNLESS(strikes(NAME, to))
    return REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

int link(const char *from, const char *to) {
    UNLESS(strikes(NAME, to))
    return REAL(link)(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    UNLESS(strikes(NAME, to))
    return REAL(linkat)(from_folder, from, to_folder, to, flags);
}

int unlink(const char *path) {
    UNLESS(strikes(REMOVE, path))
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    UNLESS(strikes(REMOVE, path))
    return REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    UNLESS(strikes(CREATE, path))
    return REAL(mkdir)(path, mode);
}

/* The mode is there for files that are made, and only those are counted. */
#define OPEN(name, parameters, folder_and_path)                              \
    int name parameters {                                                    \
        int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;   \
        va_list rest;                                                        \
        va_start(rest, flags);                                               \
        mode_t mode = makes ? va_arg(rest, mode_t) : 0;                      \
        va_end(rest);                                                        \
        UNLESS(makes && strikes(CREATE, path))                               \
        return REAL(name) folder_and_path;                                   \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
