// What LD_PRELOAD puts between a store and its disk, so that a test can make the disk slow and cut the machine's power.
//
// DISK_STALL  a file: while it exists, no fsync of an append-only file returns
// DISK_SYNCED a file: after each fsync of an append-only file, a line "size path": what a power loss leaves of it
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *path, long long size) {
  char line[4300];
  int length = snprintf(line, sizeof line, "%lld %s\n", size, path);
  int log = open(getenv("DISK_SYNCED"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (log < 0 || write(log, line, (size_t)length) != length) abort(); // a measurement without it would be wrong
  close(log);
}

static int synced(int fd, const char *name) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  if (!strstr(path, ".incr.aof")) return real(fd);
  struct stat before; // what is written meanwhile may be on disk or not
  fstat(fd, &before);
  while (access(getenv("DISK_STALL"), F_OK) == 0) usleep(2000);
  int result = real(fd);
  if (result == 0) note(path, (long long)before.st_size);
  return result;
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
