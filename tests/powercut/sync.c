/* Put before a program's C library (LD_PRELOAD), this lets others write to a file of the layer, and
 * sync it once more, while a sync of it is under way, as on a disk. The kernel holds a FUSE file's
 * lock for the whole of its fsync, but not for an ioctl: by one, the layer is asked for the same.
 * On files that are not the layer's a sync is what it was.
 *
 * With POWERCUT_JOURNAL_EACH=N the disk lies: of the syncs of Odradek's journal only each N-th
 * covers anything, the others take as long and say that all is well. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As in src/layer.rs. */
#define IOCTL_SYNC 0x5001
#define IOCTL_LIE 0x5002

static atomic_ulong journal_syncs;

static int is_lie(int file)
{
    const char *each = getenv("POWERCUT_JOURNAL_EACH");
    char link[32], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (!each || readlink(link, path, sizeof path - 1) < 0 || !strstr(path, "/journal."))
        return 0;
    return (atomic_fetch_add(&journal_syncs, 1) + 1) % strtoul(each, NULL, 10) != 0;
}

static int synced(long call, int file)
{
    int result = ioctl(file, is_lie(file) ? IOCTL_LIE : IOCTL_SYNC);
    if (result == 0 || errno != ENOTTY)
        return result;
    return (int)syscall(call, file);
}

int fdatasync(int file)
{
    return synced(SYS_fdatasync, file);
}

int fsync(int file)
{
    return synced(SYS_fsync, file);
}
