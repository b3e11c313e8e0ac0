/* Counts the instructions that a process executes in user space, by executing them one by one
 * (ptrace).
 *
 *   steps PID        prints a line once it has the process; at SIGTERM, lets it go on and prints
 *                    the count
 *
 * Children of the process are not counted. What the kernel does for it counts as one instruction
 * a call.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static volatile sig_atomic_t is_over;

static void end(int signal)
{
    (void)signal;
    is_over = 1;
}

int main(int argc, char **argv)
{
    pid_t pid = argc == 2 ? atoi(argv[1]) : 0;
    /* Without SA_RESTART, so that a wait for a process that sleeps ends, too. */
    struct sigaction action = {.sa_handler = end};
    uint64_t count = 0;
    int status;
    if (pid <= 0 || sigaction(SIGTERM, &action, 0) < 0)
        return 100;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0) {
        perror("cannot trace");
        return 111;
    }
    puts("tracing");
    fflush(stdout);
    for (int is_asked = 0;;) {
        if (is_over && !is_asked) {
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            is_asked = 1;
        }
        if (waitpid(pid, &status, 0) < 0) {
            if (errno == EINTR)
                continue;
            perror("cannot wait");
            return 111;
        }
        if (!WIFSTOPPED(status)) {
            fprintf(stderr, "the process has ended\n");
            return 1;
        }
        int is_step = WSTOPSIG(status) == SIGTRAP && status >> 16 == 0;
        int is_event = status >> 16 != 0;
        count += is_step;
        /* Only here is no trap pending that would kill the process once nobody traces it. */
        if (is_over && is_step) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            printf("%llu\n", (unsigned long long)count);
            return 0;
        }
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, is_step || is_event ? 0 : WSTOPSIG(status)) < 0) {
            perror("cannot step");
            return 111;
        }
    }
}
