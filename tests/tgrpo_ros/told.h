/* A number that a process is told from outside, in the file that the variable TOLD names; define TOLD first. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const volatile int64_t *told_at;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv(TOLD);
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *told_at, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) told_at = map;
    if (file >= 0) close(file);
}

static int64_t told(void) { return told_at ? *told_at : 0; }
