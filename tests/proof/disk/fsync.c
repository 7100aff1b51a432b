/* Says on stderr which of the two syncs the log of the database gets (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(int fd, const char *line, unsigned long length) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    if (size > 4 && !memcmp(path + size - 4, "-wal", 4) && write(2, line, length) < 0)
        _exit(3);
}

int fsync(int fd) {
    say(fd, "fsync\n", 6);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    say(fd, "fdatasync\n", 10);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
