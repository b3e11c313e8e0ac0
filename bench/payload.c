/* The program that the benchmarks supervise, and the plain fork+exec that they are compared with.
 *
 *   payload                          puts a stamp into the FIFO that the file /tmp/.gatevisor-bench names, prints a line, and waits
 *   payload forkexec N FILE          forks and executes FILE N times as plainly as possible, then ends
 *   payload forkexec N FILE PROGRAM DIR
 *                                    the same, each with PROGRAM (an s6-log or cat) on a pipe as its logger, for DIR/<number>
 *
 * A stamp is 8 bytes: CLOCK_MONOTONIC in nanoseconds, read as the first thing. If descriptor 3 is
 * open for writing, a newline there says that the program is ready (the protocol of s6).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char const place[] = "/tmp/.gatevisor-bench";

static void start(char *const argv[], int input, int output)
{
    char *const envp[] = {0};
    pid_t pid = fork();
    if (pid != 0)
        return;
    setsid();
    if (input >= 0)
        dup2(input, 0);
    if (output >= 0)
        dup2(output, 1);
    execve(argv[0], argv, envp);
    _exit(127);
}

static int forkexec(int count, char *file, char *logger, char const *logs)
{
    for (int i = 0; i < count; i++) {
        char *const payload[] = {file, 0};
        if (!logger) {
            start(payload, -1, -1);
            continue;
        }
        int ends[2];
        char directory[256];
        snprintf(directory, sizeof directory, "%s/%d", logs, i);
        char *const argv[] = {logger, "n10", "s1000000", "T", directory, 0};
        if (pipe2(ends, O_CLOEXEC) < 0)
            return 111;
        start(argv, ends[0], -1);
        start(payload, -1, ends[1]);
        close(ends[0]);
        close(ends[1]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc >= 4 && strcmp(argv[1], "forkexec") == 0)
        return forkexec(atoi(argv[2]), argv[3], argc == 6 ? argv[4] : 0, argc == 6 ? argv[5] : 0);
    char path[256];
    int fd = open(place, O_RDONLY);
    ssize_t length = read(fd, path, sizeof path - 1);
    close(fd);
    if (length <= 0)
        return 111;
    path[length] = 0;
    uint64_t stamp = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, &stamp, sizeof stamp) != sizeof stamp)
        return 111;
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    if (write(1, "it runs\n", 8) < 0)
        fd = -1;
    if ((fcntl(3, F_GETFL) & O_ACCMODE) == O_WRONLY && write(3, "\n", 1) == 1)
        close(3);
    for (;;)
        pause();
}
