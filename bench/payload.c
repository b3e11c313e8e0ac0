/* The program that the benchmarks supervise, and the plain fork+exec that they are compared with.
 *
 *   payload                    writes one byte into the FIFO that the file /tmp/.gatevisor-bench names, then waits
 *   payload forkexec N FILE    forks and executes FILE N times as plainly as possible, then ends
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char const place[] = "/tmp/.gatevisor-bench";

static int forkexec(int count, char *file)
{
    char *const argv[] = {file, 0};
    char *const envp[] = {0};
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            setsid();
            execve(file, argv, envp);
            _exit(127);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "forkexec") == 0)
        return forkexec(atoi(argv[2]), argv[3]);
    char path[256];
    int fd = open(place, O_RDONLY);
    ssize_t length = read(fd, path, sizeof path - 1);
    close(fd);
    if (length <= 0)
        return 111;
    path[length] = 0;
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, "x", 1) != 1)
        return 111;
    close(fd);
    for (;;)
        pause();
}
