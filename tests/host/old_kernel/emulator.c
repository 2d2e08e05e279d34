/*
 * emulator - run a program as if under Linux 2.6.18 (x86_64)
 *
 *   cc -O2 -o emulator emulator.c
 *   ./emulator [--el5] [--broken-vdso] program [argument...]
 *
 *   --el5          with what Red Hat Enterprise Linux 5 added to its 2.6.18:
 *                  private futexes, eventfd, fallocate
 *   --broken-vdso  with the vDSO of 2.6.18-238.el5, in which every clock
 *                  function reads address 0; without it there is no vDSO
 *
 * Three things make a kernel look old, each with its table below:
 *   1. a seccomp filter fails what 2.6.18 fails (`refused`);
 *   2. a tracer takes away the flags that 2.6.18 does not look at (`ignored`);
 *   3. the tracer removes from the auxiliary vector of every program started
 *      what 2.6.18 does not put there.
 *
 * The program keeps the process id and the parent that the emulator had. It and
 * all it starts must be static: a modern ld.so refuses a kernel this old.
 *
 * Not emulated: the contents of /proc and /sys, sendfile(2) to a file (EINVAL
 * in 2.6.18), f_flags of statfs(2) (always 0), job control (a stopped program
 * goes on).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the tables below are those of x86_64"
#endif

/* True if `first <= (argument & mask) <= last`; all zero: always true.
   Arguments are compared in their lower 32 bits. */
struct test {
	int argument;
	uint32_t mask, first, last;
};
#define RANGE(argument, first, last) { argument, UINT32_MAX, first, last }
#define FROM(argument, first) { argument, UINT32_MAX, first, UINT32_MAX }
#define EQUAL(argument, value) { argument, UINT32_MAX, value, value }
#define ANY_OF(argument, bits) { argument, bits, 1, UINT32_MAX }

enum kernel { EITHER, VANILLA, EL5 };

/* What fails, and how. In brackets: the version that knew it first. */
static const struct rule {
	int syscall;
	int error;
	struct test when[2];
	enum kernel only_in;
} refused[] = {
	/* FUTEX_WAIT_BITSET (9) [2.6.25], FUTEX_PRIVATE_FLAG (128) [2.6.22], FUTEX_CLOCK_REALTIME (256) [2.6.28] */
	{ SYS_futex, ENOSYS, { FROM(1, 9) }, VANILLA },
	{ SYS_futex, ENOSYS, { { 1, ~128u, 9, UINT32_MAX } }, EL5 },

	/* SOCK_CLOEXEC, SOCK_NONBLOCK [2.6.27] */
	{ SYS_socket, EINVAL, { ANY_OF(1, ~15u) }, EITHER },
	{ SYS_socketpair, EINVAL, { ANY_OF(1, ~15u) }, EITHER },
	/* SO_REUSEPORT (15) [3.9]; after SO_PASSSEC (34): SO_MARK [2.6.25], SO_PROTOCOL, SO_DOMAIN [2.6.32] ... */
	{ SYS_setsockopt, ENOPROTOOPT, { EQUAL(1, SOL_SOCKET), EQUAL(2, 15) }, EITHER },
	{ SYS_getsockopt, ENOPROTOOPT, { EQUAL(1, SOL_SOCKET), EQUAL(2, 15) }, EITHER },
	{ SYS_setsockopt, ENOPROTOOPT, { EQUAL(1, SOL_SOCKET), FROM(2, 35) }, EITHER },
	{ SYS_getsockopt, ENOPROTOOPT, { EQUAL(1, SOL_SOCKET), FROM(2, 35) }, EITHER },
	/* after TCP_CONGESTION (13): TCP_USER_TIMEOUT [2.6.37], TCP_FASTOPEN [3.6] ... */
	{ SYS_setsockopt, ENOPROTOOPT, { EQUAL(1, IPPROTO_TCP), FROM(2, 14) }, EITHER },
	{ SYS_getsockopt, ENOPROTOOPT, { EQUAL(1, IPPROTO_TCP), FROM(2, 14) }, EITHER },

	/* F_SETOWN_EX (15) [2.6.32], F_OFD_SETLK (37) [3.15]; after F_NOTIFY (1026): F_DUPFD_CLOEXEC [2.6.24] ... */
	{ SYS_fcntl, EINVAL, { RANGE(1, 15, 1023) }, EITHER },
	{ SYS_fcntl, EINVAL, { FROM(1, 1027) }, EITHER },
	/* MADV_FREE (8) [4.5]; after MADV_DOFORK (11): MADV_MERGEABLE [2.6.32] ... */
	{ SYS_madvise, EINVAL, { RANGE(2, 5, 8) }, EITHER },
	{ SYS_madvise, EINVAL, { FROM(2, 12) }, EITHER },
	/* after PR_SET_ENDIAN (20): PR_SET_SECCOMP [2.6.23], PR_SET_NO_NEW_PRIVS [3.5] ... */
	{ SYS_prctl, EINVAL, { FROM(0, 21) }, EITHER },
	/* after CLOCK_THREAD_CPUTIME_ID (3): CLOCK_MONOTONIC_RAW [2.6.28], CLOCK_BOOTTIME [2.6.39] ... */
	{ SYS_clock_settime, EINVAL, { RANGE(0, 4, INT32_MAX) }, EITHER },
	{ SYS_clock_gettime, EINVAL, { RANGE(0, 4, INT32_MAX) }, EITHER },
	{ SYS_clock_getres, EINVAL, { RANGE(0, 4, INT32_MAX) }, EITHER },
	{ SYS_clock_nanosleep, EINVAL, { RANGE(0, 4, INT32_MAX) }, EITHER },

	/* AT_NO_AUTOMOUNT [2.6.38], AT_EMPTY_PATH [2.6.39] */
	{ SYS_newfstatat, EINVAL, { ANY_OF(3, ~AT_SYMLINK_NOFOLLOW) }, EITHER },
	{ SYS_fchownat, EINVAL, { ANY_OF(4, ~AT_SYMLINK_NOFOLLOW) }, EITHER },
	{ SYS_linkat, EINVAL, { ANY_OF(4, ~AT_SYMLINK_FOLLOW) }, EITHER },
	/* no path: the times of the descriptor itself [2.6.22] */
	{ SYS_futimesat, EFAULT, { EQUAL(1, 0) }, EITHER },
	/* P_PIDFD (3) [5.4] */
	{ SYS_waitid, EINVAL, { FROM(0, 3) }, EITHER },
	/* after BLKTRACETEARDOWN (_IO(0x12, 118)): BLKDISCARD [2.6.28], BLKIOMIN [2.6.32], BLKGETZONESZ [4.20] ... */
	{ SYS_ioctl, ENOTTY, { { 1, 0xffff, 0x1277, 0x12ff } }, EITHER },

	/* after move_pages, the last one: utimensat [2.6.22], accept4, dup3, pipe2 [2.6.27], preadv [2.6.30],
	   prlimit64 [2.6.36], syncfs [2.6.39], renameat2 [3.15], getrandom, memfd_create [3.17], statx [4.11] ... */
#define LAST_SYSCALL SYS_move_pages
};

/* Of the newer calls, those that EL5 has. */
static const int el5_syscalls[] = { SYS_eventfd, SYS_fallocate };

/* Flags that 2.6.18 takes without a word and without an effect. */
static const struct silence {
	int syscall;
	int argument;
	uint32_t flags;
} ignored[] = {
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
	/* O_CLOEXEC [2.6.23], O_PATH [2.6.39], O_TMPFILE [3.11] */
	{ SYS_open, 1, O_CLOEXEC | O_PATH | TMPFILE_BIT },
	{ SYS_openat, 2, O_CLOEXEC | O_PATH | TMPFILE_BIT },
	/* [2.6.23] */
	{ SYS_recvmsg, 2, MSG_CMSG_CLOEXEC },
	/* MS_RELATIME [2.6.20], MS_STRICTATIME [2.6.30], MS_LAZYTIME [4.0] */
	{ SYS_mount, 3, MS_RELATIME | MS_STRICTATIME | 1u << 25 },
	/* [2.6.34] */
	{ SYS_umount2, 1, UMOUNT_NOFOLLOW },
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void die(const char *what)
{
	fprintf(stderr, "emulator: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- 1. the filter ---- */

static struct sock_filter program[1024];
static unsigned program_length;

#define TO_NEXT_BLOCK 255 /* a jump offset, filled in by end_block */

static void emit(uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
	if (program_length == LENGTH(program))
		abort();
	program[program_length++] = (struct sock_filter){ code, if_true, if_false, k };
}

static void load(size_t offset)
{
	emit(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void answer(uint32_t action)
{
	emit(BPF_RET | BPF_K, action, 0, 0);
}

/* What follows, up to end_block, is for this system call alone. */
static unsigned begin_block(int syscall)
{
	unsigned start = program_length;

	load(offsetof(struct seccomp_data, nr));
	emit(BPF_JMP | BPF_JEQ | BPF_K, syscall, 0, TO_NEXT_BLOCK);
	return start;
}

static void require(struct test test)
{
	load(offsetof(struct seccomp_data, args) + 8 * test.argument);
	emit(BPF_ALU | BPF_AND | BPF_K, test.mask, 0, 0);
	emit(BPF_JMP | BPF_JGE | BPF_K, test.first, 0, TO_NEXT_BLOCK);
	emit(BPF_JMP | BPF_JGT | BPF_K, test.last, TO_NEXT_BLOCK, 0);
}

static void end_block(unsigned start)
{
	for (unsigned i = start; i < program_length; i++) {
		if (program[i].jt == TO_NEXT_BLOCK)
			program[i].jt = program_length - i - 1;
		if (program[i].jf == TO_NEXT_BLOCK)
			program[i].jf = program_length - i - 1;
	}
}

static void build_filter(enum kernel kernel)
{
	load(offsetof(struct seccomp_data, arch));
	emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(SECCOMP_RET_ERRNO | ENOSYS);

	for (unsigned i = 0; kernel == EL5 && i < LENGTH(el5_syscalls); i++) {
		unsigned start = begin_block(el5_syscalls[i]);
		answer(SECCOMP_RET_ALLOW);
		end_block(start);
	}
	load(offsetof(struct seccomp_data, nr));
	emit(BPF_JMP | BPF_JGT | BPF_K, LAST_SYSCALL, 0, 1);
	answer(SECCOMP_RET_ERRNO | ENOSYS);

	for (unsigned i = 0; i < LENGTH(refused); i++) {
		if (refused[i].only_in != EITHER && refused[i].only_in != kernel)
			continue;
		unsigned start = begin_block(refused[i].syscall);
		require(refused[i].when[0]);
		require(refused[i].when[1]);
		answer(SECCOMP_RET_ERRNO | refused[i].error);
		end_block(start);
	}
	for (unsigned i = 0; i < LENGTH(ignored); i++) {
		unsigned start = begin_block(ignored[i].syscall);
		require((struct test)ANY_OF(ignored[i].argument, ignored[i].flags));
		answer(SECCOMP_RET_TRACE | i);
		end_block(start);
	}
	answer(SECCOMP_RET_ALLOW);
}

static void install_filter(void)
{
	struct sock_fprog filter = { .len = program_length, .filter = program };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		die("cannot install the seccomp filter");
}

/* ---- 2. the flags that are not looked at ---- */

static void take_flags_away(pid_t pid)
{
	unsigned long row;
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &row) || ptrace(PTRACE_GETREGS, pid, 0, &regs))
		return; /* it was killed meanwhile */
	unsigned long long *arguments[] = { &regs.rdi, &regs.rsi, &regs.rdx, &regs.r10, &regs.r8, &regs.r9 };
	*arguments[ignored[row].argument] &= ~(unsigned long long)ignored[row].flags;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
}

/* ---- 3. the auxiliary vector ---- */

static unsigned long peek(pid_t pid, unsigned long address)
{
	errno = 0;
	unsigned long word = ptrace(PTRACE_PEEKDATA, pid, address, 0);
	if (errno)
		die("cannot read the program's memory");
	return word;
}

static void poke(pid_t pid, unsigned long address, unsigned long word)
{
	if (ptrace(PTRACE_POKEDATA, pid, address, word))
		die("cannot write the program's memory");
}

/* Every process has the same vDSO: the place of a function in ours is its place there. */
static void break_vdso(pid_t pid, unsigned long vdso)
{
	static const char *const functions[] = {
		"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_clock_getres",
	};
	const unsigned long read_null = 0x108bc031; /* xor %eax,%eax; mov (%rax),%edx */
	void *own = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);

	for (unsigned i = 0; i < LENGTH(functions); i++) {
		unsigned long function = own ? (unsigned long)dlsym(own, functions[i]) : 0;
		if (!function) {
			fprintf(stderr, "emulator: no %s in the vDSO to break\n", functions[i]);
			exit(2);
		}
		function = function - getauxval(AT_SYSINFO_EHDR) + vdso;
		poke(pid, function, (peek(pid, function) & ~0xffffffffUL) | read_null);
	}
}

/* At its first instruction a program's stack is: argc, argv, NULL, environment, NULL, auxiliary vector. */
static void age_auxiliary_vector(pid_t pid, int broken_vdso)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		return;
	unsigned long at = regs.rsp + 8;
	for (int nulls = 0; nulls < 2; at += 8)
		nulls += peek(pid, at) == 0;
	for (unsigned long tag; (tag = peek(pid, at)) != AT_NULL; at += 16) {
		/* Newer than AT_SECURE (23): AT_SYSINFO_EHDR [2.6.23 on x86_64], AT_EXECFN [2.6.27], AT_RANDOM [2.6.29] ... */
		if (tag == AT_SYSINFO_EHDR && broken_vdso)
			break_vdso(pid, peek(pid, at + 8));
		else if (tag > AT_SECURE)
			poke(pid, at, AT_IGNORE);
	}
}

/* ---- the tracer ---- */

static void trace(int broken_vdso)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		int signal = 0;

		if (!WIFSTOPPED(status))
			continue;
		switch (status >> 16) {
		case PTRACE_EVENT_EXEC:
			age_auxiliary_vector(pid, broken_vdso);
			break;
		case PTRACE_EVENT_SECCOMP:
			take_flags_away(pid);
			break;
		case 0:
			signal = WSTOPSIG(status);
			break;
		}
		ptrace(PTRACE_CONT, pid, 0, signal);
	}
}

/* The tracer is a grandchild, given away to init: the program must not find a child that it did not start. */
static void start_tracer(int broken_vdso)
{
	const long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
			     PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	pid_t tracee = getpid();
	int attached[2];
	char byte;

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* where Yama asks for it */
	if (pipe(attached))
		die("pipe");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		if (fork())
			_exit(0);
		close(attached[0]);
		setsid();
		if (ptrace(PTRACE_SEIZE, tracee, 0, options))
			die("cannot trace");
		if (write(attached[1], "", 1) != 1)
			die("pipe");
		close(attached[1]);
		close(STDIN_FILENO);
		close(STDOUT_FILENO); /* whoever reads the program's output waits for its end */
		trace(broken_vdso);
		_exit(0);
	}
	close(attached[1]);
	waitpid(child, NULL, 0);
	if (read(attached[0], &byte, 1) != 1)
		exit(2); /* the tracer has said why */
	close(attached[0]);
}

int main(int argc, char **argv)
{
	enum kernel kernel = VANILLA;
	int broken_vdso = 0;

	for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
		if (!strcmp(argv[1], "--el5"))
			kernel = EL5;
		else if (!strcmp(argv[1], "--broken-vdso"))
			broken_vdso = 1;
		else
			argc = 1;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: emulator [--el5] [--broken-vdso] program [argument...]\n");
		return 2;
	}
	start_tracer(broken_vdso);
	if (personality(personality(0xffffffff) | UNAME26) < 0) /* uname -r: 2.6.x */
		die("personality");
	build_filter(kernel);
	install_filter();
	execvp(argv[1], argv + 1);
	fprintf(stderr, "emulator: %s: %s\n", argv[1], strerror(errno));
	return 127;
}
