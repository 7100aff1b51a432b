/* Between the server and the disk of its database (LD_PRELOAD): writes down every write, truncation
 * and fsync of one database and its log, and lets them fail when told to.
 *
 * SHIM_DISK_NAME    name of the database, watchpost.db if there is none
 * SHIM_DISK_LOG     file that takes the records below; nothing is recorded without it
 * SHIM_DISK_FAULTS  directory: while it holds "full", every write fails with ENOSPC, as on a full
 *                        file system that copies on write; while it holds "eio", an fsync fails with
 *                        EIO, and so does the next one on every other descriptor of that file, as
 *                        Linux has it
 *
 * A record: op, file (1 database, 2 log), 2 bytes of nothing, length of the data, offset or size or the
 * number of the fsync, data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC_BEGUN = 3, SYNCED = 4, SYNC_FAILED = 5 };
enum { DATABASE = 1, LOG = 2 };
#define DESCRIPTORS 65536

struct record {
    uint8_t op, file;
    uint16_t nothing;
    uint32_t length;
    uint64_t at;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char files[DESCRIPTORS];
static unsigned char errors[DESCRIPTORS];
static uint64_t syncs;
static int log_fd = -2;
static char full_path[4096], eio_path[4096], database[256], database_log[256];

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

static void find(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *log = getenv("SHIM_DISK_LOG"), *faults = getenv("SHIM_DISK_FAULTS");
    const char *name = getenv("SHIM_DISK_NAME");
    snprintf(database, sizeof database, "/%s", name ? name : "watchpost.db");
    snprintf(database_log, sizeof database_log, "/%s-wal", name ? name : "watchpost.db");
    log_fd = log ? real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (faults) {
        snprintf(full_path, sizeof full_path, "%s/full", faults);
        snprintf(eio_path, sizeof eio_path, "%s/eio", faults);
    }
}

static pthread_once_t found = PTHREAD_ONCE_INIT;
#define FIND() pthread_once(&found, find)

static int wanted(const char *fault) { return fault[0] && access(fault, F_OK) == 0; }

static int file_of(int fd) { return fd >= 0 && fd < DESCRIPTORS ? files[fd] : 0; }

static int ends(const char *path, const char *with) {
    size_t a = strlen(path), b = strlen(with);
    return a >= b && strcmp(path + a - b, with) == 0;
}

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        files[fd] = ends(path, database) ? DATABASE : ends(path, database_log) ? LOG : 0;
        errors[fd] = 0;
    }
    return fd;
}

/* Called with the lock. */
static void record(uint8_t op, int file, uint64_t at, const void *data, size_t length) {
    if (log_fd < 0) return;
    struct record head = {op, (uint8_t)file, 0, (uint32_t)length, at};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    size_t whole = sizeof head + length;
    if ((size_t)writev(log_fd, parts, length ? 2 : 1) != whole) abort();
}

static ssize_t write_at(int fd, const void *data, size_t length, off_t at, int moves) {
    int file = file_of(fd);
    pthread_mutex_lock(&lock);
    if (wanted(full_path)) {
        pthread_mutex_unlock(&lock);
        errno = ENOSPC;
        return -1;
    }
    ssize_t written = moves ? real_write(fd, data, length) : real_pwrite(fd, data, length, at);
    int failed = errno;
    if (written > 0) record(WRITE, file, (uint64_t)at, data, (size_t)written);
    pthread_mutex_unlock(&lock);
    errno = failed;
    return written;
}

static int sync_with(int (*real)(int), int fd) {
    int file = file_of(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs;
    record(SYNC_BEGUN, file, number, NULL, 0);
    if (wanted(eio_path)) {
        errors[fd] = 0;
        for (int other = 0; other < DESCRIPTORS; other++)
            if (other != fd && files[other] == file) errors[other] = 1;
        record(SYNC_FAILED, file, number, NULL, 0);
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    pthread_mutex_unlock(&lock);
    int result = real(fd), failed = errno;
    pthread_mutex_lock(&lock);
    if (result == 0 && errors[fd]) {
        /* Linux tells of the error of another descriptor when it has written and waited. What was lost was lost
         * then, and nothing is now: so this is no SYNC_FAILED, but no promise either. */
        result = -1;
        failed = EIO;
    } else {
        record(result == 0 ? SYNCED : SYNC_FAILED, file, number, NULL, 0);
    }
    errors[fd] = 0;
    pthread_mutex_unlock(&lock);
    errno = failed;
    return result;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    FIND();
    return opened(real_open(path, flags, mode), path);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    FIND();
    return opened(real_open(path, flags, mode), path);
}

int close(int fd) {
    FIND();
    if (fd >= 0 && fd < DESCRIPTORS) files[fd] = 0;
    return real_close(fd);
}

ssize_t write(int fd, const void *data, size_t length) {
    FIND();
    if (!file_of(fd)) return real_write(fd, data, length);
    return write_at(fd, data, length, lseek(fd, 0, SEEK_CUR), 1);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) {
    FIND();
    if (!file_of(fd)) return real_pwrite(fd, data, length, at);
    return write_at(fd, data, length, at, 0);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite64(fd, data, length, at); }

int ftruncate64(int fd, off_t size) {
    FIND();
    if (!file_of(fd)) return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, size), failed = errno;
    if (result == 0) record(TRUNCATE, file_of(fd), (uint64_t)size, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = failed;
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fsync(int fd) {
    FIND();
    return sync_with(real_fsync, fd);
}

int fdatasync(int fd) {
    FIND();
    return sync_with(real_fdatasync, fd);
}
