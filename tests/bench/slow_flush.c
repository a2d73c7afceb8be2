/* Put before a server's C library (LD_PRELOAD), this makes its disk's flush a slow one: whoever
 * syncs a file waits, behind the sync itself, for one flush of SLOW_FLUSH_MS milliseconds that begins
 * after it. One flush goes on at a time, and all who wait when it begins share it, as the kernel
 * has it. A FUSE file system cannot do that by itself: the kernel lets nobody write to a file, or
 * sync it once more, while its sync is under way (tests/powercut/sync.c). */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t flushed = PTHREAD_COND_INITIALIZER;
static unsigned long begun, ended;

static void flush(void)
{
    const char *given = getenv("SLOW_FLUSH_MS");
    long ms = given ? atol(given) : 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    pthread_mutex_lock(&lock);
    unsigned long first_that_counts = begun + 1;
    while (ended < first_that_counts) {
        if (begun > ended) {
            pthread_cond_wait(&flushed, &lock);
            continue;
        }
        begun++;
        pthread_mutex_unlock(&lock);
        nanosleep(&time, NULL);
        pthread_mutex_lock(&lock);
        ended = begun;
        pthread_cond_broadcast(&flushed);
    }
    pthread_mutex_unlock(&lock);
}

static int synced(long result)
{
    if (result == 0)
        flush();
    return (int)result;
}

int fdatasync(int file)
{
    return synced(syscall(SYS_fdatasync, file));
}

int fsync(int file)
{
    return synced(syscall(SYS_fsync, file));
}
