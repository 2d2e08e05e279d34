/*
 * syscalls - says how the kernel answers calls that 2.6.18 lacks or takes
 * differently. Static, with musl, as the programs are that run on it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static char buffer[4096];

static void say(const char *call, long answer)
{
	printf("%s: %s\n", call, answer < 0 ? strerror(errno) : "done");
}

#define SAY(name, ...) say(#name, syscall(SYS_##name, ##__VA_ARGS__))

int main(void)
{
	int word = 0, pair[2];
	struct utsname kernel;
	struct timespec now;

	uname(&kernel);
	printf("uname: %.4s\n", kernel.release);
	printf("AT_RANDOM: %s\n", getauxval(AT_RANDOM) ? "there" : "none");
	printf("vDSO: %s\n", getauxval(AT_SYSINFO_EHDR) ? "there" : "none");

	say("futex FUTEX_WAKE", syscall(SYS_futex, &word, 1, 1));
	say("futex FUTEX_WAKE, private", syscall(SYS_futex, &word, 129, 1));
	say("futex FUTEX_WAKE_BITSET", syscall(SYS_futex, &word, 10, 1, 0, 0, ~0));
	say("socket", socket(AF_UNIX, SOCK_STREAM, 0));
	say("raw socket call, SOCK_CLOEXEC", syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	say("fcntl F_DUPFD_CLOEXEC", syscall(SYS_fcntl, 1, F_DUPFD_CLOEXEC, 0));
	say("newfstatat AT_EMPTY_PATH", syscall(SYS_newfstatat, 1, "", buffer, AT_EMPTY_PATH));
	say("clock_gettime CLOCK_BOOTTIME", syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now));

	SAY(utimensat, AT_FDCWD, "/none", 0, 0);
	SAY(eventfd, 0);
	SAY(fallocate, -1, 0, 0, 1);
	SAY(signalfd4, -1, buffer, 8, 0);
	SAY(epoll_create1, 0);
	SAY(pipe2, pair, 0);
	SAY(preadv, 0, buffer, 0, 0);
	SAY(prlimit64, 0, 0, 0, 0);
	SAY(syncfs, 1);
	SAY(renameat2, AT_FDCWD, "/none", AT_FDCWD, "/none", 0);
	SAY(getrandom, buffer, 1, 0);
	SAY(memfd_create, "", 0);
	SAY(statx, AT_FDCWD, "/", 0, 0, buffer);

	int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC);
	printf("raw openat, O_CLOEXEC: %s\n", fcntl(fd, F_GETFD) & FD_CLOEXEC ? "set" : "not set");
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	printf("open, O_CLOEXEC: %s\n", fcntl(fd, F_GETFD) & FD_CLOEXEC ? "set" : "not set");
	fd = open("/proc/self/exe", O_PATH);
	say("read, opened with O_PATH", read(fd, buffer, 1));

	fflush(stdout);
	say("clock_gettime", clock_gettime(CLOCK_MONOTONIC, &now));
	return 0;
}
