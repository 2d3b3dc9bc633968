/* Preloaded into a program: a record of what it does to the files under $POWERLOG_ROOT, for a power cut.

   One line for each operation goes to $POWERLOG_FILE: what, inode, path, second path. At an fsync of a file
   its contents are copied to $POWERLOG_FILE.<number of the line>, for that is what the disk then holds.
   Where $POWERLOG_END is "<number> <signal>" the program gets that signal right after so many operations. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record = -1;
static long line = 0;

static void absolute(int dirfd, const char *path, char *out)
{
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        if (dirfd == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) base[0] = 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t n = readlink(link, base, sizeof base - 1);
            base[n < 0 ? 0 : n] = 0;
        }
        snprintf(out, PATH_MAX, "%s/%s", base, path);
    } else
        snprintf(out, PATH_MAX, "%s", path);
}

static int watched(const char *path)
{
    const char *root = getenv("POWERLOG_ROOT");
    size_t n = root ? strlen(root) : 0;
    return n && !strncmp(path, root, n) && (path[n] == '/' || !path[n]);
}

static void copy(int fd)
{
    char name[PATH_MAX + 32], from[64], buffer[65536];
    snprintf(name, sizeof name, "%s.%ld", getenv("POWERLOG_FILE"), line);
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int in = syscall(SYS_openat, AT_FDCWD, from, O_RDONLY, 0);
    int out = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    long n;
    while (in >= 0 && out >= 0 && (n = syscall(SYS_read, in, buffer, sizeof buffer)) > 0)
        syscall(SYS_write, out, buffer, n);
    if (in >= 0) syscall(SYS_close, in);
    if (out >= 0) syscall(SYS_close, out);
}

static void tell(const char *what, ino_t inode, const char *one, const char *two, int synced)
{
    char text[3 * PATH_MAX];
    const char *end = getenv("POWERLOG_END");
    long last = -1;
    int signum = 0;
    pthread_mutex_lock(&lock);
    if (record < 0 && getenv("POWERLOG_FILE"))
        record = syscall(SYS_openat, AT_FDCWD, getenv("POWERLOG_FILE"),
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record >= 0) {
        if (synced >= 0) copy(synced);
        int n = snprintf(text, sizeof text, "%s\t%lu\t%s\t%s\n", what, (unsigned long)inode, one, two);
        syscall(SYS_write, record, text, n);
    }
    line++;
    int now = end && sscanf(end, "%ld %d", &last, &signum) == 2 && line == last;
    pthread_mutex_unlock(&lock);
    if (now) kill(getpid(), signum);
}

static int opened(int dirfd, const char *path, int flags, mode_t mode)
{
    char at[PATH_MAX];
    struct stat before, after;
    absolute(dirfd, path, at);
    if (!(flags & (O_CREAT | O_TRUNC)) || !watched(at))
        return syscall(SYS_openat, dirfd, path, flags, mode);
    int there = !lstat(at, &before);
    int fd = syscall(SYS_openat, dirfd, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &after)) tell(there ? "change" : "create", after.st_ino, at, "", -1);
    return fd;
}

static int give(long result) { return (int)result; }

#define MODE(flags, name)                                        \
    mode_t mode = 0;                                             \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                     \
        va_list more;                                            \
        va_start(more, name);                                    \
        mode = va_arg(more, mode_t);                             \
        va_end(more);                                            \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...)
{
    MODE(flags, flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...)
{
    MODE(flags, flags) return opened(at, path, flags | O_LARGEFILE, mode);
}

static int renamed(int a, const char *from, int b, const char *to, unsigned flags)
{
    char one[PATH_MAX], two[PATH_MAX];
    struct stat found = {0};
    absolute(a, from, one);
    absolute(b, to, two);
    int seen = watched(one) || watched(two);
    if (seen) lstat(one, &found);
    int result = give(syscall(SYS_renameat2, a, from, b, to, flags));
    if (!result && seen) tell("rename", found.st_ino, one, two, -1);
    return result;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { return renamed(a, from, b, to, f); }

int linkat(int a, const char *from, int b, const char *to, int flags)
{
    char one[PATH_MAX], two[PATH_MAX];
    struct stat found = {0};
    absolute(a, from, one);
    absolute(b, to, two);
    int result = give(syscall(SYS_linkat, a, from, b, to, flags));
    if (!result && watched(two) && !lstat(two, &found)) tell("link", found.st_ino, two, "", -1);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *path, int flags)
{
    char one[PATH_MAX];
    absolute(at, path, one);
    int result = give(syscall(SYS_unlinkat, at, path, flags));
    if (!result && watched(one)) tell("remove", 0, one, "", -1);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode)
{
    char one[PATH_MAX];
    struct stat found = {0};
    absolute(at, path, one);
    int result = give(syscall(SYS_mkdirat, at, path, mode));
    if (!result && watched(one) && !lstat(one, &found)) tell("folder", found.st_ino, one, "", -1);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static int synced(int fd, long call)
{
    char link[64], at[PATH_MAX];
    struct stat found;
    int result = give(syscall(call, fd));
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, at, sizeof at - 1);
    at[n < 0 ? 0 : n] = 0;
    if (!result && watched(at) && !fstat(fd, &found)) {
        if (S_ISDIR(found.st_mode)) tell("sync-folder", found.st_ino, at, "", -1);
        else tell("sync", found.st_ino, at, "", fd);
    }
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static void written(int fd, long result)
{
    char link[64], at[PATH_MAX];
    struct stat found;
    if (result < 0 || !getenv("POWERLOG_ROOT")) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, at, sizeof at - 1);
    at[n < 0 ? 0 : n] = 0;
    if (watched(at) && !fstat(fd, &found)) tell("write", found.st_ino, at, "", -1);
}
ssize_t write(int fd, const void *from, size_t count)
{
    long result = syscall(SYS_write, fd, from, count);
    written(fd, result);
    return result;
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at)
{
    long result = syscall(SYS_pwrite64, fd, from, count, at);
    written(fd, result);
    return result;
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) { return pwrite64(fd, from, count, at); }
