/* The least that any program can do that mounts the scratch disk. */
#include <sys/mount.h>

int main(void) {
    return mount("/dev/vdb", "/staging", "ext2", MS_NOSUID | MS_NODEV, "") ? 1 : 0;
}
