/* A service that writes lines of 100 bytes, for bench/logs.py.
 *
 * BENCH_GO     a FIFO; writing begins when somebody opens it for writing
 * BENCH_LINES  the number of lines; then it writes "END" and one byte into BENCH_DONE, and waits for a signal; 0: endless
 * BENCH_US     microseconds from one line to the next; 0: as fast as the pipe takes them
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, MANY = 655 };

static void all(int fd, const char *from, size_t length) {
    while (length > 0) {
        ssize_t n = write(fd, from, length);
        if (n < 0) _exit(1);
        from += n, length -= (size_t)n;
    }
}

int main(void) {
    static char lines[LINE * MANY];
    for (int at = 0; at < LINE * MANY; at++) lines[at] = at % LINE == LINE - 1 ? '\n' : (char)('a' + at % LINE % 26);
    long left = atol(getenv("BENCH_LINES")), us = atol(getenv("BENCH_US"));
    int endless = left == 0;
    if (open(getenv("BENCH_GO"), O_RDONLY) < 0) return 1;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (endless || left > 0) {
        long now = us > 0 ? 1 : left < MANY ? left : MANY;
        if (us > 0) {
            next.tv_nsec += us * 1000;
            while (next.tv_nsec >= 1000000000) next.tv_nsec -= 1000000000, next.tv_sec++;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        }
        all(1, lines, (size_t)now * LINE);
        left -= now;
    }
    all(1, "END\n", 4);
    int done = open(getenv("BENCH_DONE"), O_WRONLY);
    all(done, "d", 1);
    for (;;) pause();
}
