/* Runs a command and its children instruction by instruction, and writes at which offsets in
 * the command's file they were: into /run/steps, one in a line, in hexadecimal, and who was
 * there: 1 the command, 2 a child, 3 both. x86_64. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST (16 << 20)

static unsigned char seen[MOST];

/* Where its first byte is in memory. */
static uint64_t base_of(pid_t pid, const char *command) {
    char name[64], line[512];
    uint64_t base = 0;

    snprintf(name, sizeof(name), "/proc/%d/maps", pid);
    FILE *maps = fopen(name, "r");
    while (maps && !base && fgets(line, sizeof(line), maps))
        if (strstr(line, command))
            sscanf(line, "%" SCNx64, &base);
    if (maps)
        fclose(maps);
    return base;
}

int main(int argc, char **argv) {
    int status, code = 1;

    if (argc < 2)
        return 2;
    pid_t command = fork();
    if (command == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (command < 0 || waitpid(command, &status, 0) < 0 || !WIFSTOPPED(status))
        return 1;
    ptrace(PTRACE_SETOPTIONS, command, NULL, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK);
    uint64_t base = base_of(command, argv[1]);
    ptrace(PTRACE_SINGLESTEP, command, NULL, NULL);

    pid_t pid;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status)) {
            if (pid == command)
                code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
            continue;
        }
        int signal = WSTOPSIG(status);
        struct user_regs_struct registers;
        if (signal == SIGTRAP && !ptrace(PTRACE_GETREGS, pid, NULL, &registers)
            && registers.rip - base < MOST)
            seen[registers.rip - base] |= pid == command ? 1 : 2;
        /* These two are the tracing's own. */
        if (signal == SIGTRAP || signal == SIGSTOP)
            signal = 0;
        ptrace(PTRACE_SINGLESTEP, pid, NULL, signal);
    }

    FILE *out = fopen("/run/steps", "w");
    if (!out)
        return 1;
    for (unsigned offset = 0; offset < MOST; offset++)
        if (seen[offset])
            fprintf(out, "%x %d\n", offset, seen[offset]);
    return fclose(out) ? 1 : code;
}
