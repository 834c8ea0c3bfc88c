/* Preloaded into a process of a chaos run, this makes its disk slow and its clock wrong, as the file that CHAOS_SHIM
   names says at the moment: two 64-bit numbers, nanoseconds that each fsync waits, and by which the wall clock is off.
   The monotonic clock, and time as the kernel sees it, stay as they are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE 5000000LL

struct control {
    volatile int64_t fsync_ns;
    volatile int64_t clock_ns;
};

static struct control *control;

__attribute__((constructor)) static void open_control(void)
{
    const char *path = getenv("CHAOS_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED)
        control = map;
}

static void wait_for_the_disk(void)
{
    /* In slices, so that a disk that is mended is mended for calls that wait already. */
    for (int64_t waited = 0; control && waited < control->fsync_ns; waited += SLICE) {
        struct timespec slice = {0, SLICE};
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &slice, NULL);
    }
}

int fsync(int file)
{
    wait_for_the_disk();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    wait_for_the_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && control && clock == CLOCK_REALTIME) {
        int64_t ns = now->tv_sec * SECOND + now->tv_nsec + control->clock_ns;
        now->tv_sec = ns / SECOND;
        now->tv_nsec = ns % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *into)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into)
        *into = exact.tv_sec;
    return exact.tv_sec;
}
